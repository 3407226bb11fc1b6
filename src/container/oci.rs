//! The runtime's configuration of one container. Pure: reads no file, no clock, no environment.

use std::path::Path;

use serde_json::{Value, json};

use super::machine::Machine;
use super::record::ImageDefaults;
use super::resources::{self, Blocks};
use crate::model::{ContainerSpec, NetworkMode, Process};

/// Docker's fourteen, by their numbers.
pub const CAPABILITIES: [(u8, &str); 14] = [
    (0, "CAP_CHOWN"),
    (1, "CAP_DAC_OVERRIDE"),
    (3, "CAP_FOWNER"),
    (4, "CAP_FSETID"),
    (5, "CAP_KILL"),
    (6, "CAP_SETGID"),
    (7, "CAP_SETUID"),
    (8, "CAP_SETPCAP"),
    (10, "CAP_NET_BIND_SERVICE"),
    (13, "CAP_NET_RAW"),
    (18, "CAP_SYS_CHROOT"),
    (27, "CAP_MKNOD"),
    (29, "CAP_AUDIT_WRITE"),
    (31, "CAP_SETFCAP"),
];
/// What the embedded runtime must still hold when our executor loads the seccomp program, beside [`CAPABILITIES`]; the executor
/// drops it. (`CAP_SETPCAP`, which dropping needs, is among the fourteen.)
const WHILE_LOADING: &str = "CAP_SYS_ADMIN";

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const NOFILE: (u64, u64) = (1024, 524_288);
/// Where the init is put in a container that asks for one.
pub const INIT: &str = "/.longshore-init";

/// The default capabilities as a bit mask; see [`Surroundings::device_guard`].
#[must_use]
pub fn capability_mask(device_guard: bool) -> u64 {
    granted(device_guard).fold(0, |mask, (number, _)| mask | 1 << number)
}

fn granted(device_guard: bool) -> impl Iterator<Item = (u8, &'static str)> {
    CAPABILITIES.into_iter().filter(move |(_, name)| device_guard || *name != "CAP_MKNOD")
}

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
    /// The host's name, for containers on its network.
    pub host_name: &'a str,
    /// What is hidden beside [`MASKED`], because this machine has it.
    pub masked: &'a [String],
    /// The most open files we may allow.
    pub nofile_hard: u64,
    /// The container's `oom_score_adj`: 0, so that the daemon's protection does not reach it.
    pub oom_score: i32,
    /// Whether devices that are not meant for containers are refused; where nothing does, none can be made.
    pub device_guard: bool,
    /// Whether our own executor starts the command (it looks it up, and loads the seccomp program).
    pub embedded: bool,
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
pub fn host_name<'a>(spec: &'a ContainerSpec, host: &'a str) -> &'a str {
    match (&spec.service.hostname, spec.service.network) {
        (Some(name), _) => name,
        (None, NetworkMode::Host) => host,
        (None, NetworkMode::None) => spec.id.short(),
    }
}

/// `config.json`.
#[must_use]
pub fn config(spec: &ContainerSpec, image: &ImageDefaults, who: &Identity, around: &Surroundings<'_>) -> Value {
    let process = &spec.service.process;
    let host_name = host_name(spec, around.host_name);
    let mut args = command(process, image);
    if process.init && !around.embedded {
        let program = args.first().cloned().unwrap_or_default();
        args.splice(0..0, [INIT.to_owned(), "init".to_owned(), program]);
    }
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": process.tty,
            "user": { "uid": who.uid, "gid": who.gid, "additionalGids": who.groups },
            "args": args,
            "env": environment(process, image, host_name, &who.home),
            "cwd": working_dir(process, image),
            "capabilities": capabilities(who.uid == 0, around),
            "oomScoreAdj": around.oom_score,
            "rlimits": [{
                "type": "RLIMIT_NOFILE",
                "soft": NOFILE.0.min(around.nofile_hard),
                "hard": NOFILE.1.min(around.nofile_hard),
            }],
        },
        "root": { "path": around.root, "readonly": spec.service.read_only },
        "hostname": host_name,
        "mounts": mounts(process.init, around),
        "annotations": spec.service.annotations,
        "linux": {
            "cgroupsPath": around.cgroup,
            "namespaces": [
                { "type": "mount" }, { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "cgroup" },
            ],
            "resources": resources::oci(
                &spec.service.resources,
                around.machine,
                around.blocks,
                json!([{ "allow": false, "access": "rwm" }]),
            ),
            "maskedPaths": MASKED.iter().copied().chain(around.masked.iter().map(String::as_str)).collect::<Vec<_>>(),
            "readonlyPaths": READ_ONLY,
        },
    })
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
    let embedded = around.embedded;
    let mut names: Vec<&str> = granted(around.device_guard).map(|(_, name)| name).collect();
    if embedded {
        names.push(WHILE_LOADING);
    }
    // An external runtime is told that a user who is not root holds none; our executor does it by itself.
    let held = if root || embedded { names.clone() } else { Vec::new() };
    json!({ "bounding": names, "effective": held, "permitted": held, "inheritable": [], "ambient": [] })
}

fn mounts(init: bool, around: &Surroundings<'_>) -> Vec<Value> {
    let mount = |kind: &str, source: &str, at: &str, options: &[&str]| json!({ "type": kind, "source": source, "destination": at, "options": options });
    let bind = |source: &Path, at: &str, options: &[&str]| json!({ "type": "bind", "source": source, "destination": at, "options": options });
    let mut mounts = vec![
        mount("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"]),
        mount("tmpfs", "tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "devpts",
            "devpts",
            "/dev/pts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("sysfs", "sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
        mount("cgroup", "cgroup", "/sys/fs/cgroup", &["ro", "nosuid", "noexec", "nodev"]),
        mount("mqueue", "mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
        mount("tmpfs", "shm", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]),
    ];
    for name in ["resolv.conf", "hostname", "hosts"] {
        mounts.push(bind(&around.etc.join(name), &format!("/etc/{name}"), &["rbind", "rprivate"]));
    }
    if init {
        mounts.push(bind(around.init, INIT, &["bind", "ro", "nosuid", "nodev"]));
    }
    mounts
}

/// Docker's own variables, then the image's, then the file's; a later one takes the place of an earlier one.
fn environment(process: &Process, image: &ImageDefaults, host_name: &str, home: &str) -> Vec<String> {
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
    for variable in &image.environment {
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
            nofile_hard: 20_000,
            oom_score: 0,
            device_guard: true,
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

    #[test]
    fn where_nothing_refuses_devices_none_can_be_made() {
        assert_eq!(capability_mask(true), 0xa804_25fb);
        assert_eq!(capability_mask(true) ^ capability_mask(false), 1 << 27);
    }
}
