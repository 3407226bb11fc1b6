//! `container.json`: what a container was made from. Its own types, versioned, turned into the model and back.

mod depends;
mod files;
mod isolation;
mod membership;
pub mod mounts;
pub mod network;
mod pace;
mod resources;
mod run;
mod task;

use depends::DependencyRecord;
use files::FileRecord;
use pace::PaceRecord;
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::{
    ContainerId, ContainerName, ContainerSpec, Digest, EnvVar, ImageReference, Names, Platform, Process, ProjectName,
    PullPolicy, Resources, RestartPolicy, Service, ServiceName, Signal, Slot, SpecHash, StopPolicy,
};

use isolation::{IsolationRecord, NamesRecord, is_default};
use membership::NetworkRecord;
use mounts::MountRecord;
use resources::ResourcesRecord;
use run::RunRecord;
use task::TaskRecord;

/// What the image says about how it is run; resolved by whoever made the container, kept with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageDefaults {
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Cmd`.
    pub command: Vec<String>,
    /// `Env`, each `NAME=value`.
    pub environment: Vec<String>,
    /// `WorkingDir`; empty: `/`.
    pub working_dir: String,
    /// `User`, looked up in the image's root; empty: root.
    pub user: String,
    /// `StopSignal`.
    pub stop_signal: Option<String>,
    /// `Volumes`.
    #[serde(skip_serializing_if = "is_default")]
    pub volumes: Vec<String>,
}

/// The file. The first field of every version is `version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// 1.
    pub version: u32,
    /// The layers' folders, the lowest first.
    pub layers: Vec<PathBuf>,
    /// What the image says.
    pub image_defaults: ImageDefaults,
    /// What was asked for.
    pub spec: SpecRecord,
}

