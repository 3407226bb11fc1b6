//! `mounts` of the record: what of volumes and of the host a container sees, and how one start is told of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::isolation::is_default;
use super::{RecordError, valid};
use crate::model::{
    Bind, ImageMount, ImageReference, Mount, MountSource, Owner, Propagation, Recursive, Relabel, ServiceName, Volume,
    VolumeMount, VolumeName, VolumeRef,
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MountRecord {
    target: String,
    source: SourceRecord,
    #[serde(default, skip_serializing_if = "is_default")]
    read_only: bool,
    /// User and group.
    #[serde(default, skip_serializing_if = "is_default")]
    owner: Option<(u32, u32)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SourceRecord {
    Bind {
        source: PathBuf,
        #[serde(default, skip_serializing_if = "is_default")]
        create: bool,
        #[serde(default, skip_serializing_if = "is_default")]
        propagation: PropagationRecord,
        #[serde(default, skip_serializing_if = "is_default")]
        recursive: RecursiveRecord,
        #[serde(default, skip_serializing_if = "is_default")]
        label: Option<RelabelRecord>,
    },
    Volume {
        volume: VolumeRecord,
        #[serde(default, skip_serializing_if = "is_default")]
        subpath: Option<String>,
        #[serde(default, skip_serializing_if = "is_default")]
        no_copy: bool,
    },
    Image {
        reference: String,
        #[serde(default, skip_serializing_if = "is_default")]
        subpath: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum VolumeRecord {
    Named {
        name: String,
        #[serde(default, skip_serializing_if = "is_default")]
        options: BTreeMap<String, String>,
        #[serde(default, skip_serializing_if = "is_default")]
        labels: BTreeMap<String, String>,
        #[serde(default, skip_serializing_if = "is_default")]
        external: bool,
    },
    Anonymous {
        of: String,
        target: String,
        #[serde(default, skip_serializing_if = "is_default")]
        labels: BTreeMap<String, String>,
    },
}

/// [`Propagation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PropagationRecord {
    /// As there.
    #[default]
    Private,
    /// As there.
    Slave,
    /// As there.
    Shared,
}

/// [`Recursive`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecursiveRecord {
    /// As there.
    #[default]
    Enabled,
    /// As there.
    Disabled,
    /// As there.
    Writable,
    /// As there.
    ReadOnly,
}

/// [`Relabel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelabelRecord {
    /// As there.
    Shared,
    /// As there.
    Private,
}

/// Both ways between a type of the model and that of the record with the same variants.
macro_rules! both_ways {
    ($model:ident, $record:ident: $($variant:ident),+) => {
        impl From<$model> for $record {
            fn from(model: $model) -> Self {
                match model { $($model::$variant => Self::$variant),+ }
            }
        }
        impl From<$record> for $model {
            fn from(record: $record) -> Self {
                match record { $($record::$variant => Self::$variant),+ }
            }
        }
    };
}

both_ways!(Propagation, PropagationRecord: Private, Slave, Shared);
both_ways!(Recursive, RecursiveRecord: Enabled, Disabled, Writable, ReadOnly);
both_ways!(Relabel, RelabelRecord: Shared, Private);

impl From<&Mount> for MountRecord {
    fn from(mount: &Mount) -> Self {
        Self {
            target: mount.target.clone(),
            source: SourceRecord::from(&mount.source),
            read_only: mount.read_only,
            owner: mount.owner.map(|Owner { uid, gid }| (uid, gid)),
        }
    }
}

impl From<&MountSource> for SourceRecord {
    fn from(source: &MountSource) -> Self {
        match source.clone() {
            MountSource::Bind(Bind { source, create, propagation, recursive, label }) => Self::Bind {
                source,
                create,
                propagation: propagation.into(),
                recursive: recursive.into(),
                label: label.map(Into::into),
            },
            MountSource::Volume(VolumeMount { volume, subpath, no_copy }) => {
                Self::Volume { volume: volume.into(), subpath, no_copy }
            }
            MountSource::Image(ImageMount { reference, subpath }) => {
                Self::Image { reference: reference.to_string(), subpath }
            }
        }
    }
}

impl From<VolumeRef> for VolumeRecord {
    fn from(volume: VolumeRef) -> Self {
        match volume {
            VolumeRef::Named(volume) => {
                let Volume { name, options, labels, external } = *volume;
                Self::Named { name: name.to_string(), options, labels, external }
            }
            VolumeRef::Anonymous { of, target, labels } => Self::Anonymous { of: of.to_string(), target, labels },
        }
    }
}

impl MountRecord {
    pub(super) fn to_model(&self) -> Result<Mount, RecordError> {
        let source = match self.source.clone() {
            SourceRecord::Bind { source, create, propagation, recursive, label } => MountSource::Bind(Bind {
                source,
                create,
                propagation: propagation.into(),
                recursive: recursive.into(),
                label: label.map(Into::into),
            }),
            SourceRecord::Volume { volume, subpath, no_copy } => {
                MountSource::Volume(VolumeMount { volume: volume.into_model()?, subpath, no_copy })
            }
            SourceRecord::Image { reference, subpath } => MountSource::Image(ImageMount {
                reference: valid("image", &reference, |t| ImageReference::parse(t).ok())?,
                subpath,
            }),
        };
        Ok(Mount {
            target: self.target.clone(),
            source,
            read_only: self.read_only,
            owner: self.owner.map(|(uid, gid)| Owner { uid, gid }),
        })
    }
}

impl VolumeRecord {
    fn into_model(self) -> Result<VolumeRef, RecordError> {
        Ok(match self {
            Self::Named { name, options, labels, external } => {
                let name = valid("volume", &name, |t| VolumeName::parse(t).ok())?;
                VolumeRef::Named(Box::new(Volume { name, options, labels, external }))
            }
            Self::Anonymous { of, target, labels } => {
                VolumeRef::Anonymous { of: valid("service", &of, |t| ServiceName::parse(t).ok())?, target, labels }
            }
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One of each kind.
    pub(in crate::container::record) fn sample() -> Vec<Mount> {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let bind = MountSource::Bind(Bind {
            source: "/srv/data".into(),
            create: true,
            propagation: Propagation::Slave,
            recursive: Recursive::ReadOnly,
            label: Some(Relabel::Private),
        });
        let named = VolumeRef::Named(Box::new(Volume {
            name: VolumeName::parse("shop_data").expect("a name"),
            options: BTreeMap::from([("type".to_owned(), "tmpfs".to_owned())]),
            labels: labels.clone(),
            external: true,
        }));
        let of = ServiceName::parse("db").expect("a name");
        let anonymous = VolumeRef::Anonymous { of, target: "/cache".into(), labels };
        let volume = |volume| MountSource::Volume(VolumeMount { volume, subpath: Some("a/b".into()), no_copy: true });
        let owner = Some(Owner { uid: 1000, gid: 100 });
        let reference = ImageReference::parse("localhost:5000/assets:1").expect("a reference");
        let image = MountSource::Image(ImageMount { reference, subpath: Some("usr/share".into()) });
        vec![
            Mount { target: "/data".into(), source: bind, read_only: true, owner },
            Mount { target: "/named".into(), source: volume(named), read_only: false, owner: None },
            Mount { target: "/cache".into(), source: volume(anonymous), read_only: false, owner: None },
            Mount { target: "/image".into(), source: image, read_only: true, owner: None },
        ]
    }
}
