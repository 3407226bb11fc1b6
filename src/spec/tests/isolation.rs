//! Keys that say what a service may do and see.

use crate::model::{
    Ability, CapabilitySet, DeviceAccess, Ipc, Limit, LimitRange, Namespace, Seccomp, Service, UserNamespace, Which,
};
use crate::spec::samples::{good, read_with, refusal, service, shown};

fn loosened(service: &Service) -> Vec<String> {
    let one = |l: &crate::model::Loosening| format!("{}:{} {}", l.location.line, l.location.column, l.what);
    service.loosenings.iter().map(one).collect()
}

fn wished(service: &Service) -> Vec<(Ability, bool)> {
    service.wishes.iter().map(|wish| (wish.ability, wish.needed)).collect()
}

#[test]
fn every_key_is_read() {
    let a = service(
        "\
cap_add: [net_admin, CAP_SYS_TIME, CHOWN]
cap_drop: [ALL]
security_opt: ['no-new-privileges:true', apparmor=mine, 'label=type:a_t', 'label:level:s0', seccomp=unconfined]
ipc: none
cgroup: host
userns_mode: auto:size=1000
group_add: [audio, 44, audio]
sysctls: [net.core.somaxconn=1024, net/ipv4/ip_forward=1]
ulimits: {nofile: {soft: 1024, hard: -1}, core: 0}
devices:
  - /dev/fuse
  - /dev/sda:/dev/xvda:r
  - /dev/kvm:rw
  - {source: /dev/null, target: /dev/zero, permissions: rm}
  - nvidia.com/gpu=0
device_cgroup_rules: ['c 10:200 rwm', 'b *:* r']
gpus: [{count: 2, driver: nvidia}]
tmpfs: [/run, '/tmp:size=64m,mode=1777,exec', /run/]
shm_size: 1g
storage_opt: {size: 10G}
oom_score_adj: -5
cgroup_parent: batch/low
runtime: crun
domainname: example.org
extra_hosts: [db=10.0.0.7, 'six:2001:db8::1', 'gate:host-gateway', 'br=[::1]']
dns: [10.0.0.53, '2001:db8::53']
dns_search: example.org
dns_opt: ['ndots:2']
isolation: default
",
    );
    assert_eq!(a.holds, []);
    let i = &a.isolation;
    let names = |set: CapabilitySet| set.iter().map(|c| c.name()).collect::<Vec<_>>().join(" ");
    assert_eq!(names(i.cap_add), "CAP_CHOWN CAP_NET_ADMIN CAP_SYS_TIME");
    assert_eq!(i.cap_drop, CapabilitySet::ALL);
    assert_eq!((i.no_new_privileges, i.apparmor.as_deref()), (Some(true), Some("mine")));
    assert_eq!(i.labels, ["type:a_t", "level:s0"]);
    assert_eq!((&i.seccomp, i.ipc, i.cgroup), (&Seccomp::Unconfined, Ipc::None, Namespace::Host));
    assert_eq!(i.user, UserNamespace::Auto { size: 1000 });
    assert_eq!(i.groups, ["audio", "44"]);
    let sysctls: Vec<_> = i.sysctls.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(sysctls, ["net.core.somaxconn=1024", "net.ipv4.ip_forward=1"]);
    assert_eq!(i.limits[&Limit::Nofile], LimitRange { soft: 1024, hard: u64::MAX });
    assert_eq!(i.limits[&Limit::Core], LimitRange { soft: 0, hard: 0 });
    let devices: Vec<_> = i.devices.iter().map(|d| format!("{} {} {}", d.source, d.target, d.access.text())).collect();
    let expected =
        ["/dev/fuse /dev/fuse rwm", "/dev/sda /dev/xvda r", "/dev/kvm /dev/kvm rw", "/dev/null /dev/zero rm"];
    assert_eq!(devices, expected);
    assert_eq!(i.device_rules.len(), 2);
    assert_eq!(i.device_rules[1].access, DeviceAccess { read: true, write: false, make: false });
    assert_eq!(i.requests[0].driver, "nvidia.com/gpu");
    assert_eq!((&i.requests[1].which, i.requests[1].capabilities.len()), (&Which::Count(2), 1));
    let tmpfs: Vec<_> = i.tmpfs.iter().map(|t| format!("{} {}", t.target, t.options.join(","))).collect();
    assert_eq!(tmpfs, ["/tmp size=64m,mode=1777,exec", "/run "]);
    assert_eq!((i.shm_bytes, i.root_bytes, i.oom_score), (Some(1 << 30), Some(10 << 30), Some(-5)));
    assert_eq!((i.cgroup_parent.as_deref(), i.runtime.as_deref()), (Some("batch/low"), Some("crun")));
    let n = &a.names;
    assert_eq!(n.domain.as_deref(), Some("example.org"));
    let hosts: Vec<_> = n.hosts.iter().map(|(name, address)| format!("{name} {address}")).collect();
    assert_eq!(hosts, ["db 10.0.0.7", "six 2001:db8::1", "gate host-gateway", "br ::1"]);
    assert_eq!((n.servers.len(), n.search.len(), n.options.len()), (2, 1, 1));
    assert_eq!(
        wished(&a),
        [
            (Ability::AppArmor, true),
            (Ability::SeLinux, true),
            (Ability::SeLinux, true),
            (Ability::UserNamespace, true),
            (Ability::RootQuota, true)
        ]
    );
}

