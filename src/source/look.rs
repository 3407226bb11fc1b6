//! One look at the folder: every state file read and parsed, or why not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::FileType;

use super::folder::{FolderId, MAX_FILE_BYTES, OpenFolder, Referred, inside};
use super::names::{COMPOSE_FILES, default_name, leftover, state_file};
use super::secrets::{Secrets, Unopened};
use super::settle::{QUIET_MS, Task};
use crate::model::{Location, Problem};
use crate::spec::{self, Document, FileError, Files, Input};

/// What a look saw.
#[derive(Debug, Clone)]
pub struct Look {
    /// The folder, or why it cannot be looked at.
    pub folder: Result<FolderId, String>,
    /// State files by their path below the folder.
    pub files: BTreeMap<PathBuf, Read>,
    /// What is odd but stops nothing.
    pub warnings: Vec<Problem>,
    /// Folders that are there and cannot be listed: what is known of the files in them stays.
    pub unreadable: BTreeSet<PathBuf>,
    /// Paths (files, or folders above them) that an event reported as unlinked in this very folder.
    pub unlinked: BTreeSet<PathBuf>,
}

/// A state file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// It can be used. Shared: a look at many files hands out most of them as they were.
    Good(Arc<GoodFile>),
    /// It cannot, and why.
    Refused(Vec<Problem>),
    /// It is still being written: what was known of it stays.
    Writing,
}

/// A state file that can be used, with all that is needed to read it again as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoodFile {
    /// What it says.
    pub document: Document,
    /// What it is made from.
    pub source: Remembered,
}

/// The text of a state file and of everything that it refers to.
#[derive(Clone, PartialEq, Eq)]
pub struct Remembered {
    /// The name that its place gives it.
    pub default_name: String,
    /// Its text.
    pub text: String,
    /// What it refers to; none where it was missing.
    pub references: Vec<(PathBuf, Option<Vec<u8>>)>,
}

/// The texts may hold secrets: they are in no log.
impl std::fmt::Debug for Remembered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let references: Vec<&PathBuf> = self.references.iter().map(|(path, _)| path).collect();
        write!(f, "{} bytes, referring to {references:?}", self.text.len())
    }
}

/// Parses a file again from what was remembered of it.
pub fn read_again(
    path: &Path,
    remembered: &Remembered,
    defaults: &Defaults,
    secrets: &dyn Secrets,
) -> Result<Document, Vec<Problem>> {
    struct Kept<'a>(&'a [(PathBuf, Option<Vec<u8>>)], &'a dyn Secrets);
    impl Files for Kept<'_> {
        fn read(&self, relative: &Path) -> Result<Vec<u8>, FileError> {
            let found = self.0.iter().find(|(path, _)| path == relative);
            found.and_then(|(_, content)| content.clone()).ok_or(FileError::Missing)
        }
        fn external_secret(&self, name: &str) -> Result<Vec<u8>, FileError> {
            self.1.get(name)
        }
        fn decrypt(&self, bytes: &[u8]) -> Result<Vec<u8>, String> {
            self.1.decrypt(bytes)
        }
    }
    spec::parse(&Input {
        path,
        text: remembered.text.as_bytes(),
        default_name: &remembered.default_name,
        default_registry: &defaults.registry,
        profiles: &defaults.profiles,
        files: &Kept(&remembered.references, secrets),
        key: secrets.fingerprint_key(),
    })
}

/// The registry that is meant where nobody names another.
pub const DOCKER_HUB: &str = "docker.io";

/// What counts for every state file, whatever it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// The registry of images whose references name none.
    pub registry: String,
    /// Profiles that are chosen; `*` is all.
    pub profiles: Vec<String>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { registry: DOCKER_HUB.to_owned(), profiles: Vec::new() }
    }
}

/// Looks, and keeps what it read so that an event about one file costs one file.
#[derive(Debug)]
pub struct Looker {
    root: PathBuf,
    real_root: PathBuf,
    known: BTreeMap<PathBuf, Known>,
    id: Option<FolderId>,
    defaults: Defaults,
    secrets: Arc<dyn Secrets>,
}

