//! The runtime's configuration of one container. Pure: reads no file, no clock, no environment.

mod mounts;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::cdi::Bind;
use super::device_filter;
use super::host_device::HostDevice;
use super::machine::Machine;
use super::privileges::Privileges;
use super::record::ImageDefaults;
use super::resources::{self, Blocks};
use crate::model::{Capability, CapabilitySet, ContainerSpec, Ipc, Isolation, Limit, LimitRange, Namespace, Process};
pub use mounts::{is_everywhere, unknown_option};

/// What the embedded runtime must still hold when our executor confines the command, beside what stays: for the seccomp program, and
/// for dropping from the bounding set. The executor drops them.
const WHILE_CONFINING: u64 = 1 << 21 | 1 << 8;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Soft and hard limit of open files.
pub const NOFILE: (u64, u64) = (1024, 524_288);
/// Where the init is put in a container that asks for one.
pub const INIT: &str = "/.longshore-init";

/// Who the command runs as: looked up in the image's root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// `HOME`.
    pub home: String,
}

/// What the configuration depends on beside the container itself.
#[derive(Debug, Clone)]
pub struct Surroundings<'a> {
    /// The mounted root.
    pub root: &'a Path,
    /// Where `hosts`, `hostname` and `resolv.conf` of the container are.
    pub etc: &'a Path,
    /// Absolute within each hierarchy.
    pub cgroup: &'a Path,
    /// What limits depend on.
    pub machine: &'a Machine,
    /// The block devices that its limits name.
    pub blocks: &'a Blocks,
    /// The init program on the host.
    pub init: &'a Path,
    /// The name of whom it shares the network with: the host, or another container.
    pub host_name: &'a str,
    /// What is hidden beside [`MASKED`], because this machine has it.
    pub masked: &'a [String],
    /// Where cgroups are seen in the container; nobody but a privileged one changes them.
    pub cgroup_mounts: &'a [String],
    /// The most open files we may allow.
    pub nofile_hard: u64,
    /// The container's `oom_score_adj`: the file's, or 0, so that the daemon's protection does not reach it.
    pub oom_score: i32,
    /// Whether it has a user namespace.
    pub own_users: bool,
    /// Devices of the host that it gets, with those by CDI.
    pub devices: &'a [HostDevice],
    /// Files and folders of the host that it gets by CDI.
    pub binds: &'a [Bind],
    /// Variables that it gets by CDI.
    pub variables: &'a [String],
    /// The system controls that the runtime sets; those of the network are set before.
    pub sysctls: &'a BTreeMap<String, String>,
    /// SELinux labels of its processes and of its files.
    pub labels: Option<&'a Labels>,
    /// Whether it gets a time namespace, where the kernel has them and the runtime knows of it.
    pub time_namespace: bool,
    /// What its processes may do.
    pub privileges: Privileges,
    /// Whether our own executor starts the command (it looks it up, and loads the seccomp program).
    pub embedded: bool,
}

/// SELinux labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// Of its processes.
    pub process: String,
    /// Of its files.
    pub files: String,
}

/// The command with its arguments, by Docker's rules: an entrypoint in the file discards the image's command.
#[must_use]
pub fn command(process: &Process, image: &ImageDefaults) -> Vec<String> {
    let entrypoint = process.entrypoint.as_ref().unwrap_or(&image.entrypoint);
    let command = match (&process.command, &process.entrypoint) {
        (Some(command), _) => command.as_slice(),
        (None, Some(_)) => &[],
        (None, None) => &image.command,
    };
    entrypoint.iter().chain(command).cloned().collect()
}

/// The working directory.
#[must_use]
pub fn working_dir<'a>(process: &'a Process, image: &'a ImageDefaults) -> &'a str {
    match process.working_dir.as_deref().unwrap_or(&image.working_dir) {
        "" => "/",
        dir => dir,
    }
}

/// The container's host name.
#[must_use]
pub fn host_name<'a>(spec: &'a ContainerSpec, outer: &'a str) -> &'a str {
    if spec.service.isolation.uts == Namespace::Host {
        return outer;
    }
    match &spec.service.hostname {
        Some(name) => name,
        None if spec.service.network.own() => spec.id.short(),
        None => outer,
    }
}

