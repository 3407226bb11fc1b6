//! Brings what the database remembers back into the reconciler.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::host::{book, remembered_job};
use crate::model::{
    Cause, CauseKind, ContainerId, Digest, Edit, EditChange, ProjectName, ServiceName, SpecHash, Timestamp,
};
use crate::plan::{ByHand, Limits, Memory, Observed, Restarts, Scaled};
use crate::reconcile::{Book, Chronicle, Generations, Ledger, Override, Reconciler, SourceId};
use crate::source::{Defaults, GoodFile, Remembered, Secrets, read_again};
use crate::store::{self, CauseRecord, EditRecord, Good, Record, RecordKey};

pub(super) fn reconciler(
    records: &BTreeMap<RecordKey, Record>,
    observed: &Observed,
    state_dir: &Path,
    limits: Limits,
    keep: Option<u32>,
    defaults: &Defaults,
    secrets: &dyn Secrets,
) -> Reconciler {
    let mut good = BTreeMap::new();
    let mut memory = Memory::default();
    let mut reasons = BTreeMap::new();
    let mut overrides = BTreeMap::new();
    let mut moved_from = None;
    let mut causes = BTreeMap::new();
    let mut books = BTreeMap::new();
    let mut files = BTreeMap::new();
    for (key, record) in records {
        match (key, record) {
            (RecordKey::Good(path), Record::Good(record)) => good.extend(read(path, record, defaults, secrets)),
            (RecordKey::History(id), Record::History(history)) => {
                let Some(id) = ContainerId::from_hex(id).filter(|id| observed.containers.contains_key(id)) else {
                    continue;
                };
                let restarts = Restarts { total: history.restarts, streak: history.streak };
                memory.restarts.insert(id.clone(), restarts);
                reasons.insert(id, format!("start: {}", history.reason));
            }
            (RecordKey::Generations(project, service), Record::Generations(record)) => {
                let (Ok(project), Ok(service)) = (ProjectName::parse(project), ServiceName::parse(service)) else {
                    continue;
                };
                let key = (project.clone(), service.clone());
                books.insert(key, book(record));
                let digests = record.manifests.iter().filter_map(|text| Digest::parse(text).ok()).collect();
                memory.generations.insert((project, service), digests);
            }
            (RecordKey::ByHand(project, service), Record::ByHand(record)) => {
                let (Ok(project), Ok(service)) = (ProjectName::parse(project), ServiceName::parse(service)) else {
                    continue;
                };
                overrides.extend(by_hand(record).map(|over| ((project, service), over)));
            }
            (RecordKey::Source(id), Record::Good(record)) => {
                files.extend(SourceId::parse(id).map(|id| (id, record)));
            }
            (RecordKey::Causes(project, service), Record::Causes(record)) => {
                if let (Ok(project), Ok(service)) = (ProjectName::parse(project), ServiceName::parse(service)) {
                    causes.insert((project, service), record.causes.iter().filter_map(cause).collect());
                }
            }
            (RecordKey::Runs(project, service), Record::Runs(record)) => {
                if let (Ok(project), Ok(service)) = (ProjectName::parse(project), ServiceName::parse(service)) {
                    memory.jobs.insert((project, service), remembered_job(record));
                }
            }
            (RecordKey::Settings, Record::Settings(settings)) => {
                moved_from = (settings.state_dir != state_dir).then(|| settings.state_dir.clone());
            }
            (key, _) => tracing::warn!(?key, "a record of another kind than its key; it is not used"),
        }
    }
    let mut sources = BTreeMap::new();
    for generation in books.values().flat_map(|book: &Book| &book.generations) {
        let Some(record) = files.get(&generation.source).filter(|_| !sources.contains_key(&generation.source)) else {
            continue;
        };
        let file = read(&generation.file, record, defaults, secrets);
        sources.extend(file.map(|(_, file)| (generation.source.clone(), file)));
    }
    let on_host: BTreeSet<ProjectName> = observed.containers.values().map(|c| c.spec.slot.project.clone()).collect();
    Reconciler::new(Ledger::remembered(good, on_host, moved_from), memory, reasons, limits)
        .remembering(Chronicle::remembered(causes))
        .with_overrides(overrides)
        .going_back(Generations::remembered(books, sources).keeping(keep))
}

fn by_hand(record: &store::ByHand) -> Option<Override> {
    let scaled = record.replicas.zip(record.file_replicas);
    let again = |again: &store::Again| Some((ContainerId::from_hex(&again.container)?, Timestamp(again.begun_ms)));
    Some(Override {
        hash: SpecHash::from_hex(&record.hash)?,
        since: Timestamp(record.since_ms),
        hand: ByHand {
            stopped: record.stopped,
            paused: record.paused,
            scaled: scaled.map(|(replicas, file)| Scaled { replicas, file }),
            grace_ms: record.grace_ms,
            again: record.again.iter().filter_map(again).collect(),
        },
    })
}

fn read(path: &Path, record: &Good, defaults: &Defaults, secrets: &dyn Secrets) -> Option<(PathBuf, GoodFile)> {
    let references = record.references.iter().map(|r| (r.path.clone(), r.content.clone())).collect();
    let source = Remembered { default_name: record.default_name.clone(), text: record.text.clone(), references };
    match read_again(path, &source, defaults, secrets) {
        Ok(document) => Some((path.to_owned(), GoodFile { document, source })),
        Err(problems) => {
            // An older version of Longshore could read it. Its containers are kept until the file itself is read.
            tracing::warn!(file = %path.display(), problem = ?problems.first().map(ToString::to_string), "its last good version cannot be read any more");
            None
        }
    }
}

/// None where a newer version of Longshore wrote it and this one does not know the kind.
fn cause(record: &CauseRecord) -> Option<Cause> {
    Some(Cause {
        at: Timestamp(record.at),
        last: Timestamp(record.last),
        times: record.times,
        kind: CauseKind::parse(&record.what)?,
        subject: record.subject.clone(),
        text: record.text.clone(),
        reason: record.reason.clone(),
        next: record.next.map(Timestamp),
        edits: record.edits.iter().map(edit).collect(),
    })
}

fn edit(record: &EditRecord) -> Edit {
    let change = match record.change.as_str() {
        "added" => EditChange::Added(record.now.clone()),
        "removed" => EditChange::Removed(record.before.clone()),
        _ => EditChange::Changed { values: record.before.clone().zip(record.now.clone()) },
    };
    Edit { file: record.file.clone(), line: record.line, key: record.key.clone(), change }
}
