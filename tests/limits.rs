//! What containers may use, on the real host: as root, proven by a program that takes too much.

#[path = "limits/place.rs"]
mod place;

use std::time::Duration;

use longshore::container::UpdateError;
use longshore::model::{Ability, BlockIo, Ceiling, CpuQuota, ExitStatus, Resources};
use place::{Place, service, spec, until, with};

const MIB: u64 = 1 << 20;

/// Everything that can be limited, as Compose files would have it.
fn everything() -> Resources {
    Resources {
        memory: Some(64 * MIB),
        memory_reservation: Some(32 * MIB),
        swappiness: Some(10),
        oom_kill_disable: true,
        cpu: Some(CpuQuota { quota_us: 25_000, period_us: 100_000 }),
        cpu_shares: Some(512),
        cpuset: Some("0".into()),
        pids: Some(Ceiling::At(64)),
        ..Resources::default()
    }
}

/// What cgroupfs says of each limit: the file of v1, that of v2, and the value in each.
const READ_BACK: [(&str, &str, &str, &str); 8] = [
    ("memory.limit_in_bytes", "67108864", "memory.max", "67108864"),
    ("memory.memsw.limit_in_bytes", "134217728", "memory.swap.max", "67108864"),
    ("memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432"),
    ("cpu.cfs_quota_us", "25000", "cpu.max", "25000 100000"),
    ("cpu.cfs_period_us", "100000", "cpu.max", "25000 100000"),
    ("cpu.shares", "512", "cpu.weight", "59"),
    ("cpuset.cpus", "0", "cpuset.cpus", "0"),
    ("pids.max", "64", "pids.max", "64"),
];

#[tokio::test]
async fn limits_are_in_force_before_the_command_runs() {
    for runtime in ["", "/usr/sbin/runc"] {
        let place = Place::new(runtime);
        let one = with(&["work", "sleep"], |s| s.resources = everything());
        place.run(&one).await;
        for (file, value, file_two, value_two) in READ_BACK {
            let (file, value) = if place.v1(file) { (file, value) } else { (file_two, value_two) };
            assert_eq!(place.read(&one, file), value, "{file} {runtime}");
        }
        if place.v1("memory.swappiness") {
            assert_eq!(place.read(&one, "memory.swappiness"), "10");
            assert!(place.read(&one, "memory.oom_control").contains("oom_kill_disable 1"), "{runtime}");
        }
        let plain = spec(service(&["work", "sleep"]));
        place.run(&plain).await;
        assert_eq!(place.read(&plain, "pids.max"), "4096", "the default");
    }
}

#[tokio::test]
async fn limits_of_a_container_that_runs_are_changed() {
    let place = Place::new("");
    let mut one = with(&["work", "sleep"], |s| s.resources.memory = Some(32 * MIB));
    place.run(&one).await;
    let (init, shim) = place.running(&one);
    // Up, beyond what memory and swap together were before; and down again, to below what memory was.
    for memory in [256, 16, 64] {
        one.service.resources = Resources { memory: Some(memory * MIB), ..everything() };
        place.all().update(&one).await.expect("updated");
        let v1 = place.v1("memory.limit_in_bytes");
        let limit = if v1 { "memory.limit_in_bytes" } else { "memory.max" };
        assert_eq!(place.read(&one, limit), (memory * MIB).to_string());
        let (total, factor) = if v1 { ("memory.memsw.limit_in_bytes", 2) } else { ("memory.swap.max", 1) };
        assert_eq!(place.read(&one, total), (factor * memory * MIB).to_string());
    }
    for (file, value, file_two, value_two) in READ_BACK {
        let (file, value) = if place.v1(file) { (file, value) } else { (file_two, value_two) };
        assert_eq!(place.read(&one, file), value, "{file}");
    }
    // And all of it is taken away again.
    one.service.resources = Resources { pids: Some(Ceiling::Unlimited), ..Resources::default() };
    place.all().update(&one).await.expect("updated");
    assert_eq!(place.read(&one, "pids.max"), "max");
    if place.v1("memory.limit_in_bytes") {
        assert!(place.read(&one, "memory.limit_in_bytes").starts_with("922337203685477"));
        assert_eq!(place.read(&one, "cpu.cfs_quota_us"), "-1");
        assert_eq!(place.read(&one, "cpu.shares"), "1024");
        assert!(place.read(&one, "memory.oom_control").contains("oom_kill_disable 0"));
        assert_eq!(place.read(&one, "memory.swappiness"), "60");
    } else {
        assert_eq!(place.read(&one, "memory.max"), "max");
        assert_eq!(place.read(&one, "cpu.max"), "max 100000");
        assert_eq!(place.read(&one, "cpu.weight"), "100");
        assert_eq!(place.read(&one, "memory.swap.max"), "max");
    }
    assert_ne!(place.read(&one, "cpuset.cpus"), "0", "all again");
    assert_eq!(place.running(&one), (init, shim), "it was not started again");
    assert_eq!(place.all().observe()[&one.id].spec, one);
}