#[test]
fn host_namespaces_and_maps_are_read() {
    let a = service(
        "\
network_mode: host
pid: host
ipc: host
uts: host
extra_hosts: {db: 10.0.0.7, two: [10.0.0.8, '::2']}
sysctls: {}
gpus: all
security_opt: [systempaths=unconfined, no-new-privileges=false]
",
    );
    let i = &a.isolation;
    assert_eq!((i.pid, i.ipc, i.uts), (Namespace::Host, Ipc::Host, Namespace::Host));
    assert_eq!(a.names.hosts.len(), 3);
    assert_eq!((&i.requests[0].which, i.unmasked, i.no_new_privileges), (&Which::All, true, Some(false)));
}

#[test]
fn what_asks_for_nothing_is_as_if_it_were_not_there() {
    let plain = service("");
    for lines in [
        "privileged: false\ncap_add: []\ncap_drop:\nsecurity_opt: []",
        "pid: ''\nipc: private\nuts: private\ncgroup: private\nuserns_mode: host",
        "shm_size: 0\noom_score_adj: 0\nstorage_opt: {}\ntmpfs: []\ndevices: []\ngpus: []",
        "security_opt: [seccomp=builtin]\ngroup_add: []\nulimits: {}\nsysctls: []",
        "deploy: {resources: {reservations: {devices: [{capabilities: [gpu], count: 0}]}}}",
    ] {
        assert_eq!(service(lines), plain, "{lines}");
    }
}

