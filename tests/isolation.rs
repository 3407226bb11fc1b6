//! What a container may do, seen from inside, line by line: under the defaults against the stored answer of another engine, and what
//! each widening switch changes. As root; `--nocapture` prints the tables.

mod isolation_support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use isolation_support::{Facts, Place, differences, facts, print};
use longshore::container::{Runtime, Settings};
use longshore::model::{
    Capability, CapabilitySet, Device, DeviceAccess, DeviceKind, DeviceRule, Ipc, Isolation, Limit, LimitRange,
    Namespace, NetworkMode, Seccomp, Service, Tmpfs,
};

/// Ours, where it differs from Docker 20.10's, and why. A value that begins with `<` is a rule.
const DIFFERENT: [(&str, &str, &str); 54] = [
    ("CapBnd", "00000000800405fb", "podman's eleven: not AUDIT_WRITE, MKNOD, NET_RAW"),
    ("CapEff", "00000000800405fb", "the same"),
    ("CapPrm", "00000000800405fb", "the same"),
    ("cgroup", "<roots>", "its own cgroup namespace: what it is in is called /"),
    ("devices.list", "<without tun>", "no tunnel device"),
    ("io_uring", "EPERM", "refused by the current profile"),
    ("limit Max open files", "<1024 to 524288>", "fixed, not what the daemon happens to have"),
    ("mknod_null", "EPERM", "no CAP_MKNOD"),
    ("mknod_null_open", "EPERM", "the same"),
    ("name_to_handle", "EOPNOTSUPP", "wider: the current profile allows it (2021); opening by handle is refused"),
    ("namespace cgroup", "its own", "see cgroup"),
    ("namespace time", "<time>", "its own where the kernel has them and the runtime knows of it"),
    ("namespace time_for_children", "<time>", "the same"),
    ("open fds", "0->/dev/null 1->pipe 2->pipe", "the stored answer is an earlier probe's, which counted its own"),
    ("pids.max v1", "<version>", "a limit by default"),
    (
        "process_vm_readv",
        "ALLOWED",
        "wider: the current profile allows it since kernel 4.8, as ptrace; of its own processes",
    ),
    ("read /proc/interrupts", "null", "masked"),
    ("sock_alg", "EPERM", "refused by the current profile, whatever the kernel has"),
    ("sock_packet", "EPERM", "no CAP_NET_RAW"),
    ("sock_raw_icmp", "EPERM", "no CAP_NET_RAW"),
    ("sock_vsock", "EPERM", "refused by the current profile: it leads to the hypervisor"),
    // What the machine decides, by rule.
    ("/dev", "<core>", "/dev/core, where the kernel has the (masked) file that it leads to"),
    ("limit Max processes", "<host>", "inherited"),
    ("limit Max pending signals", "<host>", "inherited"),
    ("limit Max locked memory", "<host>", "inherited"),
    ("limit Max core file size", "<host>", "inherited"),
    ("limit Max stack size", "<host>", "inherited"),
    ("read /proc/config.gz", "<kernel>", "a file that this kernel may not have"),
    ("read /proc/modules", "<kernel>", "a file that this kernel may not have"),
    ("read /sys/class/dmi/id", "<kernel>", "the same"),
    ("read /proc/acpi", "<masked>", "masked, or not there"),
    ("read /proc/asound", "<masked>", "masked, or not there"),
    ("read /proc/kcore", "<masked>", "masked, or not there"),
    ("read /proc/latency_stats", "<masked>", "masked, or not there"),
    ("read /proc/sched_debug", "<masked>", "masked, or not there"),
    ("read /proc/scsi", "<masked>", "masked, or not there"),
    ("read /proc/keys", "<masked>", "masked, or not there"),
    ("read /proc/timer_list", "<masked>", "masked, or not there"),
    ("read /sys/devices/virtual/powercap", "<masked>", "masked, or not there"),
    ("read /sys/devices/system/cpu/cpu0/thermal_throttle", "<masked>", "masked, or not there"),
    ("read /sys/firmware", "<masked>", "masked, or not there"),
    ("write /proc/sysrq-trigger", "<closed>", "refused, or not there"),
    ("write /proc/sys/kernel/modprobe", "<closed>", "refused, or not there"),
    ("write /sys/kernel/uevent_helper", "<closed>", "refused, or not there"),
    ("write /proc/mtrr", "<closed>", "refused, or not there"),
    ("write /sys/power/state", "<closed>", "refused, or not there"),
    ("write /proc/bus/pci", "<closed>", "refused, or not there"),
    ("write /sys/fs/cgroup/cgroup.procs", "<closed>", "refused, or not there"),
    ("write /sys/fs/cgroup/memory/cgroup.procs", "<closed>", "refused, or not there"),
    ("write /sys/fs/cgroup/memory/release_agent", "<closed>", "refused, or not there"),
    ("write /sys/fs/cgroup/devices/devices.allow", "<closed>", "refused, or not there"),
    ("memory.limit v1", "<version>", "by the version of cgroups"),
    ("memory.max v2", "<version>", "by the version of cgroups"),
    ("pids.max v2", "<version>", "by the version of cgroups"),
];