#[tokio::test]
async fn a_limit_below_what_is_used_is_refused_and_changes_nothing() {
    let place = Place::new("");
    let mut one = with(&["work", "mem", "48"], |s| s.resources.memory = Some(96 * MIB));
    place.run(&one).await;
    place.says(&one, "48 MiB touched").await;
    let before = one.clone();
    one.service.resources.memory = Some(16 * MIB);
    one.service.resources.pids = Some(Ceiling::At(32));
    let error = place.all().update(&one).await.expect_err("it uses more than that");
    let UpdateError::Resources(why) = &error else { panic!("{error:?}") };
    let text = why.to_string();
    assert!(text.starts_with("mem_limit 16 MiB was refused: the container uses 4"), "{text}");
    assert_eq!(place.read(&one, "pids.max"), "4096", "nothing of it");
    let limit = if place.v1("memory.limit_in_bytes") { "memory.limit_in_bytes" } else { "memory.max" };
    assert_eq!(place.read(&one, limit), (96 * MIB).to_string());
    assert_eq!(place.all().observe()[&one.id].spec, before);
    place.running(&one);
    // One that does not run can be given anything.
    place.all().stop(&one.id, None, 0).await.expect("stopped");
    place.all().update(&one).await.expect("recorded");
    assert_eq!(place.all().observe()[&one.id].spec, one);
}

#[tokio::test]
async fn devices_that_are_none_are_a_clear_error() {
    let place = Place::new("");
    let block = BlockIo { read_bytes: vec![("/dev/null".into(), 1)], ..BlockIo::default() };
    let one = with(&["work", "sleep"], |s| s.resources.block = block);
    place.create(&one).await;
    let error = place.all().start(&one.id).await.expect_err("no block device").to_string();
    assert_eq!(error, "blkio_config names \"/dev/null\", which is no block device of this machine");
}

#[tokio::test]
async fn block_devices_are_limited_by_their_numbers() {
    let place = Place::new("");
    let Some(device) = place::block_device() else { return println!("no block device here") };
    let block = BlockIo {
        weight: Some(300),
        read_bytes: vec![(device.path.clone(), 1_048_576)],
        write_operations: vec![(device.path.clone(), 100)],
        ..BlockIo::default()
    };
    let mut one = with(&["work", "sleep"], |s| s.resources.block = block);
    place.run(&one).await;
    let v1 = place.v1("blkio.throttle.read_bps_device");
    let line = |value: &str| format!("{} {value}", device.numbers);
    if v1 {
        assert_eq!(place.read(&one, "blkio.throttle.read_bps_device"), line("1048576"));
        assert_eq!(place.read(&one, "blkio.throttle.write_iops_device"), line("100"));
        let weight = place.read(&one, "blkio.bfq.weight");
        assert_eq!(weight.lines().next().and_then(|line| line.split(' ').next_back()), Some("300"), "{weight}");
    } else {
        assert_eq!(place.read(&one, "io.max"), line("rbps=1048576 wbps=max riops=max wiops=100"));
        assert_eq!(place.read(&one, "io.weight").lines().next(), Some("default 2930"));
    }
    one.service.resources.block = BlockIo::default();
    place.all().update(&one).await.expect("updated");
    let (left, weight) =
        if v1 { ("blkio.throttle.read_bps_device", "blkio.bfq.weight") } else { ("io.max", "io.weight") };
    assert!(place.read(&one, weight).ends_with("100"), "{weight}");
    assert_eq!(place.read(&one, left), "");
}

#[tokio::test]
async fn real_time_cpu_time_comes_from_the_cgroups_above() {
    for runtime in ["", "/usr/sbin/runc"] {
        let place = Place::new(runtime);
        if let Some(why) = place.all().lacks().get(&Ability::RealTime) {
            return println!("none here: {why}");
        }
        let real_time = |runtime_us, name: &str| {
            with(&["work", "sleep", name], |s| {
                s.resources.realtime_runtime_us = Some(runtime_us);
                s.resources.realtime_period_us = Some(1_000_000);
            })
        };
        let (mut one, two) = (real_time(10_000, "a"), real_time(20_000, "b"));
        place.run(&one).await;
        place.run(&two).await;
        assert_eq!(place.read(&one, "cpu.rt_runtime_us"), "10000");
        one.service.resources.realtime_runtime_us = Some(30_000);
        place.all().update(&one).await.expect("updated");
        assert_eq!(
            (place.read(&one, "cpu.rt_runtime_us"), place.read(&two, "cpu.rt_runtime_us")),
            ("30000".into(), "20000".into())
        );
        one.service.resources.realtime_runtime_us = Some(990_000);
        let error = place.all().update(&one).await.expect_err("more than the machine has");
        let text = std::error::Error::source(&error).expect("a reason").to_string();
        assert!(text.contains("no more real-time CPU time to give"), "{text}");
        assert_eq!(place.read(&one, "cpu.rt_runtime_us"), "30000");
    }
}

