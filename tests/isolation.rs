//! What a container may do, seen from inside, line by line: under the defaults against the stored answer of another engine, and what
//! each widening switch changes. As root; `--nocapture` prints the tables.

mod isolation_support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use isolation_support::{Facts, Place, differences, facts, print};
use longshore::container::{Runtime, Settings};
use longshore::model::{
    Capability, CapabilitySet, Device, DeviceAccess, Ipc, Isolation, Limit, LimitRange, Namespace, NetworkMode,
    Seccomp, Service, Tmpfs,
};

/// Ours, where it differs from Docker 20.10's, and why. A value that begins with `<` is a rule.
const DIFFERENT: [(&str, &str, &str); 29] = [
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
    ("pids.max v1", "4096", "a limit by default"),
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
    ("limit Max processes", "<host>", "inherited"),
    ("limit Max pending signals", "<host>", "inherited"),
    ("limit Max locked memory", "<host>", "inherited"),
    ("limit Max core file size", "<host>", "inherited"),
    ("limit Max stack size", "<host>", "inherited"),
    ("read /proc/config.gz", "<kernel>", "a file that this kernel may not have"),
    ("read /proc/modules", "<kernel>", "the same"),
    ("read /proc/acpi", "<kernel>", "the same; masked where it is"),
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

fn host_limit(name: &str) -> String {
    let text = fs::read_to_string("/proc/self/limits").expect("limits");
    let line = text.lines().find(|line| line.starts_with(name)).expect("a limit");
    line[26..].split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

fn follows(rule: &str, key: &str, docker: &str, ours: &str, runtime: &Runtime) -> bool {
    match rule {
        "<roots>" => ours.lines().all(|line| line.ends_with(":/")),
        "<without tun>" => ours == docker.replace("c 10:200 rwm, ", ""),
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

    /// Exactly these lines change, to these values (`*`: to anything else).
    async fn change(&self, title: &str, change: impl FnOnce(&mut Service), wanted: &[(&str, &str)]) {
        let changed = differences(&self.base, &self.place.facts(change).await);
        print(title, &changed);
        let keys: BTreeSet<&str> = changed.keys().map(String::as_str).collect();
        let expected: BTreeSet<&str> = wanted.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, expected, "{title}");
        for (key, value) in wanted.iter().filter(|(_, value)| *value != "*") {
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
        ("variable HOME", "*"),
        ("chroot_", "EPERM"),
        ("setgroups_0", "EPERM"),
        ("setuid0", "EPERM"),
        ("chown_root", "EPERM"),
        ("rootfs writable", "EACCES"),
        ("write /etc/hosts", "EACCES"),
        ("write /etc/hostname", "EACCES"),
        ("write /etc/resolv.conf", "EACCES"),
        ("write /ok", "EACCES"),
        ("read /proc/kpagecount", "EACCES"),
        ("read /proc/slabinfo", "EACCES"),
        ("read /proc/vmallocinfo", "EACCES"),
        ("read /sys/kernel/debug", "EACCES"),
        ("read /sys/fs/bpf", "*"),
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
