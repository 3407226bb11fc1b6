//! `files` of the record: the configs and secrets that a container sees, without what they hold.

use serde::{Deserialize, Serialize};

use super::isolation::is_default;
use super::{RecordError, valid};
use crate::model::{FileKind, Fingerprint, MountedFile, OnChange, Signal};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileRecord {
    kind: KindRecord,
    name: String,
    target: String,
    #[serde(default, skip_serializing_if = "is_default")]
    uid: Option<u32>,
    #[serde(default, skip_serializing_if = "is_default")]
    gid: Option<u32>,
    mode: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    on_change: OnChangeRecord,
    fingerprint: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindRecord {
    Config,
    Secret,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OnChangeRecord {
    #[default]
    Recreate,
    Restart,
    Signal(i32),
    Update,
}

impl From<&MountedFile> for FileRecord {
    fn from(file: &MountedFile) -> Self {
        let MountedFile { kind, name, target, uid, gid, mode, on_change, fingerprint, kept: _, content: _ } = file;
        Self {
            kind: match kind {
                FileKind::Config => KindRecord::Config,
                FileKind::Secret => KindRecord::Secret,
            },
            name: name.clone(),
            target: target.clone(),
            uid: *uid,
            gid: *gid,
            mode: *mode,
            on_change: match on_change {
                OnChange::Recreate => OnChangeRecord::Recreate,
                OnChange::Restart => OnChangeRecord::Restart,
                OnChange::Signal(signal) => OnChangeRecord::Signal(signal.number()),
                OnChange::Update => OnChangeRecord::Update,
            },
            fingerprint: fingerprint.as_str().to_owned(),
        }
    }
}

impl FileRecord {
    pub(super) fn to_model(&self) -> Result<MountedFile, RecordError> {
        Ok(MountedFile {
            kind: match self.kind {
                KindRecord::Config => FileKind::Config,
                KindRecord::Secret => FileKind::Secret,
            },
            name: self.name.clone(),
            target: self.target.clone(),
            uid: self.uid,
            gid: self.gid,
            mode: self.mode,
            on_change: match self.on_change {
                OnChangeRecord::Recreate => OnChange::Recreate,
                OnChangeRecord::Restart => OnChange::Restart,
                OnChangeRecord::Signal(number) => {
                    OnChange::Signal(valid("signal", &number.to_string(), Signal::parse)?)
                }
                OnChangeRecord::Update => OnChange::Update,
            },
            fingerprint: valid("fingerprint", &self.fingerprint, Fingerprint::parse)?,
            kept: None,
            content: None,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::FingerprintKey;

    /// One of each kind of reaction.
    pub(in crate::container::record) fn sample() -> Vec<MountedFile> {
        let file = |kind, name: &str, on_change| MountedFile {
            kind,
            name: name.to_owned(),
            target: format!("/run/{name}"),
            uid: (name == "a").then_some(33),
            gid: (name == "a").then_some(0),
            mode: 0o440,
            on_change,
            fingerprint: Fingerprint::of(&FingerprintKey([1; 32]), name.as_bytes()),
            kept: None,
            content: None,
        };
        vec![
            file(FileKind::Config, "a", OnChange::Recreate),
            file(FileKind::Secret, "b", OnChange::Restart),
            file(FileKind::Config, "c", OnChange::Signal(Signal::KILL)),
            file(FileKind::Secret, "d", OnChange::Update),
        ]
    }
}
