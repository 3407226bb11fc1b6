//! A container: what it is to be, and what it is seen to be.

use std::collections::BTreeMap;
use std::fmt;

use super::hash::{hex_sha256, is_hex64};
use super::{
    ContainerName, Digest, ImageReference, ProjectName, Purpose, Run, Service, ServiceName, SpecHash, Timestamp,
};

/// 64 hex digits, derived from what the container is: the same place, hash and image always give the same id, so that making
/// it twice makes it once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

impl ContainerId {
    /// The id of the container that fills `slot` with this specification and image.
    #[must_use]
    pub fn derive(slot: &Slot, hash: &SpecHash, image: &Digest) -> Self {
        let number = slot.number.to_be_bytes();
        Self(hex_sha256(&[
            b"container",
            slot.project.as_str().as_bytes(),
            slot.service.as_str().as_bytes(),
            &number,
            hash.as_str().as_bytes(),
            image.as_str().as_bytes(),
        ]))
    }
    /// The id of the container that besides sees the files of these images; of none, that of [`Self::derive`].
    #[must_use]
    pub fn mounting(slot: &Slot, hash: &SpecHash, image: &Digest, mounted: &BTreeMap<ImageReference, Digest>) -> Self {
        let bare = Self::derive(slot, hash, image);
        if mounted.is_empty() {
            return bare;
        }
        let mut parts = vec![b"container".to_vec(), bare.0.into_bytes()];
        for (image, digest) in mounted {
            parts.extend([image.to_string().into_bytes(), digest.as_str().as_bytes().to_vec()]);
        }
        Self(hex_sha256(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>()))
    }
    /// The id of the container of one run, whatever it is made of: of two specifications one is run.
    #[must_use]
    pub fn of_run(slot: &Slot, run: &Run) -> Self {
        let (number, due) = (slot.number.to_be_bytes(), run.due.millis().to_be_bytes());
        let (project, service) = (slot.project.as_str().as_bytes(), slot.service.as_str().as_bytes());
        Self(hex_sha256(&[b"run", project, service, &number, &due, run.why.as_str().as_bytes()]))
    }
    pub(super) fn hashed(parts: &[&[u8]]) -> Self {
        Self(hex_sha256(parts))
    }
    /// An id read back from a record or a folder name.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        is_hex64(hex).then(|| Self(hex.to_owned()))
    }
    /// 64 lower-case hex digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The first twelve digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The place a container fills: replica `number` (from 1) of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// Its project.
    pub project: ProjectName,
    /// Its service.
    pub service: ServiceName,
    /// Which replica, from 1; [`TASK_NUMBER`](super::TASK_NUMBER): none, a one-off container.
    pub number: u32,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            super::TASK_NUMBER => write!(f, "{}/{}/run", self.project, self.service),
            number => write!(f, "{}/{}/{number}", self.project, self.service),
        }
    }
}

/// Everything that is needed to make one container, whatever the files say by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// The place it fills.
    pub slot: Slot,
    /// The image as the file names it.
    pub image: ImageReference,
    /// The image as it was resolved: the digest of the manifest for this machine's platform.
    pub image_digest: Digest,
    /// The images whose files it sees at a place of their own, as they were resolved when it was made: it keeps these.
    pub mounted: BTreeMap<ImageReference, Digest>,
    /// The service as the file asked for it (`service.hash` is the hash the container is known by).
    pub service: Service,
    /// What it was made for.
    pub purpose: Purpose,
}

impl ContainerSpec {
    /// The manifests that it needs: the one that it is made from, and those that it mounts.
    pub fn manifests(&self) -> impl Iterator<Item = &Digest> {
        std::iter::once(&self.image_digest).chain(self.mounted.values())
    }
    /// As it is written down: what its configs and secrets hold is not.
    #[must_use]
    pub fn without_contents(&self) -> Self {
        let mut spec = self.clone();
        for file in &mut spec.service.files {
            *file = file.without_content();
        }
        spec
    }
}

/// A process that cannot be mistaken for another one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessId {
    /// The number.
    pub pid: i32,
    /// Its start time in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
}

/// `/proc/sys/kernel/random/boot_id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BootId(pub String);

/// How a container's main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It returned this code.
    Code(u8),
    /// A signal ended it.
    Signal(u8),
    /// The kernel's OOM killer ended it (or a process of it, and it ended with SIGKILL).
    OomKilled,
    /// It returned this code after the kernel's OOM killer had ended another process of it.
    AfterOom(u8),
    /// The machine stopped while it ran.
    MachineStopped,
    /// Its shim was killed, and the container with it; the status was lost.
    ShimLost,
}

impl ExitStatus {
    /// The code a shell or Docker would show: 128 + signal; 255 where the status is unknown.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Code(code) | Self::AfterOom(code) => code,
            Self::Signal(signal) => 128_u8.saturating_add(signal),
            Self::OomKilled | Self::ShimLost => 137,
            Self::MachineStopped => 255,
        }
    }
    /// Whether it counts as a success.
    #[must_use]
    pub const fn success(self) -> bool {
        matches!(self, Self::Code(0) | Self::AfterOom(0))
    }
    /// In words, with the limit of memory where that matters.
    #[must_use]
    pub fn told(self, memory: Option<u64>) -> String {
        match (self, memory) {
            (Self::OomKilled, Some(limit)) => {
                format!("out of memory: killed by the kernel (137, limit {})", super::bytes(limit))
            }
            (Self::AfterOom(_), Some(limit)) => format!("{self} (limit {})", super::bytes(limit)),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => {
                let name = super::Signal::parse(&signal.to_string()).map_or_else(String::new, |s| s.name());
                write!(f, "ended by {name} ({})", self.code())
            }
            Self::AfterOom(code) => {
                write!(f, "exit code {code}, after the kernel had killed a process of it: out of memory")
            }
            Self::OomKilled => write!(f, "out of memory: killed by the kernel (137)"),
            Self::MachineStopped => write!(f, "the machine stopped while it ran (255)"),
            Self::ShimLost => write!(f, "its shim was killed (137)"),
        }
    }
}

/// What a container is seen to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// Its main process runs.
    Running {
        /// The container's init, as the host sees it.
        init: ProcessId,
        /// The shim that is its parent.
        shim: ProcessId,
        /// When it was started.
        since: Timestamp,
    },
    /// Its main process ended.
    Exited {
        /// How.
        status: ExitStatus,
        /// When it was started.
        started: Timestamp,
        /// When it ended.
        at: Timestamp,
    },
    /// The last attempt to start it failed before its command ran.
    StartFailed {
        /// What failed, for the owner.
        error: String,
        /// When.
        at: Timestamp,
    },
    /// Processes of it are left but nobody is their parent any more (the shim was killed): they must be ended before anything
    /// else is done.
    Orphaned {
        /// When it had been started.
        started: Timestamp,
    },
}

impl ContainerState {
    /// Whether processes of it may be alive.
    #[must_use]
    pub const fn alive(&self) -> bool {
        matches!(self, Self::Running { .. } | Self::Orphaned { .. })
    }
}

/// A container of ours, as the host has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedContainer {
    /// What it was made from.
    pub spec: ContainerSpec,
    /// What it is now.
    pub state: ContainerState,
}