struct Known {
    read: Read,
    /// How often secrets had been changed when it was read.
    secrets: u64,
    text: Vec<u8>,
    references: Vec<(PathBuf, Option<Vec<u8>>)>,
    /// Where the file and what it refers to really lie.
    real: BTreeSet<PathBuf>,
    /// Something of it is reached by a link: any event may be about it.
    linked: bool,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.read)
    }
}

/// What follows from a look for the watching.
#[derive(Debug, Default)]
pub(super) struct Aftermath {
    /// Folders whose events matter.
    pub(super) watch: BTreeSet<PathBuf>,
    /// A file was so fresh that it must be looked at again.
    pub(super) again: bool,
    /// The folder's real path.
    pub(super) root: Option<PathBuf>,
    /// The folder is another one than last time.
    pub(super) replaced: bool,
}

impl Looker {
    /// For the folder at `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        let (root, real_root) = (root.to_owned(), root.to_owned());
        let defaults = Defaults::default();
        Self { root, real_root, known: BTreeMap::new(), id: None, defaults, secrets: Arc::new(Unopened) }
    }

    /// With the secrets of this host.
    #[must_use]
    pub fn with_secrets(self, secrets: Arc<dyn Secrets>) -> Self {
        Self { secrets, ..self }
    }

    /// With other defaults.
    #[must_use]
    pub fn with_defaults(self, defaults: Defaults) -> Self {
        Self { defaults, ..self }
    }

    /// Looks at everything, as if for the first time.
    pub fn look(&mut self) -> Look {
        self.known.clear();
        self.look_at(&Task { everything: true, ..Task::default() }, false).0
    }

    /// Looks at one file of the folder, whatever its name, and at no other one.
    pub fn look_at_one(&mut self, path: &Path) -> Look {
        let everything = Task { everything: true, ..Task::default() };
        let mut look = Look {
            folder: Err(String::new()),
            files: BTreeMap::new(),
            warnings: Vec::new(),
            unreadable: BTreeSet::new(),
            unlinked: BTreeSet::new(),
        };
        match OpenFolder::open(&self.root) {
            Ok(folder) => {
                look.folder = Ok(folder.id);
                let read = self.read(&folder, path, &everything, false, &mut Aftermath::default());
                look.files.insert(path.to_owned(), read);
            }
            Err(error) => look.folder = Err(format!("{}: {error}", self.root.display())),
        }
        look
    }

    /// Looks as far as `task` says. `settle` tells whether a fresh file may be waited for.
    pub(super) fn look_at(&mut self, task: &Task, settle: bool) -> (Look, Aftermath) {
        let mut after = Aftermath::default();
        if let Some(parent) = self.root.parent() {
            after.watch.insert(parent.to_owned());
        }
        let mut look = Look {
            folder: Err(String::new()),
            files: BTreeMap::new(),
            warnings: Vec::new(),
            unreadable: BTreeSet::new(),
            unlinked: task.unlinked.clone(),
        };
        let listed = OpenFolder::open(&self.root).and_then(|folder| Ok((folder.list(Path::new(""))?, folder)));
        let (entries, folder) = match listed {
            Ok(both) => both,
            Err(error) => {
                self.id = None;
                look.folder = Err(format!("{}: {error}", self.root.display()));
                return (look, after);
            }
        };
        after.replaced = self.id.is_some_and(|id| id != folder.id);
        if after.replaced {
            self.known.clear();
            look.unlinked.clear();
        }
        self.id = Some(folder.id);
        look.folder = Ok(folder.id);
        // One name for each folder: the kernel knows a folder by its inode, and tells its events under the last name alone.
        self.real_root = std::fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.clone());
        after.root = Some(self.real_root.clone());
        after.watch.insert(self.real_root.clone());
        let paths = state_paths(&folder, entries, &mut look, &self.real_root, &mut after.watch);
        self.known.retain(|path, _| paths.contains(path));
        for path in paths {
            let read = self.read(&folder, &path, task, settle, &mut after);
            look.files.insert(path, read);
        }
        (look, after)
    }

    fn read(&mut self, folder: &OpenFolder, path: &Path, task: &Task, settle: bool, after: &mut Aftermath) -> Read {
        let as_known = |known: Option<&Known>| known.map_or(Read::Writing, |known| known.read.clone());
        let known = self.known.get(path);
        if let Some(known) = known {
            watch_known(known, after);
        }
        if task.writing.contains(path) || known.is_some_and(|known| being_written(task, path, &known.references)) {
            return as_known(known);
        }
        if let Some(known) = known
            && !task.everything
            && !concerns(&task.touched, path, known)
        {
            return known.read.clone();
        }
        let content = match folder.read(path) {
            Ok(content) => content,
            Err(FileError::Missing) if known.is_none() => return Read::Refused(vec![dangling(path)]),
            Err(error) => return Read::Refused(vec![unreadable(path, &error)]),
        };
        // Nobody said that it is whole, and it was written to a moment ago: it may still be.
        let differs = known.is_none_or(|known| known.text != content.bytes);
        let quiet = Duration::from_millis(QUIET_MS);
        let fresh = SystemTime::now().duration_since(content.modified).is_ok_and(|age| age < quiet);
        let whole = path.ancestors().any(|path| task.whole.contains(path));
        if settle && differs && fresh && !whole {
            after.again = true;
            return as_known(known);
        }
        let before = known.map(|known| known.read.clone());
        let known = self.parse(folder, path, content.bytes, content.real);
        watch_known(&known, after);
        if being_written(task, path, &known.references) {
            after.again = true;
            self.known.remove(path);
            return before.unwrap_or(Read::Writing);
        }
        let read = known.read.clone();
        self.known.insert(path.to_owned(), known);
        read
    }

    /// Parses a file, unless neither its text nor anything it refers to changed.
    fn parse(&mut self, folder: &OpenFolder, path: &Path, text: Vec<u8>, real: Option<PathBuf>) -> Known {
        let base = path.parent().unwrap_or(Path::new(""));
        // Before anything is read: what is changed meanwhile is read again at the next look.
        let secrets = self.secrets.changes();
        if let Some(known) = self.known.get(path).filter(|known| known.secrets == secrets) {
            let files = Referred::new(folder, base, &*self.secrets);
            let same = |(path, content): &(PathBuf, Option<Vec<u8>>)| files.read(path).ok() == *content;
            if known.text == text && known.references.iter().all(same) {
                let (read, references) = (known.read.clone(), known.references.clone());
                return self.known(
                    path,
                    (read, secrets),
                    text,
                    references,
                    real.into_iter().chain(files.real.into_inner()),
                );
            }
        }
        let files = Referred::new(folder, base, &*self.secrets);
        let default_name = default_name(path);
        let parsed = spec::parse(&Input {
            path,
            text: &text,
            default_name: &default_name,
            default_registry: &self.defaults.registry,
            profiles: &self.defaults.profiles,
            files: &files,
            key: self.secrets.fingerprint_key(),
        });
        let mut references = files.seen.into_inner();
        references.sort();
        references.dedup();
        let read = match parsed {
            Ok(document) => {
                let text = String::from_utf8_lossy(&text).into_owned();
                let source = Remembered { default_name, text, references: references.clone() };
                Read::Good(Arc::new(GoodFile { document, source }))
            }
            Err(problems) => Read::Refused(problems),
        };
        self.known(path, (read, secrets), text, references, real.into_iter().chain(files.real.into_inner()))
    }

    fn known(
        &self,
        path: &Path,
        (read, secrets): (Read, u64),
        text: Vec<u8>,
        references: Vec<(PathBuf, Option<Vec<u8>>)>,
        real: impl Iterator<Item = PathBuf>,
    ) -> Known {
        let mut real: BTreeSet<PathBuf> = real.collect();
        let meant: BTreeSet<PathBuf> = std::iter::once(path.to_owned())
            .chain(
                references
                    .iter()
                    .filter_map(|(reference, _)| inside(path.parent().unwrap_or(Path::new("")), reference)),
            )
            .map(|below| self.real_root.join(below))
            .collect();
        let linked = real.iter().any(|real| !meant.contains(real));
        // What is missing is waited for in its folder.
        real.extend(meant);
        Known { read, secrets, text, references, real, linked }
    }
}

