use super::*;
use crate::model::{
    BlockIo, CapabilitySet, Ceiling, CpuQuota, Device, DeviceAccess, DeviceKind, DeviceRequest, DeviceRule, Ipc,
    Isolation, Limit, LimitRange, NetworkMode, Purpose, Run, RunWhy, Seccomp, Timestamp, Tmpfs, UserNamespace, Which,
};

/// A container with everything set.
pub(in crate::container) fn sample() -> ContainerSpec {
    let name = ServiceName::parse("web").expect("a name");
    let slot = Slot { project: ProjectName::parse("shop").expect("a name"), service: name.clone(), number: 2 };
    let digest = Digest::parse(&format!("sha256:{}", "b".repeat(64))).expect("a digest");
    let hash = SpecHash::of(b"sample");
    ContainerSpec {
        id: ContainerId::derive(&slot, &hash, &digest),
        name: ContainerName::parse("shop-web-2").expect("a name"),
        slot,
        image: ImageReference::parse("localhost:5000/web:1").expect("a reference"),
        mounted: BTreeMap::from([(
            ImageReference::parse("localhost:5000/assets:1").expect("a reference"),
            digest.clone(),
        )]),
        image_digest: digest,
        service: Service {
            name,
            image: ImageReference::parse("localhost:5000/web:1").ok(),
            platform: Some(Platform { os: "linux".into(), architecture: "arm64".into(), variant: Some("v8".into()) }),
            pull: PullPolicy::Every { ms: 5 },
            replicas: 3,
            container_name: None,
            process: Process {
                entrypoint: None,
                command: Some(vec!["run".into(), "a b".into()]),
                environment: vec![
                    EnvVar { name: "GONE".into(), value: None },
                    EnvVar { name: "NEW".into(), value: Some("x=y".into()) },
                ],
                working_dir: Some("/srv".into()),
                user: Some("web".into()),
                tty: true,
                stdin_open: true,
                init: true,
            },
            hostname: Some("shop".into()),
            labels: BTreeMap::from([("a".into(), "b".into())]),
            annotations: BTreeMap::from([("c".into(), "d".into())]),
            restart: RestartPolicy::OnFailure { max: Some(3) },
            pace: crate::model::RestartPace { first_ms: 1, factor_percent: 150, longest_ms: 7, reset_ms: 9 },
            stop: StopPolicy { signal: Some(Signal::KILL), grace_ms: 7 },
            network: NetworkMode::Host,
            read_only: true,
            hold_port: false,
            mounts: mounts::tests::sample(),
            required_mounts: vec!["/srv".into()],
            depends: depends::tests::sample(),
            schedule: None,
            hooks: Hooks::default(),
            files: files::tests::sample(),
            health: health::tests::sample(),
            names: Names {
                domain: Some("lan".into()),
                hosts: vec![("db".into(), "10.0.0.7".into())],
                ..Names::default()
            },
            isolation: isolation(),
            resources: resources(),
            pinned: None,
            taking: Default::default(),
            loosenings: Vec::new(),
            wishes: Vec::new(),
            suspended: false,
            holds: Vec::new(),
            hash,
        },
        purpose: Purpose::Run(Run { due: Timestamp(1_800_000_000_000), why: RunWhy::Missed }),
    }
}

fn isolation() -> Isolation {
    let access = DeviceAccess { read: true, write: false, make: false };
    Isolation {
        cap_add: CapabilitySet::DOCKER,
        no_new_privileges: Some(true),
        seccomp: Seccomp::Profile("{}".into()),
        ipc: Ipc::Host,
        user: UserNamespace::Auto { size: 65_536 },
        limits: BTreeMap::from([(Limit::Nofile, LimitRange { soft: 10, hard: u64::MAX })]),
        devices: vec![Device { source: "/dev/null".into(), target: "/dev/zero".into(), access }],
        device_rules: vec![DeviceRule { kind: DeviceKind::Block, major: Some(8), minor: None, access }],
        requests: vec![DeviceRequest {
            driver: "vendor.com/gpu".into(),
            which: Which::Ids(vec!["0".into()]),
            capabilities: vec!["gpu".into()],
        }],
        tmpfs: vec![Tmpfs { target: "/run".into(), options: vec!["size=1m".into()] }],
        ..Isolation::default()
    }
}

fn resources() -> Resources {
    Resources {
        memory: Some(1 << 20),
        memory_and_swap: Some(Ceiling::Unlimited),
        cpu: Some(CpuQuota { quota_us: 50_000, period_us: 100_000 }),
        pids: Some(Ceiling::At(10)),
        block: BlockIo { read_bytes: vec![("/dev/vda".into(), 7)], ..BlockIo::default() },
        ..Resources::default()
    }
}

#[test]
fn a_container_comes_back_from_its_record() {
    let spec = sample();
    let record = ContainerRecord::new(&spec, vec!["/l/1".into()], ImageDefaults::default());
    let json = serde_json::to_vec(&record).expect("JSON");
    let back = ContainerRecord::parse(&json).expect("a record");
    assert_eq!(back, record);
    assert_eq!(back.spec.to_model().expect("valid"), spec);
    assert!(ContainerRecord::parse(b"{").is_err());
    let later = String::from_utf8(json).expect("text").replacen("\"version\":1", "\"version\":9", 1);
    assert!(matches!(ContainerRecord::parse(later.as_bytes()), Err(RecordError::Version(9))));
    let other = br#"{"version":2,"image":"x"}"#;
    assert!(matches!(ContainerRecord::parse(other), Err(RecordError::Version(2))), "whatever else it holds");
}

#[test]
fn a_record_from_before_images_were_mounted_is_read() {
    let mut spec = sample();
    spec.mounted.clear();
    spec.service.mounts.retain(|mount| mount.target != "/image");
    let record = ContainerRecord::new(&spec, Vec::new(), ImageDefaults::default());
    let json = serde_json::to_string(&record).expect("JSON");
    assert!(!json.contains("mounted"), "{json}");
    let back = ContainerRecord::parse(json.as_bytes()).expect("a record").spec.to_model().expect("valid");
    assert_eq!(back, spec);
    let bare = ContainerId::derive(&spec.slot, &spec.service.hash, &spec.image_digest);
    let mounting =
        |of: &ContainerSpec| ContainerId::mounting(&of.slot, &of.service.hash, &of.image_digest, &of.mounted);
    assert_eq!(mounting(&spec), bare, "what it was known by");
    assert_ne!(mounting(&sample()), bare);
}