/// Mounts that may be written to, or hold no data: everything else must be read-only.
fn may_be_written(mount: &str) -> bool {
    let masked = [
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/timer_list",
        "/proc/timer_stats",
    ];
    let own = ["/", "/proc", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
    own.contains(&mount) || mount.starts_with("/dev/") || masked.contains(&mount)
}

fn version_2() -> bool {
    fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_ok()
}

fn host_limit(name: &str) -> String {
    let text = fs::read_to_string("/proc/self/limits").expect("limits");
    let line = text.lines().find(|line| line.starts_with(name)).expect("a limit");
    line[26..].split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

fn follows(rule: &str, key: &str, docker: &str, ours: &str, runtime: &Runtime) -> bool {
    match rule {
        "<roots>" => ours.lines().all(|line| line.ends_with(":/")),
        "<without tun>" if version_2() => ours == "ENOENT",
        "<without tun>" => ours == docker.replace("c 10:200 rwm, ", ""),
        "<version>" => {
            let there = key.ends_with("v2") == version_2();
            match key.split(' ').next() {
                _ if !there => ours == "ENOENT",
                Some("pids.max") => ours == "4096",
                _ => matches!(ours, "max" | "9223372036854771712"),
            }
        }
        "<core>" => ours == format!("core {docker}"),
        "<masked>" => matches!(ours, "ENOENT" | "null" | "empty dir"),
        "<closed>" => matches!(ours, "ENOENT" | "EROFS" | "EPERM" | "EACCES" | "EISDIR"),
        "<1024 to 524288>" => {
            let hard: u64 =
                host_limit("Max open files").split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
            let may_raise = longshore::container::held_back().iter().all(|note| !note.contains("open"));
            let hard = if may_raise { 524_288 } else { hard.min(524_288) };
            ours == format!("1024 {hard}")
        }
        "<time>" => {
            let there = fs::metadata("/proc/self/ns/time").is_ok() && *runtime == Runtime::Embedded;
            ours == if there { "its own" } else { docker }
        }
        "<host>" => ours == host_limit(key.strip_prefix("limit ").expect("a limit")),
        "<kernel>" => {
            let path = key.strip_prefix("read ").expect("a file");
            fs::metadata(path).is_ok() != (ours == "ENOENT")
        }
        value => ours == value,
    }
}

async fn defaults_against_docker(runtime: Runtime) {
    let place = Place::new(runtime.clone());
    let docker = facts(include_str!("fixtures/probe-docker20.json"));
    let ours = place.facts(|_| {}).await;
    let (mounts, ours): (Facts, Facts) = ours.into_iter().partition(|(key, _)| key.starts_with("mount /"));
    let found = differences(&docker, &ours);
    println!("\n{runtime:?}: Docker 20.10 -> ours");
    let mut unexplained = Vec::new();
    for (key, (theirs, here)) in &found {
        let known = DIFFERENT.iter().find(|(name, ..)| name == key);
        let fits = known.is_some_and(|(_, rule, _)| follows(rule, key, theirs, here, &runtime));
        println!("  {key:<32} {theirs:<24.24} -> {here:<24.24} {}", known.map_or("?", |(.., why)| why));
        if !fits {
            unexplained.push(format!("{key}: {theirs} -> {here}"));
        }
    }
    assert!(unexplained.is_empty(), "not explained: {unexplained:#?}");
    // A line of the table that no longer differs is out of date, but for what the machine decides.
    for (key, rule, _) in DIFFERENT.iter().filter(|(_, rule, _)| !rule.starts_with('<')) {
        assert!(found.contains_key(*key), "{key} does not differ: {rule}");
    }
    let open: Vec<_> = mounts
        .iter()
        .filter(|(key, value)| {
            let options = value.rsplit(' ').next().unwrap_or("");
            !options.split(',').any(|o| o == "ro") && !may_be_written(key.strip_prefix("mount ").unwrap_or(""))
        })
        .collect();
    assert!(open.is_empty(), "may be written to: {open:#?}");
}

#[tokio::test]
async fn nothing_is_wider_than_dockers_but_what_is_explained() {
    defaults_against_docker(Runtime::Embedded).await;
}

#[tokio::test]
async fn the_same_with_runc() {
    defaults_against_docker(Runtime::External("/usr/sbin/runc".into())).await;
}

struct Switches {
    place: Place,
    base: Facts,
}

impl Switches {
    async fn new() -> Self {
        let place = Place::new(Runtime::Embedded);
        let base = place.facts(|_| {}).await;
        Self { place, base }
    }

    /// Exactly these lines change, to these values (`*`: to anything else; `?`: or not, as the kernel was built).
    async fn change(&self, title: &str, change: impl FnOnce(&mut Service), wanted: &[(&str, &str)]) {
        let changed = differences(&self.base, &self.place.facts(change).await);
        print(title, &changed);
        // What this machine does not have cannot change.
        let absent = |key: &str| {
            self.base.get(key).is_some_and(|value| value == "ENOENT")
                && ["devices.list", "write /sys/fs/cgroup", "write /proc", "read /proc"]
                    .iter()
                    .any(|p| key.starts_with(p))
        };
        let wanted: Vec<_> = wanted.iter().filter(|(key, _)| !absent(key)).collect();
        let may: BTreeSet<&str> = wanted.iter().filter(|(_, value)| *value == "?").map(|(key, _)| *key).collect();
        let keys: BTreeSet<&str> = changed.keys().map(String::as_str).filter(|key| !may.contains(key)).collect();
        let expected: BTreeSet<&str> = wanted.iter().map(|(key, _)| *key).filter(|key| !may.contains(key)).collect();
        assert_eq!(keys, expected, "{title}");
        for (key, value) in wanted.iter().filter(|(_, value)| !matches!(*value, "*" | "?")) {
            assert_eq!(changed[*key].1, *value, "{title}: {key}");
        }
    }

    async fn isolation(&self, title: &str, isolation: Isolation, wanted: &[(&str, &str)]) {
        self.change(title, |service| service.isolation = isolation, wanted).await;
    }
}

fn set(names: &[&str]) -> CapabilitySet {
    names.iter().map(|n| Capability::parse(n).expect("a name")).fold(CapabilitySet::NONE, CapabilitySet::with)
}

#[tokio::test]
async fn capabilities_change_their_own_lines() {
    let switches = Switches::new().await;
    let caps = |mask: &'static str| [("CapBnd", mask), ("CapEff", mask), ("CapPrm", mask)];
    let add = |names: &[&str]| Isolation { cap_add: set(names), ..Isolation::default() };
    let raw = [("sock_packet", "ALLOWED"), ("sock_raw_icmp", "ALLOWED")];
    let wanted: Vec<_> = caps("00000000800425fb").into_iter().chain(raw).collect();
    switches.isolation("cap_add: NET_RAW", add(&["NET_RAW"]), &wanted).await;
    let time = [("settimeofday_null", "ALLOWED")];
    let wanted: Vec<_> = caps("00000000820405fb").into_iter().chain(time).collect();
    switches.isolation("cap_add: SYS_TIME", add(&["SYS_TIME"]), &wanted).await;
    let none = Isolation { cap_drop: CapabilitySet::ALL, ..Isolation::default() };
    let mut wanted = caps("0000000000000000").to_vec();
    wanted.extend([("chroot_", "EPERM"), ("setgroups_0", "EPERM"), ("mknod_mem_open", "EPERM")]);
    wanted.retain(|(key, _)| *key != "mknod_mem_open");
    switches.isolation("cap_drop: ALL", none, &wanted).await;
    let missing = set(&["SYS_RESOURCE"]).minus(longshore::container::confine::bounding());
    if !missing.is_empty() {
        let error = switches.place.error(|s| s.isolation.cap_add = missing).await;
        assert!(error.contains("cap_add") && error.contains("CAP_SYS_RESOURCE"), "{error}");
    }
}

#[tokio::test]
async fn users_and_no_new_privileges_change_their_own_lines() {
    let switches = Switches::new().await;
    let nnp = |value| Isolation { no_new_privileges: Some(value), ..Isolation::default() };
    switches.isolation("no-new-privileges", nnp(true), &[("NoNewPrivs", "1")]).await;
    switches.isolation("no-new-privileges: false", nnp(false), &[]).await;
    let user = [
        ("uid:gid", "4711:815"),
        ("Groups", "55 815 "),
        ("CapEff", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("chroot_", "EPERM"),
        ("setgroups_0", "EPERM"),
        ("setuid0", "EPERM"),
        ("chown_root", "EPERM"),
        ("rootfs writable", "EACCES"),
        ("write /etc/hosts", "EACCES"),
        ("write /etc/hostname", "EACCES"),
        ("write /etc/resolv.conf", "EACCES"),
        ("write /ok", "EACCES"),
        ("read /proc/kmsg", "EACCES"),
        ("read /proc/kpagecount", "EACCES"),
        ("read /proc/slabinfo", "EACCES"),
        ("read /proc/vmallocinfo", "EACCES"),
        ("write /proc/mtrr", "EACCES"),
        ("write /sys/class/net/lo/mtu", "EACCES"),
        ("write /sys/fs/cgroup/devices/devices.allow", "EACCES"),
        ("write /sys/fs/cgroup/memory/cgroup.procs", "EACCES"),
        ("write /sys/power/state", "EACCES"),
        ("write /proc/irq/default_smp_affinity", "EACCES"),
        ("write /proc/sys/kernel/core_pattern", "EACCES"),
        ("write /proc/sys/kernel/hostname", "EACCES"),
        ("write /proc/sys/net/ipv4/ip_forward", "EACCES"),
        ("write /proc/sys/vm/drop_caches", "EACCES"),
    ];
    let change = |service: &mut Service| {
        service.process.user = Some("4711:815".into());
        service.isolation.groups = vec!["logs".into()];
    };
    switches.change("user: 4711:815, group_add: logs", change, &user).await;
    let error = switches.place.error(|s| s.isolation.groups = vec!["nobody-here".into()]).await;
    assert!(error.contains("no group \"nobody-here\" in /etc/group of the image"), "{error}");
}

/// Where the kernel answers for itself, its answer depends on how it was built.
const SECCOMP_OFF: [(&str, &str); 30] = [
    ("Seccomp", "0"),
    ("Seccomp_filters", "0"),
    ("add_key", "ALLOWED"),
    ("clone3", "EINVAL"),
    ("clone_newuser", "ALLOWED"),
    ("delete_module", "?"),
    ("finit_module", "?"),
    ("init_module", "?"),
    ("io_uring", "?"),
    ("ioperm", "?"),
    ("iopl", "?"),
    ("kcmp", "ALLOWED"),
    ("kexec_load", "?"),
    ("keyctl", "ALLOWED"),
    ("lookup_dcookie", "?"),
    ("move_pages", "ALLOWED"),
    ("open_by_handle_at", "?"),
    ("perf", "?"),
    ("personality_norandom", "ALLOWED"),
    ("pidfd_getfd", "EBADF"),
    ("quotactl", "?"),
    ("request_key", "ENOKEY"),
    ("set_mempolicy", "ALLOWED"),
    ("sock_alg", "?"),
    ("sock_vsock", "?"),
    ("sysfs", "?"),
    ("umount_proc_kcore", "?"),
    ("unshare_user", "ALLOWED"),
    ("userns_mount", "ALLOWED"),
    ("ustat", "EINVAL"),
];

#[tokio::test]
async fn seccomp_changes_its_own_lines() {
    let switches = Switches::new().await;
    let seccomp = |seccomp| Isolation { seccomp, ..Isolation::default() };
    switches.isolation("seccomp=unconfined", seccomp(Seccomp::Unconfined), &SECCOMP_OFF).await;
    let own = r#"{ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["keyctl", "kcmp"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 },
        { "name": "add_key", "action": "SCMP_ACT_KILL_PROCESS" },
        { "name": "ustat", "action": "SCMP_ACT_TRAP" },
        { "name": "socket", "action": "SCMP_ACT_ERRNO", "args": [ { "index": 0, "value": 40, "op": "SCMP_CMP_EQ" } ] },
        { "name": "clone", "action": "SCMP_ACT_ERRNO",
          "args": [ { "index": 0, "value": 268435456, "valueTwo": 268435456, "op": "SCMP_CMP_MASKED_EQ" } ] } ] }"#;
    let mut wanted: BTreeMap<&str, &str> = SECCOMP_OFF.into_iter().collect();
    for key in ["Seccomp", "Seccomp_filters", "sock_vsock", "clone_newuser"] {
        wanted.remove(key);
    }
    wanted.extend([("keyctl", "EOPNOTSUPP"), ("kcmp", "EOPNOTSUPP"), ("add_key", "SIGNAL 31"), ("ustat", "SIGNAL 31")]);
    let wanted: Vec<_> = wanted.into_iter().collect();
    switches.isolation("seccomp=FILE", seccomp(Seccomp::Profile(own.into())), &wanted).await;
    let notify = Seccomp::Profile(r#"{ "defaultAction": "SCMP_ACT_NOTIFY" }"#.into());
    let error = switches.place.error(|s| s.isolation.seccomp = notify).await;
    assert!(error.contains("SCMP_ACT_NOTIFY"), "{error}");
    let runc = Place::new(Runtime::External("/usr/sbin/runc".into()));
    let base = runc.facts(|_| {}).await;
    let by_runc = Switches { place: runc, base };
    by_runc.isolation("seccomp=FILE by runc", seccomp(Seccomp::Profile(own.into())), &wanted).await;
}

#[tokio::test]
async fn namespaces_of_the_host_change_their_own_lines() {
    let switches = Switches::new().await;
    let host = "the host's";
    let private = Isolation::default();
    let uts = Isolation { uts: Namespace::Host, ..private.clone() };
    switches.isolation("uts: host", uts, &[("namespace uts", host), ("variable HOSTNAME", "*")]).await;
    let cgroup = Isolation { cgroup: Namespace::Host, ..private.clone() };
    switches.isolation("cgroup: host", cgroup, &[("namespace cgroup", host), ("cgroup", "*")]).await;
    let ipc = Isolation { ipc: Ipc::Host, ..private.clone() };
    switches.isolation("ipc: host", ipc, &[("namespace ipc", host), ("mount /dev/shm", "*")]).await;
    let none = Isolation { ipc: Ipc::None, ..private.clone() };
    let entries = "fd full mqueue null ptmx pts random stderr stdin stdout tty urandom zero";
    switches.isolation("ipc: none", none, &[("/dev", entries), ("mount /dev/shm", "-")]).await;
    // The probe refuses to run but as process 1; so its refusal is what can be seen.
    let pid = switches.place.run(|s| {
        s.isolation.pid = Namespace::Host;
        s.process.command = Some(vec!["/probe".into(), "x".into()]);
    });
    assert_eq!(pid.await.expect("it starts"), "", "it is not process 1");
    let error = switches.place.error(|s| {
        s.isolation.uts = Namespace::Host;
        s.hostname = Some("x".into());
    });
    assert!(error.await.contains("hostname: the container shares the UTS namespace"), "hostname and uts: host");
}

#[tokio::test]
async fn paths_and_memory_change_their_own_lines() {
    let switches = Switches::new().await;
    let unmasked = Isolation { unmasked: true, ..Isolation::default() };
    let masked =
        ["acpi", "interrupts", "keys", "timer_list", "kcore", "latency_stats", "sched_debug", "scsi", "asound"];
    let there = |name: &str| switches.base.contains_key(&format!("mount /proc/{name}"));
    let mut wanted: Vec<(String, &str)> = Vec::new();
    for name in masked.iter().filter(|name| there(name)) {
        wanted.push((format!("mount /proc/{name}"), "-"));
        // What can be read of it shows only where it is not empty.
        if *name != "acpi" {
            wanted.push((format!("read /proc/{name}"), "OPEN"));
        }
    }
    for name in ["bus", "fs", "irq", "sys"] {
        wanted.push((format!("mount /proc/{name}"), "-"));
    }
    wanted.push(("mount /sys/firmware".into(), "-"));
    wanted.push(("read /sys/firmware".into(), "*"));
    for path in [
        "irq/default_smp_affinity",
        "sys/kernel/core_pattern",
        "sys/kernel/hostname",
        "sys/net/ipv4/ip_forward",
        "sys/vm/drop_caches",
    ] {
        wanted.push((format!("write /proc/{path}"), "OPEN"));
    }
    let wanted: Vec<_> = wanted.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    switches.isolation("systempaths=unconfined", unmasked, &wanted).await;
    let tmpfs = |options: &[&str]| Isolation {
        tmpfs: vec![Tmpfs { target: "/run/x".into(), options: options.iter().map(|o| (*o).to_owned()).collect() }],
        ..Isolation::default()
    };
    let at = |options: &'static str| [("mount /run/x", options)];
    switches.isolation("tmpfs", tmpfs(&[]), &at("tmpfs rw,nosuid,nodev,noexec,relatime")).await;
    switches
        .isolation("tmpfs: exec", tmpfs(&["exec", "size=1m", "mode=700"]), &at("tmpfs rw,nosuid,nodev,relatime"))
        .await;
    switches.isolation("tmpfs: ro", tmpfs(&["ro"]), &at("tmpfs ro,nosuid,nodev,noexec,relatime")).await;
    let error = switches.place.error(|s| s.isolation = tmpfs(&["soze=1m"])).await;
    assert!(error.contains("tmpfs /run/x: \"soze=1m\""), "{error}");
    switches
        .change(
            "read_only",
            |s| s.read_only = true,
            &[
                ("mount /", "overlay ro,relatime"),
                ("rootfs writable", "EROFS"),
                ("write /ok", "EROFS"),
                ("mknod_null", "*"),
                ("mknod_null_open", "*"),
                ("mknod_mem_open", "*"),
                ("mknod_kmsg_open", "*"),
                ("mknod_fuse_open", "*"),
                ("mknod_loop_open", "*"),
                ("chown_root", "EROFS"),
            ],
        )
        .await;
}

#[tokio::test]
async fn devices_limits_and_controls_change_their_own_lines() {
    let switches = Switches::new().await;
    let access = DeviceAccess { read: true, write: true, make: false };
    let kmsg = Device { source: "/dev/kmsg".into(), target: "/dev/kmsg".into(), access };
    let devices = Isolation { devices: vec![kmsg], ..Isolation::default() };
    let list = switches.base["devices.list"].replace("c 1:3 ", "c 1:11 rw, c 1:3 ");
    let wanted = [("devices.list", list.as_str()), ("/dev", "*"), ("read /dev/kmsg", "*")];
    switches.isolation("devices: /dev/kmsg", devices, &wanted).await;
    let error = |source: &str| {
        let device = Device { source: source.into(), target: "/dev/x".into(), access };
        switches.place.error(|s| s.isolation.devices = vec![device])
    };
    assert!(error("/dev/no-such").await.contains("/dev/no-such of the host cannot be used"));
    assert!(error("/etc/hostname").await.contains("/etc/hostname is not a device"));
    let elsewhere = Device { source: "/dev/zero".into(), target: "/srv/zero".into(), access };
    let elsewhere = Isolation { devices: vec![elsewhere], ..Isolation::default() };
    switches.isolation("devices: /dev/zero:/srv/zero", elsewhere, &[("mount /srv/zero", "*")]).await;
    let rule = DeviceRule { kind: DeviceKind::Block, major: Some(8), minor: None, access };
    let rules = Isolation { device_rules: vec![rule], ..Isolation::default() };
    let list = switches.base["devices.list"].replace("b *:* m, ", "b *:* m, b 8:* rw, ");
    switches.isolation("device_cgroup_rules: b 8:* rw", rules, &[("devices.list", list.as_str())]).await;
    let limits = |limit, soft, hard| Isolation {
        limits: BTreeMap::from([(limit, LimitRange { soft, hard })]),
        ..Isolation::default()
    };
    switches
        .isolation("ulimits: nofile", limits(Limit::Nofile, 100, 200), &[("limit Max open files", "100 200")])
        .await;
    switches.isolation("ulimits: core", limits(Limit::Core, 7, 9), &[("limit Max core file size", "7 9")]).await;
    let nr_open = fs::read_to_string("/proc/sys/fs/nr_open").expect("a number");
    let beyond: u64 = nr_open.trim().parse::<u64>().expect("a number") + 1;
    let error = switches.place.error(|s| s.isolation = limits(Limit::Nofile, 1, beyond)).await;
    assert!(error.contains("ulimits: nofile") && error.contains(nr_open.trim()), "{error}");
    let held = longshore::container::held_back().iter().any(|note| note.contains("open"));
    let between =
        host_limit("Max open files").split(' ').nth(1).and_then(|n| n.parse::<u64>().ok()).map(|hard| hard + 1);
    if let (true, Some(between)) = (held, between) {
        let error = switches.place.error(|s| s.isolation = limits(Limit::Nofile, 1, between)).await;
        assert!(error.contains(&format!("nofile of {between} is beyond")) && error.contains("SYS_RESOURCE"), "{error}");
    }
    let controls = |name: &str, value: &str| Isolation {
        sysctls: BTreeMap::from([(name.to_owned(), value.to_owned())]),
        ..Isolation::default()
    };
    let no_ping = controls("net.ipv4.ping_group_range", "1 0");
    switches.isolation("sysctls: ping_group_range", no_ping, &[("sock_ping", "EACCES")]).await;
    switches.isolation("sysctls: kernel.shmmax", controls("kernel.shmmax", "65536"), &[]).await;
    let error = switches.place.error(|s| s.isolation = controls("vm.swappiness", "1")).await;
    assert!(error.contains("vm.swappiness is of the whole machine"), "{error}");
    let error = switches.place.error(|s| {
        s.isolation = controls("net.core.somaxconn", "1");
        s.network = NetworkMode::Host;
    });
    assert!(error.await.contains("the network namespace, which this container shares"), "on the host's network");
    let score = Isolation { oom_score: Some(500), ..Isolation::default() };
    switches.isolation("oom_score_adj: 500", score, &[("oom_score_adj", "500")]).await;
    let own = fs::read_to_string("/proc/self/oom_score_adj").expect("a number");
    assert!(own.trim().parse::<i32>().is_ok_and(|n| n < 500), "ours is not touched: {own}");
    let parent = Isolation { cgroup_parent: Some("group/inner".into()), ..Isolation::default() };
    switches.isolation("cgroup_parent: group/inner", parent, &[]).await;
}

#[tokio::test]
async fn a_privileged_container_is_open_and_an_unknown_runtime_is_told() {
    let switches = Switches::new().await;
    let open = switches.place.facts(|s| s.isolation.privileged = true).await;
    print("privileged", &differences(&switches.base, &open));
    let host = longshore::container::confine::bounding().mask();
    assert_eq!(open["CapEff"], format!("{host:016x}"), "all that the machine has");
    for (key, value) in
        [("Seccomp", "0"), ("devices.list", "a *:* rwm"), ("mount_tmpfs", "ALLOWED"), ("namespace pid", "its own")]
    {
        assert_eq!(open[key], value, "{key}");
    }
    assert!(open["mount /sys"].contains("rw") && !open.contains_key("mount /proc/sys"), "nothing is masked");
    assert!(open["/dev"].split(' ').count() > switches.base["/dev"].split(' ').count(), "{}", open["/dev"]);
    // No line of it that is about what is always its own.
    for key in
        ["namespace mnt", "namespace net", "namespace ipc", "namespace uts", "open fds", "pids.max v1", "oom_score_adj"]
    {
        assert_eq!(open.get(key), switches.base.get(key), "{key}");
    }
    let error = switches.place.error(|s| s.isolation.runtime = Some("kata".into())).await;
    assert!(error.contains("runtime: kata is not configured") && error.contains("builtin"), "{error}");
    let named = Place::with(Runtime::Embedded, |settings: &mut Settings| {
        settings.runtimes.insert("runc".into(), "/usr/sbin/runc".into());
    });
    let by_runc = named.facts(|s| s.isolation.runtime = Some("io.containerd.runc.v2".into())).await;
    assert_eq!(by_runc["namespace time"], "the host's", "runc 1.1 knows of no time namespace");
}

#[tokio::test]
async fn with_runc_the_switches_do_the_same() {
    let place = Place::new(Runtime::External("/usr/sbin/runc".into()));
    let base = place.facts(|_| {}).await;
    let nnp = place.facts(|s| s.isolation.no_new_privileges = Some(true)).await;
    let changed = differences(&base, &nnp);
    print("runc: no-new-privileges", &changed);
    assert_eq!(changed.into_iter().collect::<Vec<_>>(), [("NoNewPrivs".into(), ("0".into(), "1".into()))]);
    let several = place.facts(|s| {
        s.isolation.cap_add = set(&["NET_RAW"]);
        s.isolation.limits = BTreeMap::from([(Limit::Nofile, LimitRange { soft: 100, hard: 200 })]);
        s.isolation.oom_score = Some(500);
        s.isolation.uts = Namespace::Host;
        s.isolation.ipc = Ipc::Host;
        s.isolation.sysctls = BTreeMap::from([("net.ipv4.ping_group_range".into(), "1 0".into())]);
    });
    let changed = differences(&base, &several.await);
    print("runc: several", &changed);
    let keys = [
        "CapBnd",
        "CapEff",
        "CapPrm",
        "limit Max open files",
        "mount /dev/shm",
        "namespace ipc",
        "namespace uts",
        "oom_score_adj",
        "sock_packet",
        "sock_ping",
        "sock_raw_icmp",
        "variable HOSTNAME",
    ];
    assert_eq!(changed.keys().map(String::as_str).collect::<Vec<_>>(), keys);
    let open = place.facts(|s| s.isolation.privileged = true).await;
    let host = longshore::container::confine::bounding().mask();
    assert_eq!((open["CapEff"].clone(), open["Seccomp"].as_str()), (format!("{host:016x}"), "0"));
    assert!(open["mount /sys"].contains("rw") && !open.contains_key("mount /proc/sys"), "nothing is masked");
}

#[tokio::test]
async fn what_this_machine_cannot_give_is_an_error() {
    let place = Place::new(Runtime::Embedded);
    let there = |path: &str| fs::metadata(path).is_ok();
    if !there("/sys/module/apparmor/parameters/enabled") {
        let error = place.error(|s| s.isolation.apparmor = Some("docker-default".into())).await;
        assert!(error.contains("apparmor=docker-default: this machine has no AppArmor"), "{error}");
    }
    if !there("/sys/fs/selinux/enforce") {
        let error = place.error(|s| s.isolation.labels = vec!["type:my_t".into()]).await;
        assert!(error.contains("label=type:my_t: this machine has no SELinux"), "{error}");
    }
    // What asks for nothing needs nothing.
    place.run(|s| s.isolation.apparmor = Some("unconfined".into())).await.expect("it starts");
    place.run(|s| s.isolation.labels = vec!["disable".into()]).await.expect("it starts");
    let error = place.error(|s| s.isolation.root_bytes = Some(1 << 30)).await;
    assert!(error.contains("storage_opt: size"), "{error}");
}

/// The program for cgroup v2, in a cgroup of that version: every Linux has the hierarchy, wherever its controllers are.
#[test]
fn a_cgroup_of_version_2_refuses_devices() {
    use std::process::Command;
    struct Mounted(tempfile::TempDir);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = fs::remove_dir(self.0.path().join(format!("longshore-test-{}", std::process::id())));
            let _ = nix::mount::umount(self.0.path());
        }
    }
    let mounted = Mounted(tempfile::tempdir().expect("a folder"));
    let none = None::<&str>;
    nix::mount::mount(Some("cgroup2"), mounted.0.path(), Some("cgroup2"), nix::mount::MsFlags::empty(), none)
        .expect("mounted");
    let cgroup = mounted.0.path().join(format!("longshore-test-{}", std::process::id()));
    fs::create_dir(&cgroup).expect("a cgroup");
    let script = format!(
        "echo 0 > {}/cgroup.procs; for d in null zero full urandom tty kmsg vda loop-control; do \
         [ -e /dev/$d ] || continue; head -c 0 /dev/$d 2>/dev/null && echo -n \"$d yes \" || echo -n \"$d no \"; done; \
         n={}; mknod $n c 1 11 && {{ head -c 0 $n 2>/dev/null && echo made yes || echo made no; }}; rm -f $n",
        cgroup.display(),
        std::env::temp_dir().join(format!("longshore-node-{}", std::process::id())).display(),
    );
    let try_all = || {
        let output = Command::new("setsid").args(["-w", "sh", "-c", &script]).output().expect("a shell");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let before = try_all();
    let rules = longshore::container::device_filter::allowed(&Isolation::default(), &[]);
    let program = longshore::container::device_filter::program(&rules);
    let start = std::time::Instant::now();
    longshore::container::device_filter::attach(&program, &cgroup).expect("attached");
    println!("{} instructions, loaded and attached in {} µs", program.len(), start.elapsed().as_micros());
    let after = try_all();
    println!("before: {before}\nafter:  {after}");
    assert!(before.contains("kmsg yes") && before.contains("made yes"), "{before}");
    for (device, may) in
        [("null", "yes"), ("zero", "yes"), ("full", "yes"), ("urandom", "yes"), ("kmsg", "no"), ("made", "no")]
    {
        assert!(after.contains(&format!("{device} {may}")), "{device}: {after}");
    }
    assert!(!after.contains("vda yes") && !after.contains("loop-control yes"), "{after}");
}

/// The kernel runs a program that it is given; compiling it is ours to save.
#[test]
fn a_seccomp_program_is_compiled_once() {
    use longshore::container::seccomp::{cached, load, program_for};
    use std::time::Instant;
    let folder = tempfile::tempdir().expect("a folder");
    let strict = CapabilitySet::STRICT;
    let median = |mut times: Vec<u128>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let time = |work: &dyn Fn()| {
        let start = Instant::now();
        work();
        start.elapsed().as_micros()
    };
    let fresh = program_for(&Seccomp::Default, false, strict).expect("compiles").expect("a program");
    let get = || cached(folder.path(), &Seccomp::Default, false, strict).expect("compiles").expect("a program");
    assert_eq!(get(), fresh);
    let compile = median((0..51).map(|_| time(&|| drop(program_for(&Seccomp::Default, false, strict)))).collect());
    let read = median((0..51).map(|_| time(&|| drop(get()))).collect());
    // Each in a thread of its own, which ends with it.
    let load_one = |program: Vec<_>| std::thread::spawn(move || time(&|| load(&program).expect("loaded")));
    let loads = (0..21).map(|_| load_one(fresh.clone()).join().expect("no panic")).collect();
    println!("{} instructions: compile {compile} µs, read {read} µs, load {} µs", fresh.len(), median(loads));
    let files: Vec<_> = fs::read_dir(folder.path()).expect("there").collect();
    assert_eq!(files.len(), 1, "one profile, one file");
}

#[tokio::test]
async fn the_configuration_changes_the_defaults() {
    let place = Place::with(Runtime::Embedded, |settings: &mut Settings| {
        settings.defaults.capabilities = CapabilitySet::DOCKER;
        settings.defaults.no_new_privileges = true;
    });
    let docker = facts(include_str!("fixtures/probe-docker20.json"));
    let ours = place.facts(|_| {}).await;
    assert_eq!(ours["NoNewPrivs"], "1");
    for key in [
        "CapBnd",
        "CapEff",
        "CapPrm",
        "mknod_null",
        "mknod_null_open",
        "mknod_mem_open",
        "sock_packet",
        "sock_raw_icmp",
    ] {
        assert_eq!(ours[key], docker[key], "{key}");
    }
    let changed = differences(&ours, &place.facts(|s| s.isolation.no_new_privileges = Some(false)).await);
    assert_eq!(changed.into_iter().collect::<Vec<_>>(), [("NoNewPrivs".into(), ("1".into(), "0".into()))]);
}
