//! Volumes that go: by name, or because nothing needs them.

use super::needs::Needs;
use super::refuse::{self, refused};
use super::{Stored, VolumeWork};
use crate::api::wire::{PrunedVolume, PrunedVolumes, RemovedVolume, VolumePruneAsk};
use crate::api::{Refusal, RefusalKind};
use crate::model::VolumeName;

impl VolumeWork {
    /// With all that it holds, but not its copies.
    pub(super) async fn removal(&self, name: VolumeName) -> Result<RemovedVolume, Refusal> {
        if !self.view.borrow().ready {
            return Err(doubtful("the state files are not read yet"));
        }
        self.take_away(&name).await?;
        let snapshots = self.volumes.snapshots().iter().filter(|copy| copy.volume == name).count() as u64;
        Ok(RemovedVolume { name: name.to_string(), snapshots })
    }

    /// Those that are named, all or none; or anonymous ones. Nothing goes while it is not known for certain what the files name.
    pub(super) async fn pruning(&self, ask: VolumePruneAsk) -> Result<PrunedVolumes, Refusal> {
        let needs = self.needs().await?;
        if let Some(doubt) = &needs.doubt {
            return Err(doubtful(doubt));
        }
        let names = ask.names.iter().map(|name| refuse::name(name)).collect::<Result<Vec<_>, _>>()?;
        for name in &names {
            self.volumes.stored(name).and_then(|_| self.unneeded(name)).map_err(|error| refused(&error))?;
        }
        let mut pruned = PrunedVolumes::default();
        for stored in self.volumes.list().into_iter().filter(|stored| needs.nobody(&stored.volume.name)) {
            let shown = self.shown(&stored).await?;
            if !goes(&stored, &ask, &names, &needs)? {
                pruned.unused.push(shown);
                continue;
            }
            if !ask.dry_run {
                self.take_away(&stored.volume.name).await?;
            }
            pruned.freed += shown.bytes.unwrap_or(0);
            pruned.removed.push(shown);
        }
        Ok(pruned)
    }

    async fn take_away(&self, name: &VolumeName) -> Result<(), Refusal> {
        let (this, of) = (self.clone(), name.clone());
        self.volumes.remove(name, move || this.unneeded(&of)).await.map_err(|error| refused(&error))?;
        tracing::info!(volume = %name, "removed, as somebody asked for");
        Ok(())
    }

    async fn shown(&self, stored: &Stored) -> Result<PrunedVolume, Refusal> {
        // What its options mount is not ours, and stays.
        let own = if stored.volume.options.is_empty() { self.usage(stored).await? } else { None };
        let (name, anonymous) = (stored.volume.name.to_string(), stored.anonymous);
        Ok(PrunedVolume { name, anonymous, bytes: own.map(|usage| usage.bytes) })
    }
}

fn goes(stored: &Stored, ask: &VolumePruneAsk, names: &[VolumeName], needs: &Needs) -> Result<bool, Refusal> {
    if names.contains(&stored.volume.name) {
        return Ok(true);
    }
    if !(names.is_empty() && ask.anonymous && stored.anonymous) {
        return Ok(false);
    }
    match needs.absent.first() {
        None => Ok(true),
        Some(image) => Err(doubtful(&format!("the image {image} is not here, which may want volumes without a name"))),
    }
}

fn doubtful(doubt: &str) -> Refusal {
    let message = format!("it is not known for certain which volumes are needed: {doubt}");
    Refusal::new(RefusalKind::Busy, message).hint("nothing was removed; `longshore status` says how it stands")
}