#[tokio::test]
async fn memory_beyond_the_limit_is_said_to_be_that() {
    let place = Place::new("");
    let alone = with(&["work", "mem", "64"], |s| {
        s.resources =
            Resources { memory: Some(16 * MIB), memory_and_swap: Some(Ceiling::At(16 * MIB)), ..Resources::default() };
    });
    place.run(&alone).await;
    assert_eq!(place.exit(&alone).await, ExitStatus::OomKilled);
    // A shell that loses its child to the killer returns 137.
    let child = with(&["/bin/sh", "-c", "work mem 64"], |s| s.resources = alone.service.resources.clone());
    place.run(&child).await;
    assert_eq!(place.exit(&child).await, ExitStatus::OomKilled);
    // One that goes on without its child, and one that ends for itself afterwards.
    let script = "work mem 64; echo on; read line; exit 3";
    let on = with(&["/bin/sh", "-c", script], |s| {
        s.resources = alone.service.resources.clone();
        s.process.stdin_open = true;
    });
    place.run(&on).await;
    place.says(&on, "on").await;
    assert_eq!(place.all().stats(std::slice::from_ref(&on.id))[&on.id].memory.map(|m| m.oom_kills), Some(1));
    let ends = with(&["/bin/sh", "-c", "work mem 64; exit 3"], |s| s.resources = alone.service.resources.clone());
    place.run(&ends).await;
    assert_eq!(place.exit(&ends).await, ExitStatus::AfterOom(3));
    // Killed by somebody else, a child that was, and the same code by itself.
    let sleep = with(&["work", "sleep"], |s| s.resources = alone.service.resources.clone());
    place.run(&sleep).await;
    let (init, _) = place.running(&sleep);
    longshore::container::process::Process::open(init).expect("looked at").expect("alive").signal(9);
    assert_eq!(place.exit(&sleep).await, ExitStatus::Signal(9));
    for script in ["exit 137", "/bin/sh -c 'kill -9 $$'; exit $?"] {
        let killed = with(&["/bin/sh", "-c", script], |s| s.resources = alone.service.resources.clone());
        place.run(&killed).await;
        assert_eq!(place.exit(&killed).await, ExitStatus::Code(137), "{script}");
    }
}

#[tokio::test]
async fn a_fork_bomb_stops_at_the_limit_and_is_ended_in_time() {
    let place = Place::new("");
    let bomb = with(&["work", "forkbomb"], |s| s.resources.pids = Some(Ceiling::At(64)));
    place.run(&bomb).await;
    place.says(&bomb, "forked 63 errno 11").await;
    assert_eq!(place.pids(&bomb), 64);
    let before = std::time::Instant::now();
    place.all().stop(&bomb.id, None, 500).await.expect("stopped");
    assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    assert_eq!(place.pids(&bomb), 0);
}

/// Each of them once read who else was there: for thousands that took minutes.
#[tokio::test]
async fn thousands_of_processes_are_ended_in_time() {
    let place = Place::new("");
    for host_pids in [false, true] {
        let bomb = with(&["work", "forkbomb"], |s| {
            s.resources.pids = Some(Ceiling::At(3000));
            if host_pids {
                s.name = longshore::model::ServiceName::parse("host").expect("a name");
                s.isolation.pid = longshore::model::Namespace::Host;
            }
        });
        place.run(&bomb).await;
        place.says(&bomb, "forked 2999 errno 11").await;
        let before = std::time::Instant::now();
        place.all().stop(&bomb.id, None, 0).await.expect("stopped");
        assert!(before.elapsed() < Duration::from_secs(15), "{:?}", before.elapsed());
        assert_eq!(place.pids(&bomb), 0);
    }
}

#[tokio::test]
async fn open_files_end_at_the_limit() {
    let place = Place::new("");
    let many = spec(service(&["work", "fds", "100000"]));
    place.run(&many).await;
    // Three are open already.
    place.says(&many, "fds 1021 errno 24").await;
}

