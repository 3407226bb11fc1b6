//! What a file asks of the host beside an image and a command: it is looked for here, and what the host cannot give is an error that
//! says so. Nothing of it is left out in silence.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};

use crate::container::cdi::{self, CdiError, Edits};
use crate::container::confine::bounding;
use crate::container::host_device::{self, DeviceError, HostDevice};
use crate::container::link::Order;
use crate::container::oci::{Labels, is_everywhere, unknown_option};
use crate::model::{
    Capability, CapabilitySet, ContainerSpec, DeviceAccess, Ipc, Isolation, Limit, LimitRange, Namespace, NetworkMode,
};

/// What was found.
pub(super) struct Asked {
    /// Devices, with those by CDI.
    pub(super) devices: Vec<HostDevice>,
    /// What else CDI adds.
    pub(super) edits: Edits,
    /// System controls of the network namespace.
    pub(super) network_sysctls: BTreeMap<String, String>,
    /// The others.
    pub(super) sysctls: BTreeMap<String, String>,
    /// SELinux labels.
    pub(super) labels: Option<Labels>,
}

/// What the host cannot give.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskedError {
    #[error("cap_add: this machine gives no container {0} (it is not in the bounding set of the daemon)")]
    Capability(String),
    #[error(
        "ulimits: {limit} of {wanted} is beyond the {most} that this machine allows the daemon, which lacks CAP_SYS_RESOURCE; \
         ask for less, or raise the limit of the daemon"
    )]
    Limit { limit: &'static str, wanted: String, most: u64 },
    #[error("ulimits: nofile of {wanted} is beyond the {most} that the kernel allows at all (fs.nr_open)")]
    Open { wanted: String, most: u64 },
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(
        "devices: {0} is the host's {0} in every container with users of its own (userns_mode: auto); give {1} another name in it"
    )]
    Everywhere(String, String),
    #[error(transparent)]
    Cdi(#[from] CdiError),
    #[error("tmpfs {target}: {option:?} is no option of mount(8) for it")]
    Tmpfs { target: String, option: String },
    #[error("sysctls: {name} belongs to the {namespace} namespace, which this container shares with {with}")]
    Shared { name: String, namespace: &'static str, with: &'static str },
    #[error("sysctls: {0} is of the whole machine, no container has it of its own; set it on the host")]
    Machine(String),
    #[error("sysctls: {0} is given by a key of its own (hostname, domainname)")]
    OwnKey(String),
    #[error("{0}: the container shares the UTS namespace of the host (uts: host), whose names stay as they are")]
    Uts(&'static str),
    #[error("apparmor={0}: this machine has no AppArmor")]
    NoAppArmor(String),
    #[error("apparmor={0}: no such profile is loaded (apparmor_parser loads them; aa-status lists them)")]
    Profile(String),
    #[error("label={0}: this machine has no SELinux")]
    NoSeLinux(String),
    #[error("label={0:?} is not known: it is disable, user:…, role:…, type:…, level:… or filetype:…")]
    Label(String),
    #[error(
        "{0}: nothing on this machine can refuse a container devices (no devices controller of cgroup v1, no cgroup v2 alone)"
    )]
    NoGuard(&'static str),
    #[error("storage_opt: size: the writable layer of a container cannot be limited here")]
    RootQuota,
}

impl Asked {
    pub(super) fn gather(order: &Order, spec: &ContainerSpec) -> Result<Self, AskedError> {
        let isolation = &spec.service.isolation;
        check(order, spec)?;
        let mut devices = if isolation.privileged { host_device::all()? } else { Vec::new() };
        for device in &isolation.devices {
            devices.extend(host_device::find(device)?);
        }
        let mut edits = cdi::resolve(&isolation.requests, &order.cdi_dirs)?;
        devices.append(&mut edits.devices);
        // A later one takes the place of an earlier one.
        let mut last: Vec<HostDevice> = Vec::new();
        for device in devices {
            last.retain(|earlier| earlier.path != device.path);
            last.push(device);
        }
        let unlike = |device: &&HostDevice| is_everywhere(&device.path) && device.source != Path::new(&device.path);
        if let Some(device) = last.iter().find(unlike).filter(|_| order.ids.is_some()) {
            return Err(AskedError::Everywhere(device.path.clone(), device.source.display().to_string()));
        }
        let network = |(name, _): &(&String, &String)| name.starts_with("net.");
        let copy = |(name, value): (&String, &String)| (name.clone(), value.clone());
        let mut sysctls: BTreeMap<String, String> =
            isolation.sysctls.iter().filter(|one| !network(one)).map(copy).collect();
        // The embedded one is told the name itself; its system controls are written with the rights of the container's root, who may
        // not in a user namespace.
        if let Some(domain) = spec.service.names.domain.as_ref().filter(|_| order.runtime.is_some()) {
            sysctls.insert("kernel.domainname".to_owned(), domain.clone());
        }
        let network_sysctls = isolation.sysctls.iter().filter(network).map(copy).collect();
        let labels = labels(isolation, Path::new("/sys/fs/selinux/enforce").exists())?;
        Ok(Self { devices: last, edits, network_sysctls, sysctls, labels })
    }
}

