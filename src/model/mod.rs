//! The nouns of the house, parsed once at the edge; afterwards they cannot be wrong.
//!
//! No serde, no I/O, no clock in here. Each outer format (state files, API, database records) has types of its own
//! that are turned into these.

mod action;
mod attached;
mod capability;
mod cause;
mod container;
mod cron;
mod depends;
mod file;
mod hash;
mod health;
mod hook;
mod image;
mod isolation;
mod name;
mod network;
mod pace;
mod problem;
mod resources;
mod schedule;
mod sentence;
mod service;
mod settings;
mod taking;
mod task;
mod volume;

pub use action::{Action, Key};
pub use attached::{Attached, Attachment, Exposure, Link, NetworkPlace, ObservedNetwork, Published, Turn};
pub use capability::{Capability, CapabilitySet};
pub use cause::{Cause, CauseKind, Edit, EditChange};
pub use container::{
    BootId, ContainerId, ContainerSpec, ContainerState, ExitStatus, ObservedContainer, ProcessId, Slot,
};
pub use cron::{Cron, CronError};
pub use depends::{Condition, Dependency};
pub use file::{Content, FileKind, Fingerprint, FingerprintKey, MountedFile, OnChange};
pub use hash::SpecHash;
pub use health::{Check, CheckTimes, Health, HealthCheck, HealthPolicy, HealthTest, OnUnhealthy, Probe};
pub use hook::{Hook, HookFailure, Hooks};
pub use image::{Digest, ImageReference, Platform, ReferenceError};
pub use isolation::{
    Device, DeviceAccess, DeviceKind, DeviceRequest, DeviceRule, Ipc, Isolation, Limit, LimitRange, Names, Namespace,
    Seccomp, Tmpfs, UserNamespace, Which,
};
pub use name::{ContainerName, NameError, NetworkName, ProjectName, ServiceName, VolumeName};
pub use network::{
    AddressPool, Cidr, Driver, Exposed, IpvlanMode, Join, Mac, MacvlanMode, Membership, Network, NetworkId, Port,
    Protocol, ServiceLink,
};
pub use pace::RestartPace;
pub use problem::{Location, Problem, Severity};
pub use resources::{Ability, BlockIo, Ceiling, CpuQuota, Resources, bytes};
pub use schedule::{
    Missed, ON_TIME_MS, Overlap, Passed, PastRun, Purpose, Run, RunOutcome, RunWhy, Schedule, Times, Zone,
};
pub use sentence::sentence;
pub use service::{
    EnvVar, Hold, Loosening, NetworkMode, Process, Project, PullPolicy, RestartPolicy, Service, Signal, StopPolicy,
    Wish,
};
pub use settings::Settings;
pub use taking::{AutoUpdate, Choice, FailureAction, Moment, Release, Releases, Taking, Window, highest, release};
pub use task::{TASK_NUMBER, Task, TaskAsk};
pub use volume::{
    Bind, ImageMount, Mount, MountSource, Owner, Propagation, Recursive, Relabel, Volume, VolumeMount, VolumeRef,
};

/// Milliseconds since the Unix epoch. The model is handed time, it never asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }
    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }
    /// The moment `ms` milliseconds later.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
    /// Milliseconds from `earlier` to `self`; zero where the clock went backwards.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
