//! What is known of the health of containers, as the doors need it: with `GET /api/v1/containers/{name}`.

use super::wire::CheckRun;
use crate::model::ContainerId;

/// Knows the checks that were made.
pub trait Checks: Send + Sync {
    /// Failures in a row and the last checks of a container that runs and has one, the oldest first.
    fn made(&self, id: &ContainerId) -> Option<(u32, Vec<CheckRun>)>;
}