/// What can be told without looking for anything.
fn check(order: &Order, spec: &ContainerSpec) -> Result<(), AskedError> {
    let isolation = &spec.service.isolation;
    let host = bounding();
    if isolation.cap_add != CapabilitySet::ALL
        && !isolation.privileged
        && let Some(missing) = isolation.cap_add.minus(host).iter().next()
    {
        return Err(AskedError::Capability(missing.name()));
    }
    if !order.device_guard {
        check_unguarded(isolation)?;
    }
    for (limit, range) in &isolation.limits {
        check_limit(*limit, *range, host)?;
    }
    for tmpfs in &isolation.tmpfs {
        if let Some(option) = unknown_option(&tmpfs.options) {
            return Err(AskedError::Tmpfs { target: tmpfs.target.clone(), option: option.to_owned() });
        }
    }
    for name in isolation.sysctls.keys() {
        check_sysctl(name, isolation, &spec.service.network)?;
    }
    if isolation.uts == Namespace::Host {
        if spec.service.hostname.is_some() {
            return Err(AskedError::Uts("hostname"));
        }
        if spec.service.names.domain.is_some() {
            return Err(AskedError::Uts("domainname"));
        }
    }
    if let Some(profile) = isolation.apparmor.as_deref().filter(|profile| *profile != "unconfined") {
        check_apparmor(profile)?;
    }
    if isolation.root_bytes.is_some() {
        return Err(AskedError::RootQuota);
    }
    Ok(())
}

/// What cannot be granted in part is not granted as a whole.
fn check_unguarded(isolation: &Isolation) -> Result<(), AskedError> {
    let makes = |set: CapabilitySet| Capability::parse("MKNOD").is_some_and(|makes| set.contains(makes));
    if isolation.devices.iter().any(|device| device.access != DeviceAccess::ALL) {
        return Err(AskedError::NoGuard("devices, with less than rwm"));
    }
    if !isolation.device_rules.is_empty() {
        return Err(AskedError::NoGuard("device_cgroup_rules"));
    }
    if isolation.cap_add != CapabilitySet::ALL && makes(isolation.cap_add) {
        return Err(AskedError::NoGuard("cap_add: MKNOD"));
    }
    Ok(())
}

fn check_limit(limit: Limit, range: LimitRange, host: CapabilitySet) -> Result<(), AskedError> {
    let wanted = || if range.hard == u64::MAX { "unlimited".to_owned() } else { range.hard.to_string() };
    if limit == Limit::Nofile {
        let most = fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
        if let Some(most) = most.filter(|most| range.hard > *most) {
            return Err(AskedError::Open { wanted: wanted(), most });
        }
    }
    let may_raise = Capability::parse("SYS_RESOURCE").is_some_and(|capability| host.contains(capability));
    match getrlimit(resource(limit)) {
        Ok((_, most)) if range.hard > most && !may_raise => {
            Err(AskedError::Limit { limit: limit.name(), wanted: wanted(), most })
        }
        // Where it cannot be read, the runtime says what it cannot set.
        _ => Ok(()),
    }
}

fn resource(limit: Limit) -> Resource {
    match limit {
        Limit::As => Resource::RLIMIT_AS,
        Limit::Core => Resource::RLIMIT_CORE,
        Limit::Cpu => Resource::RLIMIT_CPU,
        Limit::Data => Resource::RLIMIT_DATA,
        Limit::Fsize => Resource::RLIMIT_FSIZE,
        Limit::Locks => Resource::RLIMIT_LOCKS,
        Limit::Memlock => Resource::RLIMIT_MEMLOCK,
        Limit::Msgqueue => Resource::RLIMIT_MSGQUEUE,
        Limit::Nice => Resource::RLIMIT_NICE,
        Limit::Nofile => Resource::RLIMIT_NOFILE,
        Limit::Nproc => Resource::RLIMIT_NPROC,
        Limit::Rss => Resource::RLIMIT_RSS,
        Limit::Rtprio => Resource::RLIMIT_RTPRIO,
        Limit::Rttime => Resource::RLIMIT_RTTIME,
        Limit::Sigpending => Resource::RLIMIT_SIGPENDING,
        Limit::Stack => Resource::RLIMIT_STACK,
    }
}

