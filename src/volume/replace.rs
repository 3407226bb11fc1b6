//! What a volume holds, made anew: whole, or not at all. Blocks.

use std::fs::File;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::copy::settle;
use super::error::{VolumeError, disk};
use super::shelf::{Free, Inner, remove_tree};
use crate::model::{Volume, VolumeName};

impl Inner {
    /// Puts what `fill` makes, a folder with the path that it is given, in the place of what the volume holds. One that is missing is
    /// made with it. From then on it is never filled from an image, not even where it is empty. A crash leaves the one or the other.
    pub(super) fn replace(
        &self,
        name: &VolumeName,
        (kind, refusal): (&str, &'static str),
        free: Free<'_>,
        fill: &mut dyn FnMut(&Path) -> Result<(), VolumeError>,
    ) -> Result<(), VolumeError> {
        let gate = self.gate(name);
        let busy = || VolumeError::Busy { name: name.clone() };
        let _turn = gate.turn.try_lock().map_err(|_| busy())?;
        let _alone = gate.content.try_write().map_err(|_| busy())?;
        if matches!(self.made(name), Err(VolumeError::Absent { .. })) {
            return self.make_filled(&plain_volume(name), fill);
        }
        self.plain(name, refusal)?;
        gate.free(name, free)?;
        let folder = self.folder(name);
        let staging = folder.join(format!("{kind}-{}", self.next()));
        let failed = disk("putting new content into a volume", &folder);
        let done = fill(&staging).and_then(|()| {
            settle(&staging).map_err(&failed)?;
            // The filling took its time.
            gate.free(name, free)?;
            self.note_used(name)?;
            renameat_with(CWD, &staging, CWD, self.data(name), RenameFlags::EXCHANGE)
                .map_err(Into::into)
                .and_then(|()| File::open(&folder)?.sync_all())
                .map_err(&failed)
        });
        // Either what was there before, or what never came to be.
        let _ = remove_tree(&staging);
        done
    }
}

/// One without options.
fn plain_volume(name: &VolumeName) -> Volume {
    let (options, labels) = Default::default();
    Volume { name: name.clone(), options, labels, external: false }
}
