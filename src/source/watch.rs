//! Watching: events where the kernel gives them, a full look now and then in any case.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{EventKind, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::look::{Aftermath, Defaults, Look, Looker};
use super::secrets::{Secrets, Unopened};
use super::settle::{Hint, QUIET_MS, Settle};

/// A full look by content at least this often, whatever the events say.
const RESCAN: Duration = Duration::from_secs(30);
/// Without events, or with a folder that is not there.
const POLL: Duration = Duration::from_secs(2);
/// How changes are noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watching {
    /// By events, and a look every 30 s.
    Events,
    /// By a look every 2 s, and why.
    Polling(String),
}

impl std::fmt::Display for Watching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Events => write!(f, "events, and a full look every {} s", RESCAN.as_secs()),
            Self::Polling(why) => write!(f, "a full look every {} s ({why})", POLL.as_secs()),
        }
    }
}

/// The watched folder: waits for something to look at, then looks.
#[derive(Debug)]
pub struct Source {
    root: PathBuf,
    /// The folder as it was named, and as it really is: events come under either.
    names: Arc<Mutex<Vec<PathBuf>>>,
    defaults: Defaults,
    secrets: Arc<dyn Secrets>,
    looker: Option<Looker>,
    settle: Settle,
    begun: Instant,
    took: u64,
    last_full: Option<Instant>,
    hints: mpsc::UnboundedReceiver<Hint>,
    watcher: Result<notify::RecommendedWatcher, String>,
    watched: BTreeSet<PathBuf>,
    missing: bool,
    looking: Option<Looking>,
}

/// A look that is under way. It is kept here, not in the future that waits for it: who drops that future loses no look.
#[derive(Debug)]
struct Looking {
    done: JoinHandle<(Looker, Look, Aftermath)>,
    begun: Instant,
    everything: bool,
}

impl Source {
    /// Begins to watch; a folder that is not there is waited for.
    #[must_use]
    pub fn open(root: &Path) -> Self {
        let (sender, hints) = mpsc::unbounded_channel();
        let names = Arc::new(Mutex::new(vec![root.to_owned()]));
        let known_as = Arc::clone(&names);
        let deliver = move |event: notify::Result<notify::Event>| {
            // A path is only read or replaced under the lock.
            let names = known_as.lock().unwrap_or_else(PoisonError::into_inner).clone();
            for hint in hints_of(event, &names) {
                // The receiver goes away only with the source itself.
                if sender.send(hint).is_err() {
                    return;
                }
            }
        };
        let watcher = notify::recommended_watcher(deliver).map_err(|e| e.to_string());
        Self {
            root: root.to_owned(),
            names,
            defaults: Defaults::default(),
            secrets: Arc::new(Unopened),
            looker: Some(Looker::new(root)),
            settle: Settle::default(),
            begun: Instant::now(),
            took: 0,
            last_full: None,
            hints,
            watcher,
            watched: BTreeSet::new(),
            missing: false,
            looking: None,
        }
    }

    /// With other defaults for all files.
    #[must_use]
    pub fn with_defaults(self, defaults: Defaults) -> Self {
        let looker = self.looker.map(|looker| looker.with_defaults(defaults.clone()));
        Self { looker, defaults, ..self }
    }

    /// With the secrets of this host.
    #[must_use]
    pub fn with_secrets(self, secrets: Arc<dyn Secrets>) -> Self {
        let looker = self.looker.map(|looker| looker.with_secrets(Arc::clone(&secrets)));
        Self { looker, secrets, ..self }
    }

    /// How changes are noticed now.
    #[must_use]
    pub fn watching(&self) -> Watching {
        self.watcher.as_ref().map_or_else(|e| Watching::Polling(e.clone()), |_| Watching::Events)
    }

    /// Asks for a full look now.
    pub fn look_soon(&mut self) {
        self.settle.note(Hint::Anything, self.now());
    }

    /// Asks for a look in so many milliseconds.
    pub fn look_in(&mut self, ms: u64) {
        let at = self.now() + ms;
        self.settle.look_at(at);
    }