/// Whether something that the file refers to is being written.
fn being_written(task: &Task, path: &Path, references: &[(PathBuf, Option<Vec<u8>>)]) -> bool {
    let base = path.parent().unwrap_or(Path::new(""));
    references.iter().any(|(reference, _)| inside(base, reference).is_some_and(|at| task.writing.contains(&at)))
}

/// Whether an event about one of the paths may change what the file means.
fn concerns(touched: &BTreeSet<PathBuf>, path: &Path, known: &Known) -> bool {
    let base = path.parent().unwrap_or(Path::new(""));
    touched.iter().any(|changed| {
        let about = |at: PathBuf| at.starts_with(changed);
        let referred = known.references.iter().any(|(reference, _)| inside(base, reference).is_some_and(about));
        known.linked || referred || path.starts_with(changed)
    })
}

fn watch_known(known: &Known, after: &mut Aftermath) {
    after.watch.extend(known.real.iter().filter_map(|real| real.parent()).map(Path::to_owned));
}

fn state_paths(
    folder: &OpenFolder,
    entries: Vec<(std::ffi::OsString, FileType)>,
    look: &mut Look,
    root: &Path,
    watch: &mut BTreeSet<PathBuf>,
) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::new();
    for (name, kind) in entries {
        let path = PathBuf::from(&name);
        if leftover(&name) {
            continue;
        }
        match kind {
            FileType::Directory if state_file(&name) => {
                let message = "this is a folder with the name of a state file; it is not read";
                look.warnings.push(Problem::warning(Location::whole(path), message).with_hint("rename the folder"));
            }
            FileType::Directory => {
                watch.insert(root.join(&path));
                paths.extend(project_file(folder, &path, true, look));
            }
            _ if state_file(&name) => {
                paths.insert(path);
            }
            // Some file systems do not tell the kind.
            FileType::Symlink | FileType::Unknown => paths.extend(project_file(folder, &path, false, look)),
            _ => {}
        }
    }
    paths
}

