//! What is asked about images. A field that is not known is an error: it may be one that matters.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Fetch an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PullAsk {
    /// Its name.
    pub image: String,
    /// For which platform; without it, this machine's.
    #[serde(default)]
    pub platform: Option<String>,
}

/// Bring an image to its registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushAsk {
    /// Its name, which says the registry too.
    pub image: String,
}

/// Give an image another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TagAsk {
    /// A name, a digest or the beginning of one.
    pub source: String,
    /// The new name.
    pub target: String,
}

/// Take a name away, and what no other name needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveAsk {
    /// A name, a digest or the beginning of one.
    pub image: String,
    /// Also all other names that a digest has.
    #[serde(default)]
    pub force: bool,
}

/// Keep an image whatever happens, or no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PinAsk {
    /// Its name.
    pub image: String,
    /// Whether it is kept.
    pub pinned: bool,
}

/// Remove what nothing uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PruneAsk {
    /// Also images that have a name.
    pub all: bool,
    /// Only say what would be removed.
    pub dry_run: bool,
}

/// Compare images with what they should be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VerifyAsk {
    /// Names, digests or beginnings of digests; none means all images.
    pub images: Vec<String>,
    /// Fetch again what is damaged, and what cannot be checked.
    pub repair: bool,
}

/// Write images into an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveAsk {
    /// Their names.
    pub names: Vec<String>,
    /// Which form.
    pub format: ArchiveForm,
}

/// The form of an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ArchiveForm {
    /// As `docker save` writes it: an OCI layout with a `manifest.json` beside it.
    #[default]
    DockerArchive,
    /// An OCI layout.
    OciArchive,
}

/// Read images from an archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoadAsk {
    /// The name for an image that has none in the archive.
    pub name: Option<String>,
}

/// Make an image of one layer from an archive of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportAsk {
    /// The image's name.
    pub name: String,
    /// Lines of a Dockerfile that say how to run it: CMD, ENTRYPOINT, ENV, USER, WORKDIR and the like.
    pub changes: Vec<String>,
    /// A note for its history.
    pub message: Option<String>,
    /// Its platform; without it, this machine's.
    pub platform: Option<String>,
}

/// Make an image of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommitAsk {
    /// A container by name or id, or a service.
    pub container: String,
    /// Which replica of a service; where it is left out, the first one that runs.
    #[serde(default)]
    pub index: Option<u32>,
    /// The image's name; where it is left out, it has none.
    #[serde(default)]
    pub image: Option<String>,
    /// Lines of a Dockerfile that say how to run it: CMD, ENTRYPOINT, ENV, USER, WORKDIR and the like.
    #[serde(default)]
    pub changes: Vec<String>,
    /// A note for its history.
    #[serde(default)]
    pub message: Option<String>,
    /// Who made it.
    #[serde(default)]
    pub author: Option<String>,
    /// Hold the container still meanwhile; so it is where this is left out.
    #[serde(default = "yes")]
    pub pause: bool,
}

fn yes() -> bool {
    true
}
