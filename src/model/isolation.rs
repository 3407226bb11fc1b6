//! What a container may do and see: every widening and narrowing of the defaults that a file can ask for. The default of each
//! type here asks for nothing.

use std::collections::BTreeMap;

use super::CapabilitySet;

/// `privileged`, `cap_add`, `security_opt`, namespaces, devices and the like. A change of any of it makes another container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Isolation {
    /// `privileged`: all capabilities, all devices, no seccomp, nothing masked or read-only.
    pub privileged: bool,
    /// `cap_add`; [`CapabilitySet::ALL`] for `ALL`.
    pub cap_add: CapabilitySet,
    /// `cap_drop`; [`CapabilitySet::ALL`] for `ALL`.
    pub cap_drop: CapabilitySet,
    /// `security_opt: no-new-privileges`; `None`: as configured.
    pub no_new_privileges: Option<bool>,
    /// `security_opt: seccomp=…`.
    pub seccomp: Seccomp,
    /// `security_opt: apparmor=…`: a profile that the host has loaded, or `unconfined`.
    pub apparmor: Option<String>,
    /// `security_opt: label=…` (SELinux): `disable`, `user:…`, `role:…`, `type:…`, `level:…`.
    pub labels: Vec<String>,
    /// `security_opt: systempaths=unconfined`: nothing of /proc and /sys is masked or read-only.
    pub unmasked: bool,
    /// `pid`.
    pub pid: Namespace,
    /// `ipc`.
    pub ipc: Ipc,
    /// `uts`.
    pub uts: Namespace,
    /// `cgroup`.
    pub cgroup: Namespace,
    /// `userns_mode`.
    pub user: UserNamespace,
    /// `group_add`: names or numbers, looked up inside the image.
    pub groups: Vec<String>,
    /// `sysctls`.
    pub sysctls: BTreeMap<String, String>,
    /// `ulimits`.
    pub limits: BTreeMap<Limit, LimitRange>,
    /// `devices`.
    pub devices: Vec<Device>,
    /// `device_cgroup_rules`.
    pub device_rules: Vec<DeviceRule>,
    /// `gpus`, `deploy.resources.reservations.devices`, and `devices` that name a CDI device.
    pub requests: Vec<DeviceRequest>,
    /// `tmpfs`.
    pub tmpfs: Vec<Tmpfs>,
    /// `shm_size`.
    pub shm_bytes: Option<u64>,
    /// `storage_opt: size`: what the writable layer may take.
    pub root_bytes: Option<u64>,
    /// `oom_score_adj`.
    pub oom_score: Option<i16>,
    /// `cgroup_parent`: a path, absolute or below ours; the name of a slice where systemd makes cgroups.
    pub cgroup_parent: Option<String>,
    /// `runtime`: a name of the configuration.
    pub runtime: Option<String>,
}

/// Which system calls are allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Seccomp {
    /// Docker's profile.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// What this profile says: the text of a file in Docker's format.
    Profile(String),
}

/// A namespace of its own, or the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Namespace {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
}

/// `ipc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ipc {
    /// Its own (`private`, `shareable`).
    #[default]
    Private,
    /// Its own, without /dev/shm.
    None,
    /// The host's.
    Host,
}

/// `userns_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UserNamespace {
    /// The host's users (`host`, or nothing).
    #[default]
    Host,
    /// A range of the host's ids of its own, `size` of them (`auto`, `auto:size=65536`).
    Auto {
        /// How many ids.
        size: u32,
    },
}

/// A limit of setrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// Address space.
    As,
    /// Size of a core file.
    Core,
    /// CPU time.
    Cpu,
    /// Data segment.
    Data,
    /// File size.
    Fsize,
    /// File locks.
    Locks,
    /// Locked memory.
    Memlock,
    /// Bytes in message queues.
    Msgqueue,
    /// Niceness.
    Nice,
    /// Open files.
    Nofile,
    /// Processes of the user.
    Nproc,
    /// Resident memory.
    Rss,
    /// Real-time priority.
    Rtprio,
    /// Real-time CPU time.
    Rttime,
    /// Pending signals.
    Sigpending,
    /// Stack.
    Stack,
}

