//! `container.json`: what a container was made from. Its own types, versioned, turned into the model and back.

mod defaults;
mod depends;
mod error;
mod files;
mod health;
mod hooks;
mod isolation;
mod membership;
pub mod mounts;
pub mod network;
mod pace;
mod resources;
mod run;
mod task;

pub use defaults::ImageDefaults;
use depends::DependencyRecord;
pub use error::RecordError;
use files::FileRecord;
pub use health::HealthCheckRecord;
use health::HealthRecord;
use pace::PaceRecord;
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::{
    ContainerId, ContainerName, ContainerSpec, Digest, EnvVar, HealthCheck, HealthPolicy, Hooks, ImageReference, Names,
    Platform, Process, ProjectName, PullPolicy, Resources, RestartPolicy, Service, ServiceName, Signal, Slot, SpecHash,
    StopPolicy,
};

use hooks::HooksRecord;
use isolation::{IsolationRecord, NamesRecord, is_default};
use membership::NetworkRecord;
use mounts::MountRecord;
use resources::ResourcesRecord;
use run::RunRecord;
use task::TaskRecord;

impl ImageDefaults {
    /// What is needed of a container beside its start.
    pub(super) fn known(&self) -> (Option<Signal>, HealthCheck) {
        (self.stop_signal.as_deref().and_then(Signal::parse), HealthCheck::from(&self.health))
    }
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
    health: HealthRecord,
    #[serde(default, skip_serializing_if = "is_default")]
    hooks: HooksRecord,
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
            health: HealthRecord::from(&service.health),
            hooks: HooksRecord::from(&service.hooks),
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
            hold_port: false,
            mounts: self.mounts.iter().map(MountRecord::to_model).collect::<Result<_, _>>()?,
            required_mounts: self.required_mounts.clone(),
            depends: self.depends.iter().map(DependencyRecord::to_model).collect::<Result<_, _>>()?,
            // The file says when there is a next run.
            schedule: None,
            hooks: Hooks::from(&self.hooks),
            files: self.files.iter().map(FileRecord::to_model).collect::<Result<_, _>>()?,
            health: HealthPolicy::from(&self.health),
            names: Names::from(&self.names),
            isolation: self.isolation.to_model()?,
            resources: Resources::from(&self.resources),
            pinned: None,
            taking: Default::default(),
            loosenings: Vec::new(),
            wishes: Vec::new(),
            suspended: false,
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
pub(super) mod tests;
