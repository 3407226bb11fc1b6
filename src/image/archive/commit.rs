//! An image out of another one and a further layer.

use std::io::Read;

use serde_json::{Map, Value, json};

use super::layout::sha256;
use super::load::plain_manifest;
use super::{ArchiveError, blocking, changes, disk, feed};
use crate::image::refs::{Origin, RefRecord};
use crate::image::{Images, Present, config, now};
use crate::model::{Digest, ImageReference};

/// What becomes of an image beside its further layer.
#[derive(Debug, Clone, Default)]
pub struct CommitChanges {
    /// `Entrypoint`, in the place of the image's; its `Cmd` goes then.
    pub entrypoint: Option<Vec<String>>,
    /// `Cmd`, in the place of the image's.
    pub command: Option<Vec<String>>,
    /// Variables over the image's; without a value one is taken away.
    pub environment: Vec<(String, Option<String>)>,
    /// `User`, in the place of the image's.
    pub user: Option<String>,
    /// `WorkingDir`, in the place of the image's.
    pub working_dir: Option<String>,
    /// Lines of a Dockerfile, over all that.
    pub changes: Vec<String>,
    /// A remark for its history.
    pub message: String,
    /// Who made it.
    pub author: String,
}

impl Images {
    /// Makes an image of another one, which is here, and the tar of one more layer.
    pub async fn commit(
        &self,
        base: &Digest,
        from: impl Read + Send + 'static,
        name: Option<&ImageReference>,
        changes: CommitChanges,
    ) -> Result<Present, ArchiveError> {
        let (images, base, name) = (self.clone(), base.clone(), name.cloned());
        blocking(move || images.commit_now(&base, from, name, &changes)).await
    }

    fn commit_now(
        &self,
        base: &Digest,
        from: impl Read + Send,
        name: Option<ImageReference>,
        changes: &CommitChanges,
    ) -> Result<Present, ArchiveError> {
        let store = &self.inner.store;
        let bytes = store.blob(&self.manifest(base)?.config.digest)?;
        let known = config::read(&bytes)?;
        let mut whole: Map<String, Value> =
            serde_json::from_slice(&bytes).map_err(|e| ArchiveError::Refused { reason: e.to_string() })?;
        let process = process(whole.remove("config"), changes)?;
        let mut layers = known.diff_ids;
        let mut sizes = Vec::new();
        for layer in &layers {
            sizes.push(store.layer(layer)?.bytes);
        }
        let disk = disk(store.dir());
        let ingest = store.begin_layer().map_err(&disk)?;
        let done = feed::unpack_any(from, &ingest, &self.inner.limits)?;
        let hold = self.inner.holds.hold(layers.iter().chain([&done.diff_id]).cloned());
        if !store.is_good(&done.diff_id) {
            store.commit_layer(ingest, &done.diff_id, &done)?;
        }
        sizes.push(store.layer(&done.diff_id)?.bytes);
        layers.push(done.diff_id);
        let config = configuration(whole, process, &layers, changes).to_string().into_bytes();
        let config_digest = sha256(&config)?;
        let manifest = plain_manifest(&config_digest, config.len(), &layers, &sizes);
        let digest = sha256(&manifest)?;
        let documents_hold = self.inner.holds.hold([config_digest.clone(), digest.clone()]);
        let record = RefRecord {
            reference: String::new(),
            manifest: digest.to_string(),
            top: digest.to_string(),
            config: config_digest.to_string(),
            platform: known.platform.to_string(),
            bytes: sizes.iter().sum(),
            pulled_at_ms: now().millis(),
            checked_at_ms: 0,
            layers: layers.iter().map(ToString::to_string).collect(),
            pinned: false,
            last_used_ms: None,
            sources: Vec::new(),
            origin: Origin::Imported,
            untagged: false,
        };
        let documents = [(digest, manifest)];
        let loaded = self.store_loaded(name.into_iter().collect(), &documents, (config_digest, &config), record, hold);
        drop(documents_hold);
        Ok(loaded?.present)
    }
}

/// The `config` object: the image's, what the container was started with over it, and the changes over that.
fn process(image: Option<Value>, changes: &CommitChanges) -> Result<Map<String, Value>, ArchiveError> {
    let mut config = match image {
        Some(Value::Object(config)) => config,
        Some(_) | None => Map::new(),
    };
    config.retain(|_, value| !value.is_null());
    if let Some(entrypoint) = &changes.entrypoint {
        config.insert("Entrypoint".into(), json!(entrypoint));
        config.remove("Cmd");
    }
    let texts = [("User", &changes.user), ("WorkingDir", &changes.working_dir)];
    for (key, value) in texts {
        if let Some(value) = value {
            config.insert(key.into(), json!(value));
        }
    }
    if let Some(command) = &changes.command {
        config.insert("Cmd".into(), json!(command));
    }
    for (name, value) in &changes.environment {
        changes::env(&mut config, name, value.as_deref());
    }
    changes::over(config, &changes.changes)
}

fn configuration(
    mut whole: Map<String, Value>,
    process: Map<String, Value>,
    layers: &[Digest],
    changes: &CommitChanges,
) -> Value {
    let seconds = i64::try_from(now().millis() / 1000).unwrap_or(0);
    let created = jiff::Timestamp::from_second(seconds).map(|t| t.to_string()).unwrap_or_default();
    let words = |key: &str| process.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let command = [words("Entrypoint"), words("Cmd")].concat();
    let command: Vec<&str> = command.iter().filter_map(Value::as_str).collect();
    let mut step = json!({"created": created, "created_by": command.join(" "), "comment": changes.message});
    if !changes.author.is_empty() {
        step["author"] = json!(changes.author);
        whole.insert("author".into(), json!(changes.author));
    }
    // Where it has none, the steps of its layers are told without words.
    let known = match whole.remove("history") {
        Some(Value::Array(history)) => history,
        Some(_) | None => vec![json!({}); layers.len().saturating_sub(1)],
    };
    whole.insert("history".into(), Value::Array([known, vec![step]].concat()));
    whole.insert("created".into(), json!(created));
    whole.insert("config".into(), Value::Object(process));
    let diff_ids: Vec<&str> = layers.iter().map(Digest::as_str).collect();
    whole.insert("rootfs".into(), json!({"type": "layers", "diff_ids": diff_ids}));
    Value::Object(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_was_started_with_comes_before_the_changes() {
        let image = json!({"Cmd": ["a"], "Entrypoint": ["e"], "Env": ["A=1", "B=2"], "Labels": null, "User": "x"});
        let changes = CommitChanges {
            command: Some(vec!["b".into()]),
            environment: vec![("A".into(), Some("9".into())), ("B".into(), None)],
            changes: vec!["ENV C=3".into(), "LABEL k=v".into(), "USER y".into()],
            ..CommitChanges::default()
        };
        let made = Value::Object(process(Some(image.clone()), &changes).unwrap());
        let expected = json!({
            "Cmd": ["b"], "Entrypoint": ["e"], "Env": ["A=9", "C=3"], "User": "y", "Labels": {"k": "v"},
        });
        assert_eq!(made, expected);
        let changes = CommitChanges { changes: vec!["ENTRYPOINT [\"n\"]".into()], ..CommitChanges::default() };
        let made = process(Some(image), &changes).unwrap();
        assert!(!made.contains_key("Cmd"), "the image's command belongs to its own entrypoint");
    }
}
