//! Volumes, and what of them, of the host and of images a service sees.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::hash::hex_sha256;
use super::{ImageReference, ServiceName, Slot, VolumeName};

/// A named volume as a file defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name outside of the project.
    pub name: VolumeName,
    /// Options of the driver `local`: `type`, `o`, `device`. Empty: a folder in the data directory.
    pub options: BTreeMap<String, String>,
    /// `labels`.
    pub labels: BTreeMap<String, String>,
    /// Somebody else makes it: another file.
    pub external: bool,
}

impl Volume {
    /// The folder of the host that it is, by its options.
    #[must_use]
    pub fn device(&self) -> Option<&Path> {
        Self::device_by(&self.options)
    }
    /// The same, of options alone.
    #[must_use]
    pub fn device_by(options: &BTreeMap<String, String>) -> Option<&Path> {
        let binds = |o: &String| o.split(',').any(|option| matches!(option.trim(), "bind" | "rbind"));
        options.get("device").map(Path::new).filter(|_| options.get("o").is_some_and(binds))
    }
}

/// One place in a container where something of outside is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where in the container: absolute, without `.` and `..`, not `/`.
    pub target: String,
    /// What.
    pub source: MountSource,
    /// Whether the container may not write there.
    pub read_only: bool,
    /// Whose files on the host are the container's user's (`x-longshore: idmap`).
    pub owner: Option<Owner>,
}

/// Owner and group on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What is seen there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A file or a folder of the host.
    Bind(Bind),
    /// A volume.
    Volume(VolumeMount),
    /// What another image holds; always read-only.
    Image(ImageMount),
}

/// A file or folder of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Absolute, without `.` and `..`; or below the state file's folder, which the daemon knows (`./data`): then relative to the
    /// state directory.
    pub source: PathBuf,
    /// Make it, as a folder, where it is missing.
    pub create: bool,
    /// How mounts below it travel.
    pub propagation: Propagation,
    /// Whether mounts below it are seen.
    pub recursive: Recursive,
    /// Its files are labelled for SELinux: shared (`z`) or for this container alone (`Z`).
    pub label: Option<Relabel>,
}

/// `bind.propagation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Propagation {
    /// What is mounted on either side later is not seen on the other.
    #[default]
    Private,
    /// What the host mounts later is seen in the container.
    Slave,
    /// Both ways.
    Shared,
}

/// `bind.recursive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recursive {
    /// Mounts below are seen, and where it is read-only so are they, as far as the kernel can.
    #[default]
    Enabled,
    /// They are not seen.
    Disabled,
    /// They are seen and may be written to, though it is read-only.
    Writable,
    /// They must be read-only; without a kernel that can it is an error.
    ReadOnly,
}

/// `bind.selinux`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relabel {
    /// `z`.
    Shared,
    /// `Z`.
    Private,
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeMount {
    /// Which.
    pub volume: VolumeRef,
    /// A folder or a file in it.
    pub subpath: Option<String>,
    /// Do not fill it with what the image has there.
    pub no_copy: bool,
}

/// Another image's files in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageMount {
    /// Which.
    pub reference: ImageReference,
    /// A folder or a file in it.
    pub subpath: Option<String>,
}

/// Which volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeRef {
    /// One with a name, as the file defines it.
    Named(Box<Volume>),
    /// One without, that belongs to a replica of this service and this place in it.
    Anonymous {
        /// Of which service: the own one, or one of `volumes_from`, of which it is the first replica's.
        of: ServiceName,
        /// The place in that service.
        target: String,
        /// Its labels.
        labels: BTreeMap<String, String>,
    },
}

impl VolumeRef {
    /// The volume's name, for the container in this slot. That of an anonymous one is the same for ever, so that a container that is
    /// made again finds its data.
    #[must_use]
    pub fn name(&self, slot: &Slot) -> VolumeName {
        match self {
            Self::Named(volume) => volume.name.clone(),
            Self::Anonymous { of, target, .. } => {
                let number = if *of == slot.service { slot.number } else { 1 };
                VolumeName::anonymous(&hex_sha256(&[
                    b"volume",
                    slot.project.as_str().as_bytes(),
                    of.as_str().as_bytes(),
                    &number.to_be_bytes(),
                    target.as_bytes(),
                ]))
            }
        }
    }

    /// The volume as it is made for the container in this slot.
    #[must_use]
    pub fn volume(&self, slot: &Slot) -> Volume {
        match self {
            Self::Named(volume) => (**volume).clone(),
            Self::Anonymous { labels, .. } => {
                Volume { name: self.name(slot), options: BTreeMap::new(), labels: labels.clone(), external: false }
            }
        }
    }
}
