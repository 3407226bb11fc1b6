//! The keys about fetching and keeping images.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::image::Limits;

/// How images are fetched, and when unused ones are removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ImagesFile {
    /// Layers of one image that are fetched at once. Default: 3
    #[schemars(range(min = 1, max = 32))]
    pub layers_at_once: usize,
    /// When unused images are removed.
    pub collect: CollectFile,
    /// How much an image may ask for. Beyond it the image is refused.
    pub limits: ImageLimits,
}

impl Default for ImagesFile {
    fn default() -> Self {
        let (collect, limits) = (CollectFile::default(), ImageLimits::default());
        Self { layers_at_once: Limits::default().parallel_layers, collect, limits }
    }
}

/// When unused images are removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct CollectFile {
    /// Whether unused images are removed at all. Default: true
    pub enabled: bool,
    /// Begin when so many percent of the file system are used. Default: 85
    #[schemars(range(min = 1, max = 99))]
    pub start: u8,
    /// End when no more than so many are. Default: 80
    #[schemars(range(min = 1, max = 99))]
    pub stop: u8,
    /// Images that were pulled or used within this time stay: 90m, 24h, 7d. Default: 24h
    pub min_age: String,
}

impl Default for CollectFile {
    fn default() -> Self {
        Self { enabled: true, start: 85, stop: 80, min_age: "24h".to_owned() }
    }
}

impl CollectFile {
    /// `min-age` in milliseconds; none where it is not a duration, which [`super::Config::load`] refuses.
    #[must_use]
    pub fn min_age_ms(&self) -> Option<u64> {
        crate::spec::calendar_millis(&self.min_age)
    }
}

/// How much an image may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ImageLimits {
    /// Bytes of a manifest or index. Default: 4194304
    #[schemars(range(min = 1024))]
    pub manifest_bytes: u64,
    /// Bytes of an image's configuration. Default: 8388608
    #[schemars(range(min = 1024))]
    pub config_bytes: u64,
    /// Layers of one image. Default: 127
    #[schemars(range(min = 1, max = 500))]
    pub layers: usize,
    /// Files, folders and links of one layer. Default: 2000000
    #[schemars(range(min = 1))]
    pub entries: u64,
    /// Bytes of the path of a file in a layer. Default: 4095, the most that Linux allows
    #[schemars(range(min = 64, max = 4095))]
    pub path_bytes: usize,
    /// Bytes of one layer after decompression. Default: 68719476736
    #[schemars(range(min = 1024))]
    pub layer_bytes: u64,
    /// How many times larger a layer may become by decompression. Default: 200
    #[schemars(range(min = 2))]
    pub ratio: u64,
    /// Bytes up to which the ratio does not count. Default: 4294967296
    pub ratio_free_bytes: u64,
}

impl Default for ImageLimits {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            manifest_bytes: limits.manifest_bytes,
            config_bytes: limits.config_bytes,
            layers: limits.layers,
            entries: limits.entries,
            path_bytes: limits.path_bytes,
            layer_bytes: limits.layer_bytes,
            ratio: limits.ratio,
            ratio_free_bytes: limits.ratio_free_bytes,
        }
    }
}