#[test]
fn wrong_values_are_refused_with_their_place() {
    for (line, expected) in [
        ("cap_add: [NET_ADMN]", "4:15 \"NET_ADMN\" is not a capability"),
        ("cap_drop: [CHOWN, xyz]", "4:23 \"xyz\" is not a capability"),
        ("security_opt: [secomp=unconfined]", "4:20 \"secomp=unconfined\" is not a security option"),
        ("security_opt: [seccomp]", "4:20 \"seccomp\" is not a security option"),
        ("security_opt: [systempaths=all]", "4:20 \"systempaths=all\" is not a security option"),
        ("security_opt: ['no-new-privileges:maybe']", "4:20 no-new-privileges is \"maybe\": expected true or false"),
        ("security_opt: [seccomp=gone.json]", "4:20 the file \"gone.json\" is not used: it does not exist"),
        ("security_opt: ['apparmor=a b']", "4:20 \"a b\" is not the name of an AppArmor profile"),
        ("security_opt: ['label=colour:red']", "4:20 \"colour:red\" is not a part of a label"),
        ("pid: hots", "4:10 \"hots\" is not a PID mode"),
        ("ipc: public", "4:10 \"public\" is not an IPC mode"),
        ("uts: own", "4:10 \"own\" is not a UTS mode"),
        ("uts: host\nhostname: a", "5:15 `hostname` and `uts: host` exclude each other"),
        ("userns_mode: keep-id", "4:18 \"keep-id\" is not a user namespace mode"),
        ("userns_mode: 'auto:size=0'", "4:18 \"auto:size=0\" is not a user namespace mode"),
        ("group_add: ['a b']", "4:17 \"a b\" is not a group"),
        ("sysctls: {kernel.panic: 1}", "4:15 \"kernel.panic\" is the host's, not the container's"),
        ("sysctls: [kernel.hostname=a]", "4:15 \"kernel.hostname\" is the host's, not the container's"),
        ("sysctls: [net.a]", "4:15 the kernel parameter \"net.a\" has no value"),
        (
            "sysctls: {net.core.somaxconn: 1}\nnetwork_mode: host",
            "4:15 \"net.core.somaxconn\" would change the host, whose network is used",
        ),
        (
            "sysctls: {kernel.sem: 1}\nipc: host",
            "4:15 \"kernel.sem\" would change the host, whose IPC namespace is used",
        ),
        ("ulimits: {nofiles: 1}", "4:15 \"nofiles\" is not a limit"),
        ("ulimits: {nofile: -2}", "4:23 the limit nofile is -2: expected a number from 0, or -1 for no limit"),
        ("ulimits: {nofile: {soft: 1}}", "4:23 the limit nofile needs both `soft` and `hard`"),
        ("ulimits: {nofile: {soft: -1, hard: 5}}", "4:30 the limit nofile has a soft value above its hard one"),
        ("devices: [dev/null]", "4:15 \"dev/null\" is not a device"),
        ("devices: ['/dev/null:/dev/x:rx']", "4:15 \"rx\" is not an access to a device"),
        ("devices: ['/dev/null:x']", "4:15 \"x\" is not a place for a device"),
        ("devices: [{target: /dev/x}]", "4:15 \"\" is not a device"),
        ("device_cgroup_rules: ['c 1 rwm']", "4:27 \"c 1 rwm\" is not a rule for devices"),
        ("gpus: [{count: 1, device_ids: [a]}]", "4:20 `count` and `device_ids` exclude each other"),
        ("gpus: [{count: some}]", "4:20 \"some\" devices: expected a number or `all`"),
        (
            "deploy: {resources: {reservations: {devices: [{count: 1}]}}}",
            "4:51 the request for devices names no capabilities",
        ),
        ("tmpfs: run", "4:12 \"run\" is not a folder of a container"),
        ("tmpfs: /", "4:12 \"/\" is not a folder of a container"),
        ("tmpfs: /run/../proc/sys", "4:12 \"/proc/sys\" is the kernel's, and nothing is mounted there"),
        ("tmpfs: '/run:sise=1m'", "4:12 \"sise=1m\" is not an option of a tmpfs"),
        ("shm_size: -1", "4:15 `shm_size` is -1: expected a size from 0"),
        ("storage_opt: {size: a}", "4:25 \"a\" is not a size"),
        ("storage_opt: {dm.basesize: 1g}", "4:19 the storage option \"dm.basesize\" is not known"),
        ("oom_score_adj: 1001", "4:20 `oom_score_adj` is 1001: expected a whole number from -1000 to 1000"),
        ("cgroup_parent: ../up", "4:20 \"../up\" is not a cgroup"),
        ("cgroup_parent: /", "4:20 \"/\" is not a cgroup"),
        ("runtime: /usr/bin/runc", "4:14 \"/usr/bin/runc\" is not the name of a runtime"),
        ("isolation: none", "4:16 \"none\" is not an isolation technology"),
        ("domainname: a_b", "4:17 \"a_b\" is not a domain name"),
        ("extra_hosts: [a]", "4:19 \"a\" is no name with an address"),
        ("extra_hosts: ['a b=1.2.3.4']", "4:19 \"a b\" is not a host name"),
        ("extra_hosts: {a: 1.2.3}", "4:22 \"1.2.3\" is not an address"),
        ("dns: localhost", "4:10 \"localhost\" is not an address"),
        ("dns_search: a b", "4:17 \"a b\" is not a domain name"),
        ("dns_opt: ['a b']", "4:15 \"a b\" is not an option of the resolver"),
    ] {
        assert_eq!(refusal(line), expected, "{line}");
    }
}

#[test]
fn a_near_miss_is_told_what_was_meant() {
    let hint = |line: &str| {
        let text = format!("services: {{a: {{image: b, network_mode: none, {line}}}}}");
        read_with(&text, &[]).expect_err(line)[0].hint.clone().unwrap()
    };
    assert_eq!(hint("cap_add: [CAP_NET_ADMN]"), "did you mean `NET_ADMIN`?");
    assert_eq!(hint("ulimits: {nofiles: 1}"), "did you mean `nofile`?");
    assert_eq!(hint("sysctls: {kernel.domainname: a}"), "write `domainname:` instead");
    assert!(hint("security_opt: [no-new-privilege]").starts_with("did you mean `no-new-privileges`?"));
    assert!(hint("security_opt: ['no-new-privs:true']").starts_with("it may be no-new-privileges"));
}

