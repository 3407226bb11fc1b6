//! Brings what the database remembers back into the reconciler.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::host::remembered_job;
use crate::model::{Cause, CauseKind, ContainerId, Digest, Edit, EditChange, ProjectName, ServiceName, Timestamp};
use crate::plan::{Limits, Memory, Observed, Restarts};
use crate::reconcile::{Chronicle, Ledger, Reconciler};
use crate::source::{GoodFile, Remembered, Secrets, read_again};
use crate::store::{CauseRecord, EditRecord, Good, Record, RecordKey};

pub(super) fn reconciler(
    records: &BTreeMap<RecordKey, Record>,
    observed: &Observed,
    state_dir: &Path,
    limits: Limits,
    default_registry: &str,
    secrets: &dyn Secrets,
) -> Reconciler {
    let mut good = BTreeMap::new();
    let mut memory = Memory::default();
    let mut reasons = BTreeMap::new();
    let mut moved_from = None;
    let mut causes = BTreeMap::new();
    for (key, record) in records {
        match (key, record) {
            (RecordKey::Good(path), Record::Good(record)) => good.extend(read(path, record, default_registry, secrets)),
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
                let digests = record.manifests.iter().filter_map(|text| Digest::parse(text).ok()).collect();
                memory.generations.insert((project, service), digests);
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
    let on_host: BTreeSet<ProjectName> = observed.containers.values().map(|c| c.spec.slot.project.clone()).collect();
    Reconciler::new(Ledger::remembered(good, on_host, moved_from), memory, reasons, limits)
        .remembering(Chronicle::remembered(causes))
}

fn read(path: &Path, record: &Good, default_registry: &str, secrets: &dyn Secrets) -> Option<(PathBuf, GoodFile)> {
    let references = record.references.iter().map(|r| (r.path.clone(), r.content.clone())).collect();
    let source = Remembered { default_name: record.default_name.clone(), text: record.text.clone(), references };
    match read_again(path, &source, default_registry, secrets) {
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