    /// Waits until there is something to look at, and looks. Dropping the future loses neither a hint nor a look that has begun.
    pub async fn next(&mut self) -> Look {
        loop {
            if self.looking.is_some() {
                return self.looked().await;
            }
            let full_at = self.last_full.map_or_else(Instant::now, |last| last + self.period());
            let due_at = self.settle.due().map(|due| self.begun + Duration::from_millis(due));
            let at = due_at.map_or(full_at, |due| due.min(full_at));
            if at <= Instant::now() {
                self.begin_look(full_at <= Instant::now());
                continue;
            }
            tokio::select! {
                // Both arms may be cancelled: a hint is either received and noted, or still in the channel.
                hint = self.hints.recv() => self.note(hint),
                () = tokio::time::sleep_until(at.into()) => {}
            }
        }
    }

    fn note(&mut self, hint: Option<Hint>) {
        let now = self.now();
        let mut next = hint;
        while let Some(hint) = next {
            if let Hint::Unlinked(path) = &hint {
                self.forget_watches(path);
            }
            self.settle.note(hint, now);
            next = self.hints.try_recv().ok();
        }
    }

    /// A folder that was renamed away is watched no more: another one may have taken its name.
    fn forget_watches(&mut self, path: &Path) {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let gone: Vec<PathBuf> = names.iter().map(|name| name.join(path)).collect();
        let (lost, kept) = std::mem::take(&mut self.watched)
            .into_iter()
            .partition(|watched| gone.iter().any(|gone| watched.starts_with(gone)));
        self.watched = kept;
        let lost: BTreeSet<PathBuf> = lost;
        if let Ok(watcher) = &mut self.watcher {
            for folder in lost {
                if watcher.unwatch(&folder).is_err() {
                    tracing::trace!(folder = %folder.display(), "no longer there to unwatch");
                }
            }
        }
    }

    fn begin_look(&mut self, full: bool) {
        let begun = Instant::now();
        let mut task = self.settle.begin(self.now(), self.took);
        task.everything |= full;
        // At the very first look nobody is waited for.
        let settle = self.last_full.is_some();
        let mut looker = self.looker.take().unwrap_or_else(|| {
            let looker = Looker::new(&self.root).with_defaults(self.defaults.clone());
            looker.with_secrets(Arc::clone(&self.secrets))
        });
        let everything = task.everything;
        let done = tokio::task::spawn_blocking(move || {
            let (look, after) = looker.look_at(&task, settle);
            (looker, look, after)
        });
        self.looking = Some(Looking { done, begun, everything });
    }

    async fn looked(&mut self) -> Look {
        // The only wait; it may be cancelled, what it waits for stays. What was looked at is taken in without a further one.
        let done = match &mut self.looking {
            Some(looking) => (&mut looking.done).await.ok().map(|done| (done, looking.begun, looking.everything)),
            None => None,
        };
        self.looking = None;
        let Some(((looker, look, after), begun, everything)) = done else {
            self.last_full = None;
            return Look {
                folder: Err("looking at the folder failed an internal check".to_owned()),
                files: Default::default(),
                warnings: Vec::new(),
                unreadable: BTreeSet::new(),
                unlinked: BTreeSet::new(),
            };
        };
        self.looker = Some(looker);
        self.missing = look.folder.is_err();
        if everything {
            self.last_full = Some(Instant::now());
        }
        if let Some(root) = after.root {
            *self.names.lock().unwrap_or_else(PoisonError::into_inner) = vec![self.root.clone(), root];
        }
        if after.replaced || self.missing {
            self.settle.forget_unlinked(|_| false);
            self.watched.clear();
        }
        if self.watch(&after.watch) {
            // A folder that is watched only now may have changed since it was read.
            self.settle.note(Hint::Anything, self.now());
        }
        if after.again {
            let at = self.now() + QUIET_MS;
            self.settle.note(Hint::Anything, at);
        }
        self.took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        look
    }

    /// Says that the absence of these paths was answered for.
    pub fn answered(&mut self, gone: &BTreeSet<PathBuf>) {
        // Paths below another one come right after it.
        let first = |path: &Path| gone.range::<Path, _>((Bound::Included(path), Bound::Unbounded)).next();
        self.settle.forget_unlinked(|path| !first(path).is_some_and(|g| g.starts_with(path)));
    }

