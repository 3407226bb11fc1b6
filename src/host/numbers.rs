//! What containers use, and their processes.

use super::LinuxHost;
use crate::container::stats::Stats;
use crate::container::top::Row;
use crate::model::{ContainerId, ContainerSpec};

impl LinuxHost {
    /// What these containers use now, in this order; those that do not run are left out. Blocks.
    #[must_use]
    pub fn stats(&self, ids: &[ContainerId]) -> Vec<(ContainerSpec, Stats)> {
        let (mut stats, mut known) = (self.containers.stats(ids), self.containers.observe());
        ids.iter().filter_map(|id| Some((known.remove(id)?.spec, stats.remove(id)?))).collect()
    }

    /// The processes of these containers, in this order. Blocks.
    #[must_use]
    pub fn top(&self, ids: &[ContainerId]) -> Vec<(ContainerSpec, Vec<Row>)> {
        let mut known = self.containers.observe();
        ids.iter().filter_map(|id| Some((known.remove(id)?.spec, self.containers.top(id)))).collect()
    }
}