/// `config.json`.
#[must_use]
pub fn config(spec: &ContainerSpec, image: &ImageDefaults, who: &Identity, around: &Surroundings<'_>) -> Value {
    let process = &spec.service.process;
    let isolation = &spec.service.isolation;
    let host_name = host_name(spec, around.host_name);
    let mut args = command(process, image);
    if process.init && !around.embedded {
        let program = args.first().cloned().unwrap_or_default();
        args.splice(0..0, [INIT.to_owned(), "init".to_owned(), program]);
    }
    let open = isolation.privileged || isolation.unmasked;
    let masked = MASKED.iter().copied().chain(around.masked.iter().map(String::as_str));
    let read_only = READ_ONLY.into_iter().filter(|_| !open);
    // The embedded runtime mounts those of version 1 to be written to, whatever it is told.
    let cgroups = around.cgroup_mounts.iter().map(String::as_str).filter(|_| !isolation.privileged);
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": process.tty,
            "user": { "uid": who.uid, "gid": who.gid, "additionalGids": who.groups },
            "args": args,
            "env": environment(process, image, host_name, &who.home, around.variables),
            "cwd": working_dir(process, image),
            "capabilities": capabilities(who.uid == 0, around),
            "oomScoreAdj": around.oom_score,
            "rlimits": limits(isolation, around),
        },
        "root": { "path": around.root, "readonly": spec.service.read_only },
        "mounts": mounts::mounts(spec, around),
        "annotations": spec.service.annotations,
        "linux": {
            "cgroupsPath": around.cgroup,
            "namespaces": namespaces(isolation, around.time_namespace),
            "devices": around.devices.iter().filter(|d| mounts::made(d, around)).map(HostDevice::oci).collect::<Vec<_>>(),
            "resources": resources::oci(
                &spec.service.resources,
                around.machine,
                around.blocks,
                device_filter::oci(&device_filter::allowed(isolation, around.devices)),
            ),
            "maskedPaths": if open { Vec::new() } else { masked.collect() },
            "readonlyPaths": read_only.chain(cgroups).collect::<Vec<_>>(),
        },
    });
    if isolation.uts == Namespace::Private {
        config["hostname"] = host_name.into();
        // Runtimes of before OCI 1.1 pass over it: others get a system control.
        if let Some(domain) = spec.service.names.domain.as_deref().filter(|_| around.embedded) {
            config["domainname"] = domain.into();
        }
    }
    if !around.sysctls.is_empty() {
        config["linux"]["sysctl"] = json!(around.sysctls);
    }
    if let Some(profile) = isolation.apparmor.as_deref().filter(|profile| *profile != "unconfined") {
        config["process"]["apparmorProfile"] = profile.into();
    }
    if let Some(labels) = around.labels {
        config["linux"]["mountLabel"] = labels.files.as_str().into();
        config["process"]["selinuxLabel"] = labels.process.as_str().into();
    }
    // Written out as false it would mean something else to the embedded runtime, whose commands our executor confines.
    if around.privileges.no_new_privileges && !around.embedded {
        config["process"]["noNewPrivileges"] = true.into();
    }
    config
}

fn namespaces(isolation: &Isolation, time: bool) -> Vec<Value> {
    let own = [
        ("mount", true),
        ("pid", isolation.pid == Namespace::Private),
        ("ipc", isolation.ipc != Ipc::Host),
        ("uts", isolation.uts == Namespace::Private),
        ("cgroup", isolation.cgroup == Namespace::Private),
        ("time", time),
    ];
    own.iter().filter(|(_, own)| *own).map(|(name, _)| json!({ "type": name })).collect()
}

/// The file's limits, and that of open files where the file is silent.
fn limits(isolation: &Isolation, around: &Surroundings<'_>) -> Vec<Value> {
    let usual = LimitRange { soft: NOFILE.0.min(around.nofile_hard), hard: NOFILE.1.min(around.nofile_hard) };
    let mut limits = BTreeMap::from([(Limit::Nofile, usual)]);
    limits.extend(&isolation.limits);
    let written = limits.iter().map(|(limit, range)| {
        json!({
            "type": format!("RLIMIT_{}", limit.name().to_ascii_uppercase()),
            "soft": range.soft,
            "hard": range.hard,
        })
    });
    written.collect()
}

