//! What is remembered, as the database's records.

use std::sync::{Arc, PoisonError};

use super::{LinuxHost, generations, remember_jobs};
use crate::model::{Cause, Edit, EditChange};
use crate::reconcile::{Change, Override};
use crate::source::Remembered;
use crate::store::{
    Again, ByHand, CauseRecord, Causes, EditRecord, Generations, Good, History, Record, RecordKey, Reference, Settings,
    Store,
};

impl LinuxHost {
    pub(super) async fn save(&self, changes: Vec<Change>) -> Result<(), String> {
        let store = Arc::clone(&self.store);
        let state_dir = self.state_dir.clone();
        let containers = self.containers.clone();
        let saved = tokio::task::spawn_blocking(move || {
            // A panic inside a commit leaves its changes noted; the next commit tries them again.
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            for change in changes {
                if let Change::Good { .. } = change {
                    let settings = Settings { state_dir: state_dir.clone() };
                    store.put(RecordKey::Settings, Record::Settings(settings));
                }
                if let Change::Causes { project, service, causes } = &change
                    && causes.is_empty()
                {
                    containers.forget_logs(project.as_str(), service.as_str());
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
            store.put(RecordKey::Good(path), Record::Good(good(project, source)));
        }
        Change::Gone(path) => store.remove(RecordKey::Good(path)),
        Change::History { id, restarts, reason } => {
            let history = History { restarts: restarts.total, streak: restarts.streak, reason };
            store.put(RecordKey::History(id.to_string()), Record::History(history));
        }
        Change::Generations { project, service, digests, book } => {
            let key = RecordKey::Generations(project.to_string(), service.to_string());
            let record = generations::record(&digests, *book);
            if record == Generations::default() {
                return store.remove(key);
            }
            store.put(key, Record::Generations(record));
        }
        Change::ByHand { project, service, over } => {
            let key = RecordKey::ByHand(project.to_string(), service.to_string());
            match over {
                Some(over) => store.put(key, Record::ByHand(by_hand(&over))),
                None => store.remove(key),
            }
        }
        Change::Source { id, project, source } => {
            store.put(RecordKey::Source(id.as_str().to_owned()), Record::Good(good(project, source)));
        }
        Change::SourceGone(id) => store.remove(RecordKey::Source(id.as_str().to_owned())),
        Change::Causes { project, service, causes } => {
            let key = RecordKey::Causes(project.to_string(), service.to_string());
            if causes.is_empty() {
                return store.remove(key);
            }
            store.put(key, Record::Causes(Causes { causes: causes.into_iter().map(cause_record).collect() }));
        }
        Change::Job { project, service, job } => {
            let key = RecordKey::Runs(project.to_string(), service.to_string());
            match job {
                Some(job) => store.put(key, Record::Runs(remember_jobs::record(*job))),
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

fn good(project: String, source: Remembered) -> Good {
    let reference = |(path, content)| Reference { path, content };
    let references = source.references.into_iter().map(reference).collect();
    Good { project, default_name: source.default_name, text: source.text, references }
}

fn cause_record(cause: Cause) -> CauseRecord {
    let Cause { at, last, times, kind, subject, text, reason, next, edits } = cause;
    let (at, last, next) = (at.millis(), last.millis(), next.map(crate::model::Timestamp::millis));
    let edits = edits.into_iter().map(edit_record).collect();
    CauseRecord { at, last, times, what: kind.as_str().to_owned(), subject, text, reason, next, edits }
}

fn edit_record(edit: Edit) -> EditRecord {
    let Edit { file, line, key, change } = edit;
    let (change, before, now) = match change {
        EditChange::Added(now) => ("added", None, now),
        EditChange::Removed(before) => ("removed", before, None),
        EditChange::Changed { values } => ("changed", values.as_ref().map(|v| v.0.clone()), values.map(|v| v.1)),
    };
    EditRecord { file, line, key, change: change.to_owned(), before, now }
}
