//! What is remembered, as the database's records.

use std::sync::{Arc, PoisonError};

use super::LinuxHost;
use crate::reconcile::{Change, Override};
use crate::store::{Again, ByHand, Generations, Good, History, Record, RecordKey, Reference, Settings, Store};

impl LinuxHost {
    pub(super) async fn save(&self, changes: Vec<Change>) -> Result<(), String> {
        let store = Arc::clone(&self.store);
        let state_dir = self.state_dir.clone();
        let saved = tokio::task::spawn_blocking(move || {
            // A panic inside a commit leaves its changes noted; the next commit tries them again.
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            for change in changes {
                if let Change::Good { .. } = change {
                    let settings = Settings { state_dir: state_dir.clone() };
                    store.put(RecordKey::Settings, Record::Settings(settings));
                }
                note(&mut store, change);
            }
            store.commit().map_err(|error| error.to_string())
        });
        saved.await.unwrap_or_else(|_| Err("an internal check failed".to_owned()))
    }
}

fn note(store: &mut Store, change: Change) {
    match change {
        Change::Good { path, project, source } => {
            let reference = |(path, content)| Reference { path, content };
            let references = source.references.into_iter().map(reference).collect();
            let good = Good { project, default_name: source.default_name, text: source.text, references };
            store.put(RecordKey::Good(path), Record::Good(good));
        }
        Change::Gone(path) => store.remove(RecordKey::Good(path)),
        Change::History { id, restarts, reason } => {
            let history = History { restarts: restarts.total, streak: restarts.streak, reason };
            store.put(RecordKey::History(id.to_string()), Record::History(history));
        }
        Change::Generations { project, service, digests } => {
            let key = RecordKey::Generations(project.to_string(), service.to_string());
            if digests.is_empty() {
                return store.remove(key);
            }
            let manifests = digests.iter().map(ToString::to_string).collect();
            store.put(key, Record::Generations(Generations { manifests }));
        }
        Change::ByHand { project, service, over } => {
            let key = RecordKey::ByHand(project.to_string(), service.to_string());
            match over {
                Some(over) => store.put(key, Record::ByHand(by_hand(&over))),
                None => store.remove(key),
            }
        }
        Change::Forgotten(id) => store.remove(RecordKey::History(id.to_string())),
    }
}

fn by_hand(over: &Override) -> ByHand {
    let hand = &over.hand;
    let again = |(id, begun): (&crate::model::ContainerId, &crate::model::Timestamp)| Again {
        container: id.to_string(),
        begun_ms: begun.millis(),
    };
    ByHand {
        hash: over.hash.to_string(),
        since_ms: over.since.millis(),
        stopped: hand.stopped,
        paused: hand.paused,
        replicas: hand.scaled.map(|scaled| scaled.replicas),
        file_replicas: hand.scaled.map(|scaled| scaled.file),
        grace_ms: hand.grace_ms,
        again: hand.again.iter().map(again).collect(),
    }
}
