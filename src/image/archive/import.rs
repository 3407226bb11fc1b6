//! An image of one layer out of a root file system.

use std::io::Read;

use serde_json::{Value, json};

use super::layout::sha256;
use super::load::plain_manifest;
use super::{ArchiveError, blocking, changes, disk, feed, outer};
use crate::image::refs::{Origin, RefRecord};
use crate::image::{Images, Present, now, resolve};
use crate::model::{Digest, ImageReference, Platform};

/// What an imported image is to be, besides its files.
#[derive(Debug, Clone, Default)]
pub struct ImportChanges {
    /// Lines of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR.
    pub changes: Vec<String>,
    /// What it runs on; none: this machine.
    pub platform: Option<Platform>,
    /// A remark for its history.
    pub message: String,
}

impl Images {
    /// Makes an image of a root file system's tar: plain, gzip or zstd.
    pub async fn import(
        &self,
        from: impl Read + Send + 'static,
        name: &ImageReference,
        changes: ImportChanges,
    ) -> Result<Present, ArchiveError> {
        let (images, name) = (self.clone(), name.clone());
        blocking(move || images.import_now(from, &name, &changes)).await
    }

    fn import_now(
        &self,
        from: impl Read + Send + 'static,
        name: &ImageReference,
        changes: &ImportChanges,
    ) -> Result<Present, ArchiveError> {
        let process = changes::apply(&changes.changes)?;
        let store = &self.inner.store;
        let disk = disk(store.dir());
        let ingest = store.begin_layer().map_err(&disk)?;
        let bounds = outer::limits(&self.inner.limits);
        let from = outer::known(from, &bounds).map_err(ArchiveError::Read)?;
        let done = feed::unpack_any(from, &ingest, &self.inner.limits)?;
        let diff_id = done.diff_id.clone();
        let hold = self.inner.holds.hold([diff_id.clone()]);
        if !store.is_good(&diff_id) {
            store.commit_layer(ingest, &diff_id, &done)?;
        }
        let bytes = store.layer(&diff_id)?.bytes;
        let machine = resolve::this_machine();
        let platform = changes.platform.as_ref().unwrap_or(&machine);
        let config =
            configuration(platform, &Value::Object(process), &diff_id, &changes.message).to_string().into_bytes();
        let config_digest = sha256(&config)?;
        let manifest = plain_manifest(&config_digest, config.len(), std::slice::from_ref(&diff_id), &[bytes]);
        let digest = sha256(&manifest)?;
        let documents_hold = self.inner.holds.hold([config_digest.clone(), digest.clone()]);
        let record = RefRecord {
            reference: String::new(),
            manifest: digest.to_string(),
            top: digest.to_string(),
            config: config_digest.to_string(),
            platform: platform.to_string(),
            bytes,
            pulled_at_ms: now().millis(),
            checked_at_ms: 0,
            layers: vec![diff_id.to_string()],
            pinned: false,
            last_used_ms: None,
            sources: Vec::new(),
            origin: Origin::Imported,
            untagged: false,
        };
        let documents = [(digest, manifest)];
        let loaded = self.store_loaded(vec![name.clone()], &documents, (config_digest, &config), record, hold);
        drop(documents_hold);
        Ok(loaded?.present)
    }
}

fn configuration(platform: &Platform, process: &Value, diff_id: &Digest, message: &str) -> Value {
    let seconds = i64::try_from(now().millis() / 1000).unwrap_or(0);
    let created = jiff::Timestamp::from_second(seconds).map(|t| t.to_string()).unwrap_or_default();
    let mut config = json!({
        "created": created,
        "architecture": platform.architecture,
        "os": platform.os,
        "config": process,
        "rootfs": {"type": "layers", "diff_ids": [diff_id.as_str()]},
        "history": [{"created": created, "created_by": "import", "comment": message}],
    });
    if let (Some(variant), Some(all)) = (&platform.variant, config.as_object_mut()) {
        all.insert("variant".into(), json!(variant));
    }
    config
}