/// The state file of a project folder. One that is there and cannot be listed says nothing of its file.
fn project_file(folder: &OpenFolder, path: &Path, certain: bool, look: &mut Look) -> Option<PathBuf> {
    let entries = match folder.list(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            look.unreadable.insert(path.to_owned());
            if certain {
                let message =
                    format!("this folder cannot be read ({error}); what is known of its project stays in force");
                look.warnings.push(Problem::warning(Location::whole(path), message));
            }
            return None;
        }
    };
    let mut found = COMPOSE_FILES.iter().filter(|name| entries.iter().any(|(entry, _)| entry == *name));
    let chosen = path.join(found.next()?);
    if let Some(other) = found.next() {
        let message = format!("{} is used, {} beside it is not", chosen.display(), path.join(other).display());
        look.warnings.push(Problem::warning(Location::whole(path), message).with_hint("keep one of the two"));
    }
    Some(chosen)
}

fn dangling(path: &Path) -> Problem {
    Problem::error(Location::whole(path), "it is a symbolic link to something that is not there")
        .with_hint("the file is read as soon as the target appears")
}

fn unreadable(path: &Path, error: &FileError) -> Problem {
    let limit = MAX_FILE_BYTES >> 20;
    let (message, hint) = match error {
        FileError::Missing => ("it vanished while it was read".to_owned(), "it is looked for again by itself"),
        FileError::TooLarge => {
            (format!("it is larger than {limit} MiB"), "a state file of that size is no state file; split it")
        }
        FileError::NotRegular => {
            ("it is not a regular file; it is not opened".to_owned(), "remove it, or put a file in its place")
        }
        FileError::Outside => (
            "it is a symbolic link that leads out of the state folder; it is not read".to_owned(),
            "put the file itself into the folder",
        ),
        FileError::Io(reason) => (format!("it cannot be read: {reason}"), "it is tried again with the next look"),
    };
    Problem::error(Location::whole(path), message).with_hint(hint)
}
