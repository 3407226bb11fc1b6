//! How an image was made, as it says itself.

use serde::Deserialize;

use super::Images;
use super::error::{StoreError, line};
use super::manifest::malformed;
use crate::model::Digest;

/// Steps of a history that are told; no builder makes more.
const STEPS: usize = 1000;
/// Characters of one step.
const TEXT: usize = 4000;

/// One step, the first one first. The texts are foreign: escaped and cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// When, as it was written.
    pub created: Option<String>,
    /// The instruction.
    pub created_by: String,
    /// A remark.
    pub comment: String,
    /// Who.
    pub author: String,
    /// The content of the layer it made; none if it made none.
    pub layer: Option<Digest>,
    /// Bytes of the layer's archive.
    pub bytes: u64,
}

#[derive(Deserialize)]
struct RawHistory {
    history: Option<Vec<RawStep>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawStep {
    created: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    author: Option<String>,
    empty_layer: Option<bool>,
}

impl Images {
    /// How the image was made. Layers that its history does not speak of are told without words.
    pub fn history(&self, digest: &Digest) -> Result<Vec<HistoryEntry>, StoreError> {
        let config = self.inner.store.blob(&self.manifest(digest)?.config.digest)?;
        let raw: RawHistory =
            serde_json::from_slice(&config).map_err(|e| self.unreadable(&malformed("configuration", &e)))?;
        let mut layers = self.config(digest)?.diff_ids.into_iter();
        let mut steps = Vec::new();
        for raw in raw.history.unwrap_or_default().into_iter().take(STEPS) {
            let layer = if raw.empty_layer == Some(true) { None } else { layers.next() };
            steps.push(self.step(raw, layer));
        }
        for layer in layers {
            steps.push(self.step(RawStep::default(), Some(layer)));
        }
        Ok(steps)
    }

    fn step(&self, raw: RawStep, layer: Option<Digest>) -> HistoryEntry {
        let text = |text: Option<String>| line(&text.unwrap_or_default(), TEXT);
        HistoryEntry {
            created: raw.created.map(|c| line(&c, 100)),
            created_by: text(raw.created_by),
            comment: text(raw.comment),
            author: text(raw.author),
            bytes: layer.as_ref().and_then(|id| self.inner.store.layer(id).ok()).map_or(0, |record| record.bytes),
            layer,
        }
    }
}