    /// Watches exactly these folders; true where one is new.
    fn watch(&mut self, wanted: &BTreeSet<PathBuf>) -> bool {
        let Ok(watcher) = &mut self.watcher else { return false };
        for gone in self.watched.difference(wanted).cloned().collect::<Vec<_>>() {
            // It may be gone itself; then there is nothing to unwatch.
            if watcher.unwatch(&gone).is_err() {
                tracing::trace!(folder = %gone.display(), "no longer there to unwatch");
            }
            self.watched.remove(&gone);
        }
        let mut new = false;
        for folder in wanted.difference(&self.watched.clone()) {
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => new |= self.watched.insert(folder.clone()),
                Err(error) if !folder.exists() => tracing::debug!(%error, "not there to watch"),
                Err(error) => {
                    self.watcher = Err(format!("the folder cannot be watched: {error}"));
                    return false;
                }
            }
        }
        new
    }

    fn period(&self) -> Duration {
        if self.missing || self.watcher.is_err() { POLL } else { RESCAN }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What an event hints at. Reading a file raises events too: those are no hints.
fn hints_of(event: notify::Result<notify::Event>, names: &[PathBuf]) -> Vec<Hint> {
    let Ok(event) = event else { return vec![Hint::Anything] };
    if event.need_rescan() {
        return vec![Hint::Anything];
    }
    let strip = |path: &PathBuf| names.iter().find_map(|root| path.strip_prefix(root).ok()).map(Path::to_owned);
    let below = |path: &PathBuf| strip(path).filter(|p| !p.as_os_str().is_empty());
    let paths = event.paths.iter().map(|path| below(path).ok_or(path));
    let hint = |make: fn(PathBuf) -> Hint| {
        // Events beside the folder (its parent is watched, and folders that links lead to) say only "look".
        paths
            .clone()
            .filter_map(|p| {
                p.map_or_else(|other| concerns_root(other, names).then_some(Hint::Anything), |p| Some(make(p)))
            })
            .collect()
    };
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => hint(Hint::Whole),
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => hint(Hint::Whole),
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(_) => hint(Hint::Unlinked),
        // The two halves of a rename come one by one as well.
        EventKind::Modify(ModifyKind::Name(_)) => Vec::new(),
        EventKind::Modify(ModifyKind::Metadata(_)) => hint(Hint::Whole),
        EventKind::Create(CreateKind::Folder) => vec![Hint::Anything],
        EventKind::Create(_) | EventKind::Modify(_) => hint(Hint::Writing),
        EventKind::Access(_) => Vec::new(),
        EventKind::Any | EventKind::Other => vec![Hint::Anything],
    }
}

/// Whether an event outside the folder is about the folder itself, or about a file that a link in it leads to.
fn concerns_root(path: &Path, names: &[PathBuf]) -> bool {
    let about = |root: &PathBuf| path == root || root.starts_with(path);
    names.iter().any(about) || names.iter().all(|root| path.parent() != root.parent())
}

#[cfg(test)]
mod tests {
    use super::super::look::Read;
    use super::*;

    /// The loop drops the future whenever anything else happens. A look that was lost so was made up for 30 s later; and one that
    /// takes longer than the pause between two events was never done.
    #[tokio::test]
    async fn a_look_is_not_lost_when_who_waits_for_it_is_called_away() {
        let dir = tempfile::tempdir().unwrap();
        let mut source = Source::open(dir.path());
        for name in ["", "a.yaml", "b.yaml"] {
            if !name.is_empty() {
                std::fs::write(dir.path().join(".new"), "services: {a: {image: busybox}}").unwrap();
                std::fs::rename(dir.path().join(".new"), dir.path().join(name)).unwrap();
            }
            let until = Instant::now() + Duration::from_secs(10);
            let seen = |look: &Look| name.is_empty() || matches!(look.files.get(Path::new(name)), Some(Read::Good(_)));
            loop {
                assert!(Instant::now() < until, "{name} is not seen");
                match tokio::time::timeout(Duration::from_micros(50), source.next()).await {
                    Ok(look) if seen(&look) => break,
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }
}
