//! Keys that say what a service may use.

use crate::model::{Ability, Ceiling, CpuQuota, Resources};
use crate::spec::samples::{good, refusal, service};

fn resources(lines: &str) -> Resources {
    service(lines).resources
}

#[test]
fn every_key_is_read() {
    let a = service(
        "\
mem_limit: 512m
memswap_limit: 1g
mem_reservation: 256m
mem_swappiness: 0
oom_kill_disable: true
cpus: 1.5
cpu_shares: 512
cpu_rt_period: 1s
cpu_rt_runtime: '95000'
cpuset: 0-3,5
pids_limit: 100
blkio_config:
  weight: 300
  weight_device: [{path: /dev/sda, weight: 400}]
  device_read_bps: [{path: /dev/sdb, rate: 12mb}]
  device_write_bps: [{path: /dev/sdb, rate: 1024}]
  device_read_iops: [{path: /dev/sdb, rate: 120}]
  device_write_iops: [{path: /dev/sdb, rate: 30}, {path: /dev/sdc, rate: 0}]
",
    );
    assert_eq!(a.holds, []);
    let r = &a.resources;
    assert_eq!((r.memory, r.memory_and_swap), (Some(512 << 20), Some(Ceiling::At(1 << 30))));
    assert_eq!((r.memory_reservation, r.swappiness, r.oom_kill_disable), (Some(256 << 20), Some(0), true));
    assert_eq!(r.cpu, Some(CpuQuota { quota_us: 150_000, period_us: 100_000 }));
    assert_eq!((r.cpu_shares, r.cpuset.as_deref()), (Some(512), Some("0-3,5")));
    assert_eq!((r.realtime_period_us, r.realtime_runtime_us), (Some(1_000_000), Some(95_000)));
    assert_eq!(r.pids, Some(Ceiling::At(100)));
    assert_eq!((r.block.weight, &r.block.device_weights[..]), (Some(300), &[("/dev/sda".to_owned(), 400)][..]));
    assert_eq!(r.block.read_bytes, [("/dev/sdb".to_owned(), 12 << 20)]);
    assert_eq!((r.block.write_operations.len(), r.block.read_operations[0].1), (1, 120));
    let wishes: Vec<_> = a.wishes.iter().map(|wish| (wish.ability, wish.needed)).collect();
    assert_eq!(
        wishes,
        [
            (Ability::Memory, true),
            (Ability::Swap, false),
            (Ability::Memory, false),
            (Ability::Swappiness, false),
            (Ability::OomKillDisable, false),
            (Ability::Cpu, true),
            (Ability::Cpu, false),
            (Ability::RealTime, true),
            (Ability::Cpuset, true),
            (Ability::Pids, true),
            (Ability::BlockLimit, true),
            (Ability::BlockWeight, false),
        ]
    );
    assert_eq!(a.wishes[0].key, "services.a.mem_limit");
    assert_eq!((a.wishes[0].location.line, a.wishes[0].location.column), (4, 5));
}

#[test]
fn limits_may_stand_below_deploy() {
    let limits = "deploy: {resources: {limits: {cpus: '0.5', memory: 64m, pids: 7}, reservations: {memory: 32m}}}";
    let r = resources(limits);
    assert_eq!(r, resources("cpus: 0.5\nmem_limit: 64m\npids_limit: 7\nmem_reservation: 32m"));
    assert_eq!(r, resources(&format!("{limits}\nmem_limit: 65536k\ncpus: .50")));
    assert_eq!(service(limits).wishes[1].key, "services.a.deploy.resources.limits.memory");
}

#[test]
fn quotas_are_read_in_their_three_forms() {
    let cpu = |lines: &str| resources(lines).cpu.map(|cpu| (cpu.quota_us, cpu.period_us));
    assert_eq!(cpu("cpus: 2"), Some((200_000, 100_000)));
    assert_eq!(cpu("cpus: 0.01"), Some((1_000, 100_000)));
    assert_eq!(cpu("cpu_quota: 50000"), Some((50_000, 100_000)));
    assert_eq!(cpu("cpu_quota: 50000\ncpu_period: 20000"), Some((50_000, 20_000)));
}

#[test]
fn what_asks_for_nothing_is_as_if_it_were_not_there() {
    for lines in [
        "mem_limit: 0\nmemswap_limit: 0\nmem_reservation: 0\nmem_swappiness: -1",
        "mem_limit: -1\nmemswap_limit: -1",
        "cpus: 0\ncpu_quota: -1\ncpu_period: 0\ncpu_shares: 0\ncpuset: ''",
        "cpu_rt_runtime: 0\ncpu_rt_period: '0'\npids_limit: 0\nblkio_config: {weight: 0}\noom_kill_disable: false",
        "deploy: {resources: {limits: {cpus: 0, memory: 0, pids: 0}, reservations: {memory: 0}}}",
    ] {
        let service = service(lines);
        assert_eq!((service.resources, service.wishes.len()), (Resources::default(), 0), "{lines}");
    }
    assert_eq!(resources("pids_limit: -1").pids, Some(Ceiling::Unlimited));
    assert_eq!(resources("mem_limit: 64m\nmemswap_limit: -1").memory_and_swap, Some(Ceiling::Unlimited));
}