/// A container record that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not the JSON we write.
    #[error("not a record of a container")]
    Json(#[source] serde_json::Error),
    /// Written by a later version.
    #[error("version {0} of the record is not known")]
    Version(u32),
    /// A value that our own types do not allow.
    #[error("{what} {value:?} is not valid")]
    Value { what: &'static str, value: String },
}

impl ContainerRecord {
    /// The version that is written.
    pub const VERSION: u32 = 1;

    /// The record of a container.
    #[must_use]
    pub fn new(spec: &ContainerSpec, layers: Vec<PathBuf>, image_defaults: ImageDefaults) -> Self {
        Self { version: Self::VERSION, layers, image_defaults, spec: SpecRecord::from(spec) }
    }

    /// Reads a record.
    pub fn parse(json: &[u8]) -> Result<Self, RecordError> {
        /// Read by itself: a later version may have other fields.
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = serde_json::from_slice(json).map_err(RecordError::Json)?;
        if head.version != Self::VERSION {
            return Err(RecordError::Version(head.version));
        }
        serde_json::from_slice(json).map_err(RecordError::Json)
    }
}

/// [`ContainerSpec`] as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecRecord {
    id: String,
    name: String,
    project: String,
    number: u32,
    image: String,
    image_digest: String,
    /// Images that it mounts, with their digests.
    #[serde(default, skip_serializing_if = "is_default")]
    mounted: BTreeMap<String, String>,
    service: ServiceRecord,
    /// The run of a schedule that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<RunRecord>,
    /// The one-off that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task: Option<TaskRecord>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ServiceRecord {
    name: String,
    image: Option<String>,
    platform: Option<(String, String, Option<String>)>,
    pull: PullRecord,
    replicas: u32,
    container_name: Option<String>,
    process: ProcessRecord,
    hostname: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    restart: RestartRecord,
    #[serde(default, skip_serializing_if = "is_default")]
    pace: PaceRecord,
    stop_signal: Option<u8>,
    stop_grace_ms: u64,
    network: NetworkRecord,
    read_only: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    mounts: Vec<MountRecord>,
    #[serde(default, skip_serializing_if = "is_default")]
    required_mounts: Vec<PathBuf>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    depends: Vec<DependencyRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    files: Vec<FileRecord>,
    #[serde(default, skip_serializing_if = "is_default")]
    names: NamesRecord,
    #[serde(default, skip_serializing_if = "is_default")]
    isolation: IsolationRecord,
    #[serde(default, skip_serializing_if = "is_default")]
    resources: ResourcesRecord,
    hash: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ProcessRecord {
    entrypoint: Option<Vec<String>>,
    command: Option<Vec<String>>,
    environment: Vec<(String, Option<String>)>,
    working_dir: Option<String>,
    user: Option<String>,
    tty: bool,
    stdin_open: bool,
    init: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PullRecord {
    Missing,
    Always,
    Never,
    Every { ms: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RestartRecord {
    No,
    Always,
    UnlessStopped,
    OnFailure { max: Option<u32> },
}

impl From<&ContainerSpec> for SpecRecord {
    fn from(spec: &ContainerSpec) -> Self {
        Self {
            id: spec.id.to_string(),
            name: spec.name.to_string(),
            project: spec.slot.project.to_string(),
            number: spec.slot.number,
            image: spec.image.to_string(),
            image_digest: spec.image_digest.to_string(),
            mounted: spec.mounted.iter().map(|(image, digest)| (image.to_string(), digest.to_string())).collect(),
            service: ServiceRecord::from(&spec.service),
            run: RunRecord::of(&spec.purpose),
            task: TaskRecord::of(&spec.purpose),
        }
    }
}

impl From<&Service> for ServiceRecord {
    fn from(service: &Service) -> Self {
        let process = &service.process;
        Self {
            name: service.name.to_string(),
            image: service.image.as_ref().map(ToString::to_string),
            platform: service.platform.clone().map(|p| (p.os, p.architecture, p.variant)),
            pull: match service.pull {
                PullPolicy::Missing => PullRecord::Missing,
                PullPolicy::Always => PullRecord::Always,
                PullPolicy::Never => PullRecord::Never,
                PullPolicy::Every { ms } => PullRecord::Every { ms },
            },
            replicas: service.replicas,
            container_name: service.container_name.as_ref().map(ToString::to_string),
            process: ProcessRecord {
                entrypoint: process.entrypoint.clone(),
                command: process.command.clone(),
                environment: process.environment.iter().map(|v| (v.name.clone(), v.value.clone())).collect(),
                working_dir: process.working_dir.clone(),
                user: process.user.clone(),
                tty: process.tty,
                stdin_open: process.stdin_open,
                init: process.init,
            },
            hostname: service.hostname.clone(),
            labels: service.labels.clone(),
            annotations: service.annotations.clone(),
            pace: service.pace.into(),
            restart: match service.restart {
                RestartPolicy::No => RestartRecord::No,
                RestartPolicy::Always => RestartRecord::Always,
                RestartPolicy::UnlessStopped => RestartRecord::UnlessStopped,
                RestartPolicy::OnFailure { max } => RestartRecord::OnFailure { max },
            },
            stop_signal: service.stop.signal.and_then(|s| u8::try_from(s.number()).ok()),
            stop_grace_ms: service.stop.grace_ms,
            network: NetworkRecord::from(&service.network),
            read_only: service.read_only,
            mounts: service.mounts.iter().map(MountRecord::from).collect(),
            required_mounts: service.required_mounts.clone(),
            depends: service.depends.iter().map(DependencyRecord::from).collect(),
            files: service.files.iter().map(FileRecord::from).collect(),
            names: NamesRecord::from(&service.names),
            isolation: IsolationRecord::from(&service.isolation),
            resources: ResourcesRecord::from(&service.resources),
            hash: service.hash.to_string(),
        }
    }
}

impl SpecRecord {
    /// Back to the model. A container that exists has no holds.
    pub fn to_model(&self) -> Result<ContainerSpec, RecordError> {
        let service = self.service.to_model()?;
        Ok(ContainerSpec {
            id: valid("container id", &self.id, ContainerId::from_hex)?,
            name: valid("container name", &self.name, |t| ContainerName::parse(t).ok())?,
            slot: Slot {
                project: valid("project", &self.project, |t| ProjectName::parse(t).ok())?,
                service: service.name.clone(),
                number: self.number,
            },
            image: image(&self.image)?,
            image_digest: digest(&self.image_digest)?,
            mounted: self.mounted.iter().map(|(name, of)| Ok((image(name)?, digest(of)?))).collect::<Result<_, _>>()?,
            service,
            purpose: match &self.task {
                Some(task) => task.to_model(),
                None => self.run.as_ref().map(RunRecord::to_model).transpose()?.unwrap_or_default(),
            },
        })
    }
}

impl ServiceRecord {
    fn to_model(&self) -> Result<Service, RecordError> {
        let process = &self.process;
        let name = |text: &String| valid("container name", text, |t| ContainerName::parse(t).ok());
        let signal = |number: u8| valid("signal", &number.to_string(), Signal::parse);
        Ok(Service {
            name: valid("service", &self.name, |t| ServiceName::parse(t).ok())?,
            image: self.image.as_deref().map(image).transpose()?,
            platform: self.platform.clone().map(|(os, architecture, variant)| Platform { os, architecture, variant }),
            pull: match self.pull {
                PullRecord::Missing => PullPolicy::Missing,
                PullRecord::Always => PullPolicy::Always,
                PullRecord::Never => PullPolicy::Never,
                PullRecord::Every { ms } => PullPolicy::Every { ms },
            },
            replicas: self.replicas,
            container_name: self.container_name.as_ref().map(name).transpose()?,
            process: Process {
                entrypoint: process.entrypoint.clone(),
                command: process.command.clone(),
                environment: process
                    .environment
                    .iter()
                    .map(|(name, value)| EnvVar { name: name.clone(), value: value.clone() })
                    .collect(),
                working_dir: process.working_dir.clone(),
                user: process.user.clone(),
                tty: process.tty,
                stdin_open: process.stdin_open,
                init: process.init,
            },
            hostname: self.hostname.clone(),
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            pace: self.pace.into(),
            restart: match self.restart {
                RestartRecord::No => RestartPolicy::No,
                RestartRecord::Always => RestartPolicy::Always,
                RestartRecord::UnlessStopped => RestartPolicy::UnlessStopped,
                RestartRecord::OnFailure { max } => RestartPolicy::OnFailure { max },
            },
            stop: StopPolicy { signal: self.stop_signal.map(signal).transpose()?, grace_ms: self.stop_grace_ms },
            network: self.network.to_model()?,
            read_only: self.read_only,
            mounts: self.mounts.iter().map(MountRecord::to_model).collect::<Result<_, _>>()?,
            required_mounts: self.required_mounts.clone(),
            depends: self.depends.iter().map(DependencyRecord::to_model).collect::<Result<_, _>>()?,
            // The file says when there is a next run.
            schedule: None,
            files: self.files.iter().map(FileRecord::to_model).collect::<Result<_, _>>()?,
            names: Names::from(&self.names),
            isolation: self.isolation.to_model()?,
            resources: Resources::from(&self.resources),
            loosenings: Vec::new(),
            wishes: Vec::new(),
            holds: Vec::new(),
            hash: valid("hash", &self.hash, SpecHash::from_hex)?,
        })
    }
}

fn image(text: &str) -> Result<ImageReference, RecordError> {
    valid("image", text, |t| ImageReference::parse(t).ok())
}

fn digest(text: &str) -> Result<Digest, RecordError> {
    valid("digest", text, |t| Digest::parse(t).ok())
}

fn valid<T>(what: &'static str, text: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, RecordError> {
    parse(text).ok_or_else(|| RecordError::Value { what, value: text.to_owned() })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{
        BlockIo, CapabilitySet, Ceiling, CpuQuota, Device, DeviceAccess, DeviceKind, DeviceRequest, DeviceRule, Ipc,
        Isolation, Limit, LimitRange, NetworkMode, Purpose, Run, RunWhy, Seccomp, Timestamp, Tmpfs, UserNamespace,
        Which,
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
                platform: Some(Platform {
                    os: "linux".into(),
                    architecture: "arm64".into(),
                    variant: Some("v8".into()),
                }),
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
                mounts: mounts::tests::sample(),
                required_mounts: vec!["/srv".into()],
                depends: depends::tests::sample(),
                schedule: None,
                files: files::tests::sample(),
                names: Names {
                    domain: Some("lan".into()),
                    hosts: vec![("db".into(), "10.0.0.7".into())],
                    ..Names::default()
                },
                isolation: isolation(),
                resources: resources(),
                loosenings: Vec::new(),
                wishes: Vec::new(),
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
}
