//! How far a service is with the version that is asked for, and which versions are set aside.

use crate::model::{Digest, FailureAction, SpecHash, Timestamp};

/// What a service's containers are made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// What the file asks for.
    pub hash: SpecHash,
    /// The image's manifest.
    pub digest: Digest,
}

/// How far a service is with the version that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rollout {
    /// All its containers are of this version, and proven.
    Proven(Version),
    /// Its containers are being replaced: so many are proven, of so many.
    UnderWay {
        /// By which.
        version: Version,
        /// So many are proven.
        proven: u32,
        /// Of so many.
        of: u32,
    },
    /// Too many of the new ones failed.
    Failed {
        /// Which.
        version: Version,
        /// Why.
        why: String,
        /// What the file wants to follow.
        then: FailureAction,
    },
}

/// A version that failed, or that its owner went back from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Which.
    pub version: Version,
    /// Why.
    pub why: String,
    /// What follows.
    pub then: FailureAction,
    /// Since when, by the wall's clock.
    pub since: Timestamp,
}
