//! `hooks` of the record: commands after the start and before the stop.

use serde::{Deserialize, Serialize};

use crate::model::{EnvVar, Hook, Hooks};

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct HooksRecord {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    post_start: Vec<HookRecord>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pre_stop: Vec<HookRecord>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct HookRecord {
    command: Vec<String>,
    user: Option<String>,
    working_dir: Option<String>,
    environment: Vec<(String, Option<String>)>,
    privileged: bool,
}

impl From<&Hooks> for HooksRecord {
    fn from(hooks: &Hooks) -> Self {
        let all = |hooks: &[Hook]| hooks.iter().map(HookRecord::from).collect();
        Self { post_start: all(&hooks.post_start), pre_stop: all(&hooks.pre_stop) }
    }
}

impl From<&HooksRecord> for Hooks {
    fn from(record: &HooksRecord) -> Self {
        let all = |records: &[HookRecord]| records.iter().map(Hook::from).collect();
        Self { post_start: all(&record.post_start), pre_stop: all(&record.pre_stop) }
    }
}

impl From<&Hook> for HookRecord {
    fn from(hook: &Hook) -> Self {
        let Hook { command, user, working_dir, environment, privileged } = hook.clone();
        let environment = environment.into_iter().map(|v| (v.name, v.value)).collect();
        Self { command, user, working_dir, environment, privileged }
    }
}

impl From<&HookRecord> for Hook {
    fn from(record: &HookRecord) -> Self {
        let HookRecord { command, user, working_dir, environment, privileged } = record.clone();
        let environment = environment.into_iter().map(|(name, value)| EnvVar { name, value }).collect();
        Self { command, user, working_dir, environment, privileged }
    }
}
