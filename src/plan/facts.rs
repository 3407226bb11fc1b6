//! What is seen of images and of the disk they lie on.

use std::path::PathBuf;

use crate::model::Digest;

/// An image that is here. Times are ages, so that the planner's clock and the host's need not agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// The manifest that its name stands for.
    pub digest: Digest,
    /// For which platform it was pulled, as it was asked for.
    pub platform: String,
    /// How long ago its registry was asked what the name stands for; none where nobody knows.
    pub asked_ago_ms: Option<u64>,
    /// How long ago it was pulled or used last.
    pub idle_ms: u64,
    /// Bytes of its layers as they came.
    pub bytes: u64,
    /// Bytes that it takes on the disk, shared ones included.
    pub disk_bytes: u64,
    /// Whether its owner keeps it.
    pub pinned: bool,
}

/// The file system that images lie on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskUse {
    /// The folder that was asked about.
    pub path: PathBuf,
    /// Bytes that programs may use in all.
    pub total: u64,
    /// Bytes in use.
    pub used: u64,
}

impl DiskUse {
    /// In percent, rounded down.
    #[must_use]
    pub fn percent(&self) -> u64 {
        let percent = u128::from(self.used) * 100 / u128::from(self.total.max(1));
        u64::try_from(percent).unwrap_or(100)
    }
}

/// When images that nobody uses are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectPolicy {
    /// Whether at all.
    pub enabled: bool,
    /// Begins when so many percent of the file system are in use.
    pub start: u8,
    /// Ends when fewer percent are in use.
    pub stop: u8,
    /// An image that was pulled or used more recently stays.
    pub min_age_ms: u64,
}

impl Default for CollectPolicy {
    fn default() -> Self {
        Self { enabled: true, start: 85, stop: 80, min_age_ms: 24 * 3_600_000 }
    }
}

/// How it is with the published ports, and the names, of a container that has them not, or not for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// It runs beside the one of its slot that has them.
    Standby,
    /// New connections wait until another container of its slot has them.
    Held,
}

/// How many actions of a kind may be under way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Pulls.
    pub pulls: usize,
    /// Everything that is done to containers.
    pub containers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { pulls: 3, containers: 16 }
    }
}
