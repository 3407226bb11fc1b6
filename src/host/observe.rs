//! What is: every room's own view, joined.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::LinuxHost;
use crate::container::Look;
use crate::image::{Images, LayerProgress, LayerState, Progress, PullWait, Snapshot, Stored};
use crate::model::{ContainerId, ContainerState, ImageReference, ObservedContainer, ProcessId, Timestamp};
use crate::network::Seen;
use crate::plan::{DiskUse, ImageFacts, Observed, Ports};
use crate::reconcile::{Gauges, LayerTransfer, Transfer, TransferWait};

/// A record from so far in the future was written by a clock that was wrong.
const SLACK_MS: u64 = 300_000;

/// Joins what two rooms see.
pub fn join(
    stored: BTreeMap<ImageReference, Stored>,
    containers: BTreeMap<ContainerId, ObservedContainer>,
) -> Observed {
    let now = wall();
    let images = stored.into_iter().map(|(image, stored)| (image, facts(stored, now))).collect();
    Observed { images, machine: Images::machine().to_string(), containers, ..Observed::default() }
}

fn facts(stored: Stored, now: Timestamp) -> ImageFacts {
    let Stored { present, last_used, pinned, disk_bytes } = stored;
    ImageFacts {
        asked_ago_ms: age(present.checked_at, now),
        // What is recorded as in the future counts as just now: better it stays.
        idle_ms: now.since(last_used.max(Some(present.pulled_at)).unwrap_or(now)),
        digest: present.digest,
        platform: present.platform,
        bytes: present.bytes,
        disk_bytes,
        pinned,
    }
}

/// How long ago something was recorded. What is recorded as in the future tells nothing.
fn age(recorded: Timestamp, now: Timestamp) -> Option<u64> {
    (recorded.since(now) <= SLACK_MS).then(|| now.since(recorded))
}

pub(super) fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// As `df` counts: what only root may use is neither in use nor to be had.
fn disk(path: &Path) -> Option<DiskUse> {
    let seen = rustix::fs::statvfs(path).ok()?;
    let used = seen.f_blocks.saturating_sub(seen.f_bfree);
    let bytes = |blocks: u64| blocks.saturating_mul(seen.f_frsize);
    Some(DiskUse { path: path.to_owned(), total: bytes(used.saturating_add(seen.f_bavail)), used: bytes(used) })
}

impl LinuxHost {
    pub(super) fn look(&self) -> Observed {
        let disk = self.images_dir.as_deref().and_then(disk);
        let Look { containers, health, complaints } = self.containers.look();
        self.networks.alive(&running(&containers));
        let Seen { networks, lost, standby, held, firewall } = self.networks.observe();
        let standby = standby.into_iter().map(|id| (id, Ports::Standby));
        let ports = held.into_iter().map(|id| (id, Ports::Held)).chain(standby).collect();
        let attached = self.containers.all_attached();
        let mut lacks = self.containers.lacks();
        lacks.extend(self.networks.lacks());
        let (mounts, paused) = (self.mounts.table(), self.containers.paused());
        let wall = wall();
        Observed {
            wall,
            health,
            complaints,
            paused,
            disk,
            lacks,
            attached,
            lost,
            ports,
            networks,
            firewall,
            mounts,
            hooks: self.hooks.failures(),
            ..join(self.images.all(), containers)
        }
    }

    pub(super) fn measure(&self) -> Gauges {
        let pulls = self.pulls().clone();
        let transfers = pulls.into_iter().map(|(image, pull)| (image, transfer(&pull.progress, pull.since)));
        Gauges {
            sizes: self.images.present().into_iter().map(|(image, present)| (image, present.bytes)).collect(),
            transfers: transfers.collect(),
            store_note: self.store_note.clone(),
            loosenings: self.loosenings.clone(),
            notes: self.networks.notes().into_iter().chain((self.notes)()).collect(),
            exposure: self.networks.settings().exposure,
            publish_ip: self.networks.settings().publish_ip,
        }
    }
}

/// Who runs, by init.
fn running(containers: &BTreeMap<ContainerId, ObservedContainer>) -> BTreeMap<ContainerId, ProcessId> {
    let each = containers.iter().filter_map(|(id, container)| match container.state {
        ContainerState::Running { init, .. } => Some((id.clone(), init)),
        ContainerState::Created
        | ContainerState::Exited { .. }
        | ContainerState::StartFailed { .. }
        | ContainerState::Orphaned { .. } => None,
    });
    each.collect()
}

fn transfer(progress: &Progress, since: Timestamp) -> Transfer {
    let Snapshot { layers, done, total, wait, from, .. } = progress.snapshot();
    let state = |state| match state {
        LayerState::Waiting => "waiting",
        LayerState::Fetching => "fetching",
        LayerState::Unpacking => "unpacking",
        LayerState::Done => "done",
        LayerState::Present => "present",
    };
    let layer = |layer: LayerProgress| LayerTransfer {
        digest: layer.digest.short().to_owned(),
        done: layer.done,
        total: layer.total,
        state: state(layer.state),
    };
    let wait = wait.map(|PullWait { reason, until, attempt, of }| TransferWait { reason, until, attempt, of });
    let total = (total > 0).then_some(total);
    Transfer { since, done, total, layers: layers.into_iter().map(layer).collect(), wait, from }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_wrong_tells_nothing() {
        let now = Timestamp(1_000_000_000);
        assert_eq!(age(Timestamp(999_999_000), now), Some(1_000));
        assert_eq!(age(Timestamp(0), now), Some(1_000_000_000));
        assert_eq!(age(now.plus_ms(SLACK_MS), now), Some(0));
        assert_eq!(age(now.plus_ms(SLACK_MS + 1), now), None);
    }

    #[test]
    fn the_last_use_counts_and_the_pull_where_it_was_later() {
        let digest = crate::model::Digest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap();
        let idle = |pulled: u64, used: Option<u64>| {
            let (platform, at) = ("linux/amd64".to_owned(), Timestamp(pulled));
            let present = crate::image::Present {
                digest: digest.clone(),
                top: digest.clone(),
                platform,
                bytes: 7,
                pulled_at: at,
                checked_at: at,
            };
            let stored = Stored { present, last_used: used.map(Timestamp), pinned: true, disk_bytes: 9 };
            let facts = facts(stored, Timestamp(1_000));
            assert!(facts.pinned && facts.bytes == 7 && facts.disk_bytes == 9);
            facts.idle_ms
        };
        assert_eq!(
            [idle(100, None), idle(100, Some(400)), idle(700, Some(400)), idle(5_000, None)],
            [900, 600, 300, 0]
        );
    }

    #[test]
    fn the_disk_is_measured() {
        let seen = disk(Path::new("/")).unwrap();
        assert!(seen.total > 0 && seen.used <= seen.total && seen.percent() <= 100, "{seen:?}");
        assert_eq!(disk(Path::new("/nowhere/at/all")), None);
    }
}