/// Hidden in every container, as Docker does.
pub const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn capabilities(root: bool, around: &Surroundings<'_>) -> Value {
    let names = |set: CapabilitySet| set.iter().map(Capability::name).collect::<Vec<_>>();
    let given = around.privileges.capabilities;
    if around.embedded {
        let held = names(given.union(CapabilitySet::from_mask(WHILE_CONFINING)));
        return json!({ "bounding": held, "effective": held, "permitted": held, "inheritable": [], "ambient": [] });
    }
    // An external runtime is told that a user who is not root holds none; our executor does it by itself.
    let held = if root { names(given) } else { Vec::new() };
    json!({ "bounding": names(given), "effective": held, "permitted": held, "inheritable": [], "ambient": [] })
}

/// Docker's own variables, then the image's, the devices', the file's; a later one takes the place of an earlier one.
fn environment(
    process: &Process,
    image: &ImageDefaults,
    host_name: &str,
    home: &str,
    devices: &[String],
) -> Vec<String> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: Option<&str>| {
        variables.retain(|(n, _)| n != name || value.is_some());
        match (variables.iter_mut().find(|(n, _)| n == name), value) {
            (Some(variable), Some(value)) => value.clone_into(&mut variable.1),
            (None, Some(value)) => variables.push((name.to_owned(), value.to_owned())),
            (_, None) => {}
        }
    };
    set("PATH", Some(DEFAULT_PATH));
    set("HOSTNAME", Some(host_name));
    if process.tty {
        set("TERM", Some("xterm"));
    }
    set("HOME", Some(home));
    for variable in image.environment.iter().chain(devices) {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        if !name.is_empty() {
            set(name, Some(value));
        }
    }
    for variable in &process.environment {
        set(&variable.name, variable.value.as_deref());
    }
    variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::record::tests::sample;

    #[test]
    fn the_whole_configuration() {
        let image = ImageDefaults {
            entrypoint: vec!["/entry".into()],
            command: vec!["serve".into()],
            environment: vec!["PATH=/bin".into(), "KEEP=1".into(), "GONE=1".into(), "ODD".into()],
            ..ImageDefaults::default()
        };
        let around = Surroundings {
            root: Path::new("/run/x/rootfs"),
            etc: Path::new("/data/x/etc"),
            cgroup: Path::new("/longshore/i/x"),
            machine: &crate::container::machine::tests::complete(crate::container::machine::Version::One),
            blocks: &Blocks::default(),
            init: Path::new("/data/bin/follower"),
            host_name: "host",
            masked: &["/sys/devices/system/cpu/cpu0/thermal_throttle".to_owned()],
            cgroup_mounts: &["/sys/fs/cgroup".to_owned(), "/sys/fs/cgroup/pids".to_owned()],
            nofile_hard: 20_000,
            oom_score: 0,
            own_users: false,
            devices: &[],
            binds: &[],
            variables: &[],
            sysctls: &BTreeMap::new(),
            labels: None,
            time_namespace: true,
            privileges: Privileges { capabilities: CapabilitySet::DOCKER, no_new_privileges: false },
            embedded: true,
        };
        let who = Identity { uid: 33, gid: 44, groups: vec![55], home: "/var/www".into() };
        let config = config(&sample(), &image, &who, &around);
        insta::assert_snapshot!(serde_json::to_string_pretty(&config).expect("JSON"));
    }

    #[test]
    fn an_entrypoint_in_the_file_discards_the_images_command() {
        let texts = |t: &[&str]| t.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let image = ImageDefaults { entrypoint: texts(&["e"]), command: texts(&["c"]), ..ImageDefaults::default() };
        let process = |entrypoint: Option<&[&str]>, command: Option<&[&str]>| Process {
            entrypoint: entrypoint.map(texts),
            command: command.map(texts),
            ..Process::default()
        };
        assert_eq!(command(&process(None, None), &image), ["e", "c"]);
        assert_eq!(command(&process(None, Some(&["x"])), &image), ["e", "x"]);
        assert_eq!(command(&process(Some(&["y"]), None), &image), ["y"]);
        assert_eq!(command(&process(Some(&[]), Some(&["x"])), &image), ["x"]);
    }
}
