//! What is known of a service's generations.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a service ran, and may go back to. The first version knew the manifests alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Generations {
    /// Digests of the manifests that it ran last, the newest first: they stay.
    pub manifests: Vec<String>,
    /// What was asked for, by number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub generations: Vec<GenerationRecord>,
    /// The last number that was given.
    #[serde(default, skip_serializing_if = "none")]
    pub last: u32,
    /// Which one is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<u32>,
    /// What is asked for and not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aside: Option<AsideRecord>,
    /// What was taken by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<ChosenRecord>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands in a reference to the field")]
const fn none(number: &u32) -> bool {
    *number == 0
}

/// A version of a service that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRecord {
    /// From 1 on.
    pub number: u32,
    /// When it was asked for last, in milliseconds since the Unix epoch.
    pub at: u64,
    /// By which state file.
    pub file: PathBuf,
    /// In which line of it.
    pub line: u32,
    /// Why it came.
    pub why: String,
    /// The hash of what the file asked for.
    pub hash: String,
    /// The image by name.
    pub image: String,
    /// The image's manifest.
    pub digest: String,
    /// Under which id the file is kept as it was (`source/ID`).
    pub source: String,
    /// How it went.
    pub outcome: OutcomeRecord,
}

/// How a generation went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeRecord {
    /// It is not known yet.
    UnderWay,
    /// Its containers were proven.
    Good {
        /// When.
        at: u64,
    },
    /// Too many of its containers failed.
    Failed {
        /// When.
        at: u64,
        /// Why.
        why: String,
    },
    /// Another one was asked for before it was proven.
    Replaced {
        /// When.
        at: u64,
    },
}

/// A version that is asked for and not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsideRecord {
    /// The hash of what the file asks for.
    pub hash: String,
    /// The image's manifest, where it was here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The image by name.
    pub image: String,
    /// Under which id the file is kept as it was.
    pub source: String,
    /// Why.
    pub why: String,
    /// What follows.
    pub then: ThenRecord,
    /// Since when, in milliseconds since the Unix epoch.
    pub since: u64,
    /// Whether its owner said so.
    pub by_hand: bool,
    /// Which generation is run instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
}

/// What follows from a version that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThenRecord {
    /// Nothing more is replaced.
    Pause,
    /// The others are replaced all the same.
    Continue,
    /// Back to what was good.
    Rollback,
}

/// The version of an image that was taken by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenRecord {
    /// The image with its tag.
    pub image: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
}