#[tokio::test]
async fn a_quota_is_kept() {
    let place = Place::new("");
    let spin = with(&["work", "spin"], |s| {
        s.resources.cpu = Some(CpuQuota { quota_us: 25_000, period_us: 100_000 });
    });
    place.run(&spin).await;
    let file = if place.v1("cpuacct.usage") { "cpuacct.usage" } else { "cpu.stat" };
    let used = || -> u64 {
        let text = place.read(&spin, file);
        match text.strip_prefix("usage_usec ") {
            Some(rest) => rest.lines().next().expect("a line").parse::<u64>().expect("a number") * 1000,
            None => text.parse().expect("a number"),
        }
    };
    // By the kernel's own count of periods, not by a clock: this machine may be slow, and then less is used.
    let periods = || -> u64 {
        let stat = place.read(&spin, "cpu.stat");
        let line = stat.lines().find_map(|l| l.strip_prefix("nr_periods ")).expect("a line");
        line.parse().expect("a number")
    };
    until("the quota was reached now and then", || periods() > 2).await;
    let (from, began) = (used(), periods());
    until("twenty periods have passed", || periods() >= began + 20).await;
    let each = (used() - from) / (periods() - began);
    assert!((5_000_000..40_000_000).contains(&each), "{each} ns in each period of 100 ms, instead of 25 ms");
}

#[tokio::test]
async fn what_a_container_uses_is_told() {
    let place = Place::new("");
    let one = with(&["work", "mem", "32"], |s| {
        s.resources = Resources { memory: Some(64 * MIB), pids: Some(Ceiling::At(50)), ..Resources::default() };
    });
    place.create(&one).await;
    let stats = || place.all().stats(std::slice::from_ref(&one.id)).remove(&one.id);
    assert_eq!(stats(), None, "it does not run");
    // Twice: the files of the last run are of no use for the next one.
    for _ in 0..2 {
        place.all().start(&one.id).await.expect("started");
        until("it took what it wants", || stats().and_then(|s| s.memory).is_some_and(|m| m.used() > 32 * MIB)).await;
        let seen = stats().expect("it runs");
        let memory = seen.memory.expect("known");
        assert!(memory.used() < 48 * MIB && memory.oom_kills == 0, "{memory:?}");
        assert_eq!(memory.limit, Some(64 * MIB));
        assert_eq!(seen.pids.map(|p| (p.current, p.limit)), Some((1, Some(50))));
        let cpu = seen.cpu.expect("known");
        assert!(cpu.usage_ns > 0 && cpu.usage_ns < seen.uptime_us * 1000 * 64, "{seen:?}");
        assert!((1..60_000_000).contains(&seen.uptime_us), "{seen:?}");
        assert_eq!(seen.network.map(|n| n.received_bytes + n.sent_bytes), Some(0), "nothing but loopback");
        assert!(seen.block.is_some());
        assert_eq!(seen.pressure.is_some(), !place.v1("memory.usage_in_bytes"));
        place.all().stop(&one.id, None, 0).await.expect("stopped");
        assert_eq!(stats(), None);
    }
    let spin = with(&["work", "spin"], |s| s.network = longshore::model::NetworkMode::Host);
    place.run(&spin).await;
    let used = || {
        let all = place.all().stats(std::slice::from_ref(&spin.id));
        assert_eq!(all[&spin.id].network, None, "the host's network is not its own");
        (all[&spin.id].cpu.expect("known").usage_ns, all[&spin.id].uptime_us)
    };
    let (from, began) = used();
    until("it used CPU time", || used().0 > from + 300_000_000).await;
    let (now, at) = used();
    assert!(now - from <= (at - began) * 1000 + 50_000_000, "one thread cannot use more than one processor");
}

#[tokio::test]
async fn the_processes_of_a_container_are_listed() {
    let place = Place::new("");
    let one = with(&["/bin/sh", "-c", "work zombies 5 & exec work spin"], |s| {
        s.process.user = Some("33:44".into());
    });
    place.run(&one).await;
    let listed = || place.all().top(&one.id);
    until("all are there", || listed().iter().filter(|row| row.state == 'Z').count() == 5).await;
    until("it used CPU time", || listed()[0].cpu_ms > 50).await;
    let rows = listed();
    let (init, _) = place.running(&one);
    assert_eq!(rows.len(), 7, "{rows:?}");
    assert_eq!((rows[0].pid, rows[0].inner_pid, rows[0].command.as_str()), (init.pid, 1, "work spin"));
    let zombies = rows.iter().find(|row| row.command == "work zombies 5").expect("listed");
    assert!(zombies.inner_pid > 1 && zombies.state == 'S' && zombies.resident_bytes > 0, "{zombies:?}");
    assert!(rows.iter().all(|row| row.uid == 33 && row.threads == 1), "{rows:?}");
    assert_eq!(rows.iter().filter(|row| row.command == "[work]" && row.state == 'Z').count(), 5);
    place.all().stop(&one.id, None, 0).await.expect("stopped");
    assert_eq!(listed(), []);
}
