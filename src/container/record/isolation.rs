//! `isolation` and `names` of the record. What has its default is not written, and what is not written has its default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{RecordError, valid};
use crate::model::{
    CapabilitySet, Device, DeviceAccess, DeviceKind, DeviceRequest, DeviceRule, Ipc, Isolation, Limit, LimitRange,
    Names, Namespace, Seccomp, Tmpfs, UserNamespace, Which,
};

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct IsolationRecord {
    #[serde(skip_serializing_if = "is_default")]
    privileged: bool,
    #[serde(skip_serializing_if = "is_default")]
    cap_add: u64,
    #[serde(skip_serializing_if = "is_default")]
    cap_drop: u64,
    #[serde(skip_serializing_if = "is_default")]
    no_new_privileges: Option<bool>,
    #[serde(skip_serializing_if = "is_default")]
    seccomp: SeccompRecord,
    #[serde(skip_serializing_if = "is_default")]
    apparmor: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    labels: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    unmasked: bool,
    #[serde(skip_serializing_if = "is_default")]
    host_pid: bool,
    #[serde(skip_serializing_if = "is_default")]
    ipc: IpcRecord,
    #[serde(skip_serializing_if = "is_default")]
    host_uts: bool,
    #[serde(skip_serializing_if = "is_default")]
    host_cgroup: bool,
    /// How many ids of its own; none: the host's.
    #[serde(skip_serializing_if = "is_default")]
    own_ids: Option<u32>,
    #[serde(skip_serializing_if = "is_default")]
    groups: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    sysctls: BTreeMap<String, String>,
    /// Name, soft, hard.
    #[serde(skip_serializing_if = "is_default")]
    limits: Vec<(String, u64, u64)>,
    /// Source, target, access.
    #[serde(skip_serializing_if = "is_default")]
    devices: Vec<(String, String, String)>,
    /// Kind, major, minor, access.
    #[serde(skip_serializing_if = "is_default")]
    device_rules: Vec<(KindRecord, Option<u32>, Option<u32>, String)>,
    #[serde(skip_serializing_if = "is_default")]
    requests: Vec<RequestRecord>,
    /// Target, options.
    #[serde(skip_serializing_if = "is_default")]
    tmpfs: Vec<(String, Vec<String>)>,
    #[serde(skip_serializing_if = "is_default")]
    shm_bytes: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    root_bytes: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    oom_score: Option<i16>,
    #[serde(skip_serializing_if = "is_default")]
    cgroup_parent: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    runtime: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SeccompRecord {
    #[default]
    Default,
    Unconfined,
    Profile(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum IpcRecord {
    #[default]
    Private,
    None,
    Host,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindRecord {
    All,
    Block,
    Character,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RequestRecord {
    driver: String,
    which: WhichRecord,
    capabilities: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WhichRecord {
    All,
    Count(u32),
    Ids(Vec<String>),
}

impl From<&Isolation> for IsolationRecord {
    fn from(isolation: &Isolation) -> Self {
        Self {
            privileged: isolation.privileged,
            cap_add: isolation.cap_add.mask(),
            cap_drop: isolation.cap_drop.mask(),
            no_new_privileges: isolation.no_new_privileges,
            seccomp: match &isolation.seccomp {
                Seccomp::Default => SeccompRecord::Default,
                Seccomp::Unconfined => SeccompRecord::Unconfined,
                Seccomp::Profile(text) => SeccompRecord::Profile(text.clone()),
            },
            apparmor: isolation.apparmor.clone(),
            labels: isolation.labels.clone(),
            unmasked: isolation.unmasked,
            host_pid: isolation.pid == Namespace::Host,
            ipc: match isolation.ipc {
                Ipc::Private => IpcRecord::Private,
                Ipc::None => IpcRecord::None,
                Ipc::Host => IpcRecord::Host,
            },
            host_uts: isolation.uts == Namespace::Host,
            host_cgroup: isolation.cgroup == Namespace::Host,
            own_ids: match isolation.user {
                UserNamespace::Host => None,
                UserNamespace::Auto { size } => Some(size),
            },
            groups: isolation.groups.clone(),
            sysctls: isolation.sysctls.clone(),
            limits: isolation.limits.iter().map(|(l, range)| (l.name().to_owned(), range.soft, range.hard)).collect(),
            devices: isolation.devices.iter().map(|d| (d.source.clone(), d.target.clone(), d.access.text())).collect(),
            device_rules: isolation.device_rules.iter().map(rule_record).collect(),
            requests: isolation.requests.iter().map(request_record).collect(),
            tmpfs: isolation.tmpfs.iter().map(|t| (t.target.clone(), t.options.clone())).collect(),
            shm_bytes: isolation.shm_bytes,
            root_bytes: isolation.root_bytes,
            oom_score: isolation.oom_score,
            cgroup_parent: isolation.cgroup_parent.clone(),
            runtime: isolation.runtime.clone(),
        }
    }
}

fn rule_record(rule: &DeviceRule) -> (KindRecord, Option<u32>, Option<u32>, String) {
    let kind = match rule.kind {
        DeviceKind::All => KindRecord::All,
        DeviceKind::Block => KindRecord::Block,
        DeviceKind::Character => KindRecord::Character,
    };
    (kind, rule.major, rule.minor, rule.access.text())
}

fn request_record(request: &DeviceRequest) -> RequestRecord {
    let which = match &request.which {
        Which::All => WhichRecord::All,
        Which::Count(count) => WhichRecord::Count(*count),
        Which::Ids(ids) => WhichRecord::Ids(ids.clone()),
    };
    RequestRecord { driver: request.driver.clone(), which, capabilities: request.capabilities.clone() }
}

impl IsolationRecord {
    pub(super) fn to_model(&self) -> Result<Isolation, RecordError> {
        let namespace = |host| if host { Namespace::Host } else { Namespace::Private };
        let access = |text: &str| valid("device access", text, DeviceAccess::parse);
        let limit = |(name, soft, hard): &(String, u64, u64)| {
            Ok((valid("limit", name, Limit::parse)?, LimitRange { soft: *soft, hard: *hard }))
        };
        let device = |(source, target, may): &(String, String, String)| {
            Ok(Device { source: source.clone(), target: target.clone(), access: access(may)? })
        };
        let rule = |(kind, major, minor, may): &(KindRecord, Option<u32>, Option<u32>, String)| {
            let kind = match kind {
                KindRecord::All => DeviceKind::All,
                KindRecord::Block => DeviceKind::Block,
                KindRecord::Character => DeviceKind::Character,
            };
            Ok(DeviceRule { kind, major: *major, minor: *minor, access: access(may)? })
        };
        let request = |request: &RequestRecord| DeviceRequest {
            driver: request.driver.clone(),
            which: match &request.which {
                WhichRecord::All => Which::All,
                WhichRecord::Count(count) => Which::Count(*count),
                WhichRecord::Ids(ids) => Which::Ids(ids.clone()),
            },
            capabilities: request.capabilities.clone(),
        };
        let tmpfs =
            |(target, options): &(String, Vec<String>)| Tmpfs { target: target.clone(), options: options.clone() };
        Ok(Isolation {
            privileged: self.privileged,
            cap_add: CapabilitySet::from_mask(self.cap_add),
            cap_drop: CapabilitySet::from_mask(self.cap_drop),
            no_new_privileges: self.no_new_privileges,
            seccomp: match &self.seccomp {
                SeccompRecord::Default => Seccomp::Default,
                SeccompRecord::Unconfined => Seccomp::Unconfined,
                SeccompRecord::Profile(text) => Seccomp::Profile(text.clone()),
            },
            apparmor: self.apparmor.clone(),
            labels: self.labels.clone(),
            unmasked: self.unmasked,
            pid: namespace(self.host_pid),
            ipc: match self.ipc {
                IpcRecord::Private => Ipc::Private,
                IpcRecord::None => Ipc::None,
                IpcRecord::Host => Ipc::Host,
            },
            uts: namespace(self.host_uts),
            cgroup: namespace(self.host_cgroup),
            user: self.own_ids.map_or(UserNamespace::Host, |size| UserNamespace::Auto { size }),
            groups: self.groups.clone(),
            sysctls: self.sysctls.clone(),
            limits: self.limits.iter().map(limit).collect::<Result<_, RecordError>>()?,
            devices: self.devices.iter().map(device).collect::<Result<_, RecordError>>()?,
            device_rules: self.device_rules.iter().map(rule).collect::<Result<_, RecordError>>()?,
            requests: self.requests.iter().map(request).collect(),
            tmpfs: self.tmpfs.iter().map(tmpfs).collect(),
            shm_bytes: self.shm_bytes,
            root_bytes: self.root_bytes,
            oom_score: self.oom_score,
            cgroup_parent: self.cgroup_parent.clone(),
            runtime: self.runtime.clone(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct NamesRecord {
    #[serde(skip_serializing_if = "is_default")]
    domain: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    hosts: Vec<(String, String)>,
    #[serde(skip_serializing_if = "is_default")]
    servers: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    search: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    options: Vec<String>,
}

impl From<&Names> for NamesRecord {
    fn from(names: &Names) -> Self {
        let Names { domain, hosts, servers, search, options } = names.clone();
        Self { domain, hosts, servers, search, options }
    }
}

impl From<&NamesRecord> for Names {
    fn from(names: &NamesRecord) -> Self {
        let NamesRecord { domain, hosts, servers, search, options } = names.clone();
        Self { domain, hosts, servers, search, options }
    }
}