impl Limit {
    /// Each with its name in a Compose file.
    pub const ALL: [(&'static str, Self); 16] = [
        ("as", Self::As),
        ("core", Self::Core),
        ("cpu", Self::Cpu),
        ("data", Self::Data),
        ("fsize", Self::Fsize),
        ("locks", Self::Locks),
        ("memlock", Self::Memlock),
        ("msgqueue", Self::Msgqueue),
        ("nice", Self::Nice),
        ("nofile", Self::Nofile),
        ("nproc", Self::Nproc),
        ("rss", Self::Rss),
        ("rtprio", Self::Rtprio),
        ("rttime", Self::Rttime),
        ("sigpending", Self::Sigpending),
        ("stack", Self::Stack),
    ];
    /// By its name in a Compose file.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, limit)| *limit)
    }
    /// Its name in a Compose file.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, limit)| *limit == self).map_or("", |(name, _)| name)
    }
}

/// Soft and hard; [`u64::MAX`] is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitRange {
    /// What applies.
    pub soft: u64,
    /// Up to where the process may raise it.
    pub hard: u64,
}

/// A device of the host, put into the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// On the host: a device, or a folder of devices; absolute.
    pub source: String,
    /// In the container; absolute.
    pub target: String,
    /// What may be done with it.
    pub access: DeviceAccess,
}

/// What may be done with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceAccess {
    /// `r`
    pub read: bool,
    /// `w`
    pub write: bool,
    /// `m`
    pub make: bool,
}

impl DeviceAccess {
    /// All of it.
    pub const ALL: Self = Self { read: true, write: true, make: true };

    /// Parses `rwm` or a part of it, each letter once.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut access = Self { read: false, write: false, make: false };
        for letter in text.chars() {
            let flag = match letter {
                'r' => &mut access.read,
                'w' => &mut access.write,
                'm' => &mut access.make,
                _ => return None,
            };
            if std::mem::replace(flag, true) {
                return None;
            }
        }
        (!text.is_empty()).then_some(access)
    }
    /// `rwm`.
    #[must_use]
    pub fn text(self) -> String {
        [(self.read, 'r'), (self.write, 'w'), (self.make, 'm')].iter().filter(|(on, _)| *on).map(|(_, c)| *c).collect()
    }
}

/// `c 1:3 rw`: devices that may be used though they are not in /dev.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Which kind.
    pub kind: DeviceKind,
    /// `None`: all.
    pub major: Option<u32>,
    /// `None`: all.
    pub minor: Option<u32>,
    /// What may be done with them.
    pub access: DeviceAccess,
}

/// Which devices a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// `a`
    All,
    /// `b`
    Block,
    /// `c`
    Character,
}

/// Devices that a CDI file of the host describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRequest {
    /// `vendor.com/class`, or a driver's short name (`nvidia`), or empty where only capabilities were given.
    pub driver: String,
    /// Which: names, or numbers.
    pub which: Which,
    /// `capabilities`.
    pub capabilities: Vec<String>,
}

/// How many, or which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// `count: all`.
    All,
    /// `count: N`.
    Count(u32),
    /// `device_ids`.
    Ids(Vec<String>),
}

/// A folder in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Where; absolute.
    pub target: String,
    /// Options of mount(8): `size=64m`, `mode=1777`, `exec`, …
    pub options: Vec<String>,
}

/// Names that a container is known by and knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// `domainname`.
    pub domain: Option<String>,
    /// `extra_hosts`: name and address, in the file's order.
    pub hosts: Vec<(String, String)>,
    /// `dns`.
    pub servers: Vec<String>,
    /// `dns_search`.
    pub search: Vec<String>,
    /// `dns_opt`.
    pub options: Vec<String>,
}
