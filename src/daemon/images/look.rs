//! What there is.

use serde_json::Value;

use super::ImageWork;
use super::refuse::store;
use crate::api::Refusal;
use crate::api::wire::{HistoryEntry, ImageDetails, ImageEntry, LayerEntry, Time};
use crate::image::{Listed, Origin};

impl ImageWork {
    /// All images, by their first name; those without a name last.
    pub(super) fn entries(&self) -> Vec<ImageEntry> {
        let mut all: Vec<_> = self.images.list().into_iter().map(|listed| self.entry(listed)).collect();
        all.sort_by(|a, b| (a.names.is_empty(), &a.names, &a.digest).cmp(&(b.names.is_empty(), &b.names, &b.digest)));
        all
    }

    fn entry(&self, listed: Listed) -> ImageEntry {
        let mut used_by: Vec<_> = self.host.users_of(&listed.digest).iter().map(|spec| spec.name.to_string()).collect();
        used_by.sort();
        ImageEntry {
            names: listed.names.iter().map(ToString::to_string).collect(),
            digest: listed.digest.to_string(),
            top: listed.top.to_string(),
            platform: listed.platform,
            bytes: listed.bytes,
            disk_bytes: listed.disk_bytes,
            created: listed.created.and_then(|text| Time::parse(&text).ok()),
            pulled: listed.pulled_at.into(),
            last_used: listed.last_used.map(Time::from),
            pinned: listed.pinned,
            origin: origin(listed.origin).to_owned(),
            used_by,
        }
    }

    pub(super) fn details(&self, name: &str) -> Result<ImageDetails, Refusal> {
        let digest = self.find(name)?.digest;
        let found = self.images.inspect(&digest).map_err(|error| store(&error))?;
        let listed = self.images.list().into_iter().find(|listed| listed.digest == digest);
        let missing = || store(&crate::image::StoreError::Missing { digest: digest.clone() });
        let layers = found.layers.iter().map(|layer| LayerEntry {
            digest: layer.digest.to_string(),
            diff_id: layer.diff_id.to_string(),
            bytes: layer.size,
            disk_bytes: layer.disk_bytes,
        });
        Ok(ImageDetails {
            image: self.entry(listed.ok_or_else(missing)?),
            sources: found.sources,
            layers: layers.collect(),
            manifest: document(&found.manifest),
            config: document(&found.config_json),
        })
    }

    /// Docker's order: what was done last comes first.
    pub(super) fn steps(&self, name: &str) -> Result<Vec<HistoryEntry>, Refusal> {
        let digest = self.find(name)?.digest;
        let steps = self.images.history(&digest).map_err(|error| store(&error))?;
        let step = |step: crate::image::HistoryEntry| HistoryEntry {
            created: step.created.and_then(|text| Time::parse(&text).ok()),
            created_by: step.created_by,
            comment: step.comment,
            diff_id: step.layer.map(|layer| layer.to_string()),
            bytes: step.bytes,
        };
        Ok(steps.into_iter().rev().map(step).collect())
    }
}

/// It was read as JSON before it came to be here.
fn document(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Pulled => "pulled",
        Origin::Loaded => "loaded",
        Origin::Imported => "imported",
        Origin::Tagged => "tagged",
    }
}
