//! `post_start`, `pre_stop`: commands that are executed in a container that runs.

use super::{EnvVar, Timestamp};

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The command and its arguments; not empty.
    pub command: Vec<String>,
    /// As whom; none: as the container's command.
    pub user: Option<String>,
    /// Where, absolute; none: where the container's command began.
    pub working_dir: Option<String>,
    /// Over the container's variables.
    pub environment: Vec<EnvVar>,
    /// With all capabilities and without seccomp.
    pub privileged: bool,
}

/// All of a service, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// After each start.
    pub post_start: Vec<Hook>,
    /// Before each stop.
    pub pre_stop: Vec<Hook>,
}

/// One that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookFailure {
    /// When.
    pub at: Timestamp,
    /// Which, and how, in a sentence.
    pub text: String,
}

impl Hooks {
    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.post_start.is_empty() && self.pre_stop.is_empty()
    }
}

impl Hook {
    /// For the settings of a container: values may be secret, and are told by a hash.
    pub(super) fn words(hooks: &[Self]) -> Option<String> {
        let values =
            |hook: &Self| hook.environment.iter().map(|v| (v.name.clone(), v.value.clone())).collect::<Vec<_>>();
        let text: Vec<String> = hooks.iter().map(|hook| format!("{hook:?} {:?}", values(hook))).collect();
        let hash = super::hash::hex_sha256(&text.iter().map(String::as_bytes).collect::<Vec<_>>());
        let count = if hooks.len() == 1 { "1 command".to_owned() } else { format!("{} commands", hooks.len()) };
        (!hooks.is_empty()).then(|| format!("{count} ({})", &hash[..12]))
    }
}
