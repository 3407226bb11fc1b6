//! Errors of the room as the API refuses.

use crate::api::{Refusal, RefusalKind};
use crate::model::{VolumeName, sentence};
use crate::volume::VolumeError;

pub(super) fn name(text: &str) -> Result<VolumeName, Refusal> {
    VolumeName::parse(text).map_err(|error| Refusal::new(RefusalKind::Invalid, error.to_string()))
}

pub(super) fn lost() -> Refusal {
    Refusal::new(RefusalKind::Failed, "an internal check failed; see the daemon's log")
}

/// For who makes one by hand: there is no file to be changed.
pub(super) fn not_made(error: &VolumeError) -> Refusal {
    match error {
        VolumeError::Differs { name, has, asked } => {
            let message = format!("the volume {name} exists with {has}, and not with {asked}");
            Refusal::new(RefusalKind::Exists, message).hint("give another name, or remove that one first")
        }
        error => refused(error),
    }
}

pub(super) fn refused(error: &VolumeError) -> Refusal {
    let (kind, hint) = match error {
        VolumeError::Absent { .. } | VolumeError::External { .. } => {
            (RefusalKind::NoVolume, Some("`longshore volume ls` lists what there is"))
        }
        VolumeError::NoSnapshot { .. } => {
            (RefusalKind::NoSnapshot, Some("`longshore volume snapshots` lists what there is"))
        }
        VolumeError::Differs { .. } | VolumeError::SnapshotExists { .. } | VolumeError::NotEmpty { .. } => {
            (RefusalKind::Exists, None)
        }
        VolumeError::Needed { .. } => (RefusalKind::InUse, None),
        VolumeError::Busy { .. } => (RefusalKind::Busy, None),
        VolumeError::Option { .. }
        | VolumeError::Mounts { .. }
        | VolumeError::SnapshotName { .. }
        | VolumeError::NoArchive
        | VolumeError::Archive(_)
        | VolumeError::Member { .. } => (RefusalKind::Invalid, None),
        VolumeError::NoSpace { .. } => {
            (RefusalKind::Failed, Some("make space: `longshore system df` says what takes it"))
        }
        VolumeError::Unusable { .. }
        | VolumeError::Mount { .. }
        | VolumeError::NotMounted { .. }
        | VolumeError::Disk { .. }
        | VolumeError::Lost { .. } => (RefusalKind::Failed, None),
    };
    let refusal = Refusal::new(kind, sentence(error));
    match hint {
        Some(hint) => refusal.hint(hint),
        None => refusal,
    }
}