fn check_sysctl(name: &str, isolation: &Isolation, network: &NetworkMode) -> Result<(), AskedError> {
    const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    let shared = |namespace, with| Err(AskedError::Shared { name: name.to_owned(), namespace, with });
    let ipc = name.starts_with("fs.mqueue.") || name.strip_prefix("kernel.").is_some_and(|rest| IPC.contains(&rest));
    if ipc && isolation.ipc == Ipc::Host {
        return shared("IPC", "the host");
    }
    if name.split('.').any(|part| part.is_empty() || part.chars().all(|c| c == '/')) {
        return Err(AskedError::Machine(name.to_owned()));
    }
    if name.starts_with("net.") {
        return match network {
            NetworkMode::None | NetworkMode::Networks(_) => Ok(()),
            NetworkMode::Host => shared("network", "the host"),
            NetworkMode::Service(_) | NetworkMode::Container(_) => shared("network", "another one; set it there"),
        };
    }
    match name {
        _ if ipc => Ok(()),
        "kernel.hostname" | "kernel.domainname" => Err(AskedError::OwnKey(name.to_owned())),
        _ => Err(AskedError::Machine(name.to_owned())),
    }
}

fn check_apparmor(profile: &str) -> Result<(), AskedError> {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'));
    if !enabled {
        return Err(AskedError::NoAppArmor(profile.to_owned()));
    }
    // Where the list cannot be read, the kernel says whether it knows the profile.
    let loaded = fs::read_to_string("/sys/kernel/security/apparmor/profiles");
    let named = |list: &str| list.lines().any(|line| line.rsplit_once(" (").is_some_and(|(name, _)| name == profile));
    if loaded.is_ok_and(|list| !named(&list)) { Err(AskedError::Profile(profile.to_owned())) } else { Ok(()) }
}

/// Without a label in the file nothing is labelled; with one, the rest of it is what containers have everywhere.
fn labels(isolation: &Isolation, selinux: bool) -> Result<Option<Labels>, AskedError> {
    let asked: Vec<&String> = isolation.labels.iter().filter(|label| *label != "disable").collect();
    if asked.len() < isolation.labels.len() || isolation.labels.is_empty() {
        return Ok(None);
    }
    let (mut user, mut role, mut kind, mut level) = ("system_u", "system_r", "container_t", "s0");
    let mut files = "container_file_t";
    for label in asked {
        match label.split_once(':') {
            Some(("user", value)) => user = value,
            Some(("role", value)) => role = value,
            Some(("type", value)) => kind = value,
            Some(("level", value)) => level = value,
            Some(("filetype", value)) => files = value,
            _ => return Err(AskedError::Label(label.clone())),
        }
        if !selinux {
            return Err(AskedError::NoSeLinux(label.clone()));
        }
    }
    let process = format!("{user}:{role}:{kind}:{level}");
    Ok(Some(Labels { process, files: format!("{user}:object_r:{files}:{level}") }))
}

/// Its path below /proc/sys: a slash in a name stands for a dot in an interface's.
pub(super) fn sysctl_path(name: &str) -> PathBuf {
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    Path::new("/proc/sys").join(name.chars().map(swap).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_made_whole_or_refused() {
        let ask = |labels: &[&str], selinux| {
            let labels = labels.iter().map(|label| (*label).to_owned()).collect();
            super::labels(&Isolation { labels, ..Isolation::default() }, selinux)
        };
        assert!(ask(&[], true).expect("none").is_none() && ask(&["disable"], false).expect("none").is_none());
        let both = ask(&["type:my_t", "level:s0:c1,c2"], true).expect("known").expect("some");
        assert_eq!(both.process, "system_u:system_r:my_t:s0:c1,c2");
        assert_eq!(both.files, "system_u:object_r:container_file_t:s0:c1,c2");
        assert!(matches!(ask(&["type:my_t"], false), Err(AskedError::NoSeLinux(_))));
        assert!(matches!(ask(&["colour:red"], true), Err(AskedError::Label(_))));
    }

    #[test]
    fn only_what_a_container_has_of_its_own_can_be_set() {
        let default = Isolation::default();
        let host = Isolation { ipc: Ipc::Host, ..Isolation::default() };
        let error = |name, isolation, network| check_sysctl(name, isolation, network).expect_err("refused").to_string();
        for name in ["net.core.somaxconn", "kernel.shmmax", "fs.mqueue.msg_max"] {
            assert!(check_sysctl(name, &default, &NetworkMode::None).is_ok(), "{name}");
        }
        assert!(error("net.core.somaxconn", &default, &NetworkMode::Host).contains("network namespace"));
        assert!(error("kernel.shmmax", &host, &NetworkMode::None).contains("IPC namespace"));
        assert!(error("vm.swappiness", &default, &NetworkMode::None).contains("whole machine"));
        assert!(error("kernel.hostname", &default, &NetworkMode::None).contains("key of its own"));
        assert_eq!(sysctl_path("net.ipv4.ip_forward"), Path::new("/proc/sys/net/ipv4/ip_forward"));
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/1.mtu"), Path::new("/proc/sys/net/ipv4/conf/eth0.1/mtu"));
        assert!(error("net.//.kernel.core_pattern", &default, &NetworkMode::None).contains("whole machine"));
    }
}