#[test]
fn wrong_values_are_refused_with_their_place() {
    for (line, expected) in [
        ("mem_limit: 5m", "4:16 `mem_limit` is 5242880 bytes: no program starts in less than 6 MiB"),
        ("mem_limit: -5m", "4:16 `mem_limit` is -5m: expected a size, or 0 for no limit"),
        ("memswap_limit: 64m", "4:20 `memswap_limit` has no effect without `mem_limit`"),
        ("mem_limit: 64m\nmemswap_limit: 32m", "5:20 `memswap_limit` is less than the memory limit"),
        ("mem_limit: 64m\nmem_reservation: 65m", "5:5 `mem_reservation` is more than the memory limit"),
        ("mem_swappiness: 101", "4:21 `mem_swappiness` is 101: expected a whole number from -1 to 100"),
        ("cpus: 0.001", "4:11 `cpus` is 0.001: expected a number from 0.01 to 8192, or 0 for no limit"),
        ("cpus: -1", "4:11 `cpus` is -1: expected a number from 0.01 to 8192, or 0 for no limit"),
        ("cpus: 9000", "4:11 `cpus` is 9000: expected a number from 0.01 to 8192, or 0 for no limit"),
        ("cpu_quota: 500", "4:5 `cpu_quota` is less than 1000 microseconds"),
        (
            "cpu_quota: 5000\ncpu_period: 1000001",
            "5:17 `cpu_period` is 1000001: expected a whole number from 0 to 1000000",
        ),
        ("cpus: 1\ncpu_quota: 5000", "5:5 `cpu_quota` and `cpus` exclude each other"),
        ("cpus: 1\ncpu_period: 5000", "5:5 `cpu_period` and `cpus` exclude each other"),
        ("cpu_shares: 1", "4:5 `cpu_shares` is 1: expected a number from 2 to 262144, or 0 for the usual weight"),
        ("cpu_rt_runtime: soon", "4:21 `cpu_rt_runtime` is soon: expected microseconds or a duration"),
        ("cpu_rt_runtime: 2s", "4:5 `cpu_rt_runtime` is longer than its period"),
        ("cpu_rt_period: 2s", "4:5 `cpu_rt_period` is longer than a second"),
        ("cpuset: 3-0", "4:13 \"3-0\" is not a set of CPUs"),
        ("cpuset: '0,,1'", "4:13 \"0,,1\" is not a set of CPUs"),
        ("pids_limit: -2", "4:17 `pids_limit` is -2: expected a whole number from -1 to 4194304"),
        ("blkio_config: {weight: 5}", "4:28 `blkio_config.weight` is 5: expected a number from 10 to 1000, or 0"),
        ("blkio_config: {device_read_bps: [{rate: 5}]}", "4:38 \"\" is not a device"),
        ("blkio_config: {device_read_iops: [{path: /dev/sda, rate: 1k}]}", "4:62 \"1k\" is not a rate"),
        ("blkio_config: {weight_device: [{path: /dev/sda, weight: 1001}]}", "4:61 \"1001\" is not a weight"),
        (
            "mem_limit: 64m\ndeploy: {resources: {limits: {memory: 128m}}}",
            "4:5 `mem_limit` and `deploy.resources.limits.memory` give different values",
        ),
        (
            "pids_limit: 5\ndeploy: {resources: {limits: {pids: 6}}}",
            "4:5 `pids_limit` and `deploy.resources.limits.pids` give different values",
        ),
        (
            "cpus: 1\ndeploy: {resources: {limits: {cpus: '2'}}}",
            "4:5 `cpus` and `deploy.resources.limits.cpus` give different values",
        ),
        (
            "mem_reservation: 32m\ndeploy: {resources: {reservations: {memory: 33m}}}",
            "4:5 `mem_reservation` and `deploy.resources.reservations.memory` give different values",
        ),
    ] {
        assert_eq!(refusal(line), expected, "{line}");
    }
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let warning = |line: &str| {
        let text = format!("services:\n  a:\n    image: b\n    network_mode: none\n    {line}\n");
        let warnings = good(&text).warnings;
        assert_eq!(warnings.len(), 1, "{line}");
        warnings[0].message.clone()
    };
    assert_eq!(warning("cpu_count: 2"), "`cpu_count` has no effect: it is for Windows");
    assert_eq!(warning("cpu_period: 50000"), "`cpu_period` limits nothing without `cpu_quota`");
    assert!(warning("oom_kill_disable: true").starts_with("without a memory limit"));
    assert!(warning("deploy: {resources: {reservations: {cpus: '1'}}}").contains("CPUs are not reserved"));
    assert!(warning("gpus: [{options: {a: b}}]").contains("options of a request"));
}