#[test]
fn a_seccomp_profile_is_a_file_beside_the_state_file() {
    let text = "services: {a: {image: b, network_mode: none, security_opt: ['seccomp:p.json']}}";
    let document = read_with(text, &[("p.json", "{\"defaultAction\": \"SCMP_ACT_ALLOW\"}")]).unwrap();
    assert!(document.references.iter().any(|file| file.ends_with("p.json")));
    let service = document.project.services.values().next().unwrap();
    assert!(matches!(&service.isolation.seccomp, Seccomp::Profile(text) if text.contains("SCMP_ACT_ALLOW")));
    let problems = read_with(text, &[("p.json", "{\n  \"secret words\": ]\n}")]).unwrap_err();
    insta::assert_snapshot!(shown(&problems), @r#"
    error: shop.yaml:1:61: the seccomp profile "p.json" is not used: line 2, column 19: expected value
        |
      1 | services: {a: {image: b, network_mode: none, security_opt: ['seccomp:p.json']}}
        |                                                             ^^^^^^^^^^^^^^^^
      = it is JSON in the format of Docker's default profile
    "#);
}

#[test]
fn every_widening_is_told_with_its_place() {
    let a = service(
        "\
privileged: true
cap_add:
  - CHOWN
  - NET_ADMIN
  - ALL
security_opt:
  - seccomp=unconfined
  - apparmor=unconfined
  - label=disable
  - systempaths=unconfined
pid: host
ipc: host
uts: host
cgroup: host
network_mode: host
devices: ['/dev/fuse:rw', vendor.com/class=x]
device_cgroup_rules: ['c 10:200 rwm']
gpus: [{count: 2}]
cgroup_parent: /batch
oom_score_adj: -10
pids_limit: -1
",
    );
    insta::assert_snapshot!(loosened(&a).join("\n"), @r"
    4:5 it is privileged: all capabilities and devices, no seccomp, nothing of /proc and /sys masked
    7:9 it has the capability CAP_NET_ADMIN
    8:9 it has all capabilities
    10:9 all system calls are allowed (seccomp=unconfined)
    11:9 AppArmor does not confine it (apparmor=unconfined)
    12:9 SELinux does not confine it (label=disable)
    13:9 nothing of /proc and /sys is masked or read-only (systempaths=unconfined)
    14:10 it sees the processes of the host (pid: host)
    15:10 it shares the host's IPC objects and /dev/shm (ipc: host)
    16:10 it shares the host's name and may change it where its capabilities allow (uts: host)
    17:13 it sees the host's tree of cgroups (cgroup: host)
    18:5 it uses the host's network: interfaces, ports and abstract sockets
    19:15 it is given the device /dev/fuse of the host (rw)
    19:31 it is given the devices that vendor.com/class=x stands for
    20:27 it may use devices by number (c 10:200 rwm)
    21:12 it is given devices of the host (gpu, 2)
    22:20 its cgroup is below /batch, outside Longshore's own
    23:5 the kernel ends others before it when memory is short (oom_score_adj: -10)
    24:5 it may have any number of processes, and use up the machine's
    ");
    assert_eq!(a.loosenings.iter().filter(|l| l.key == "services.a.cap_add").count(), 2);
    let narrower = "\
cap_drop: [ALL]
cap_add: [CHOWN]
read_only: true
security_opt: [no-new-privileges]
ipc: none
cgroup_parent: ours
oom_score_adj: 500
pids_limit: 10
userns_mode: auto
";
    assert_eq!(loosened(&service(narrower)), Vec::<String>::new());
}

#[test]
fn joined_namespaces_are_held_and_say_why() {
    let document = good("services:\n  a:\n    image: b\n    network_mode: none\n    pid: service:b\n");
    let holds = document.project.services.into_values().next().unwrap().holds;
    insta::assert_snapshot!(shown(&[holds[0].problem.clone()]), @r"
    held: shop.yaml:5:10: `services.a.pid` is not supported yet: a namespace cannot be shared with another container, and alone the service would not see what it needs
        |
      5 |     pid: service:b
        |          ^^^^^^^^^
      = remove `pid`, or run both programs in one service
    ");
}
