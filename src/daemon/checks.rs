//! The health of containers, from the container room to the API.

use std::sync::Arc;

use crate::api::Checks;
use crate::api::wire::CheckRun;
use crate::container;
use crate::host::LinuxHost;
use crate::model::ContainerId;

/// Knows what the host has seen.
pub(super) struct HostChecks(pub(super) Arc<LinuxHost>);

impl Checks for HostChecks {
    fn made(&self, id: &ContainerId) -> Option<(u32, Vec<CheckRun>)> {
        let seen = self.0.health_of(id)?;
        Some((seen.failing, seen.runs.into_iter().map(told).collect()))
    }
}

fn told(run: container::CheckRun) -> CheckRun {
    let container::CheckRun { begun, ended, code, output } = run;
    CheckRun { begun: begun.into(), ended: ended.into(), exit_code: code, output }
}
