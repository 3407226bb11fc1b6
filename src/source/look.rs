//! One look at the folder: every state file read and parsed, or why not.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::FileType;

use super::folder::{FolderId, MAX_FILE_BYTES, OpenFolder, Referred};
use super::names::{COMPOSE_FILES, default_name, leftover, state_file};
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
    /// Paths (files, or folders above them) that an event reported as unlinked in this very folder.
    pub unlinked: BTreeSet<PathBuf>,
}

/// A state file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// It can be used.
    Good(Box<GoodFile>),
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
pub fn read_again(path: &Path, remembered: &Remembered) -> Result<Document, Vec<Problem>> {
    struct Kept<'a>(&'a [(PathBuf, Option<Vec<u8>>)]);
    impl Files for Kept<'_> {
        fn read(&self, relative: &Path) -> Result<Vec<u8>, FileError> {
            let found = self.0.iter().find(|(path, _)| path == relative);
            found.and_then(|(_, content)| content.clone()).ok_or(FileError::Missing)
        }
    }
    spec::parse(&Input {
        path,
        text: remembered.text.as_bytes(),
        default_name: &remembered.default_name,
        files: &Kept(&remembered.references),
    })
}

/// Looks, and keeps what it read so that an event about one file costs one file.
#[derive(Debug)]
pub struct Looker {
    root: PathBuf,
    known: BTreeMap<PathBuf, Known>,
    id: Option<FolderId>,
}

struct Known {
    read: Read,
    text: Vec<u8>,
    references: Vec<(PathBuf, Option<Vec<u8>>)>,
    real: Option<PathBuf>,
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
    /// The folder is another one than last time.
    pub(super) replaced: bool,
}

impl Looker {
    /// For the folder at `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), known: BTreeMap::new(), id: None }
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

    /// Looks as far as `task` says. `events` tells whether a fresh file may be waited for.
    pub(super) fn look_at(&mut self, task: &Task, events: bool) -> (Look, Aftermath) {
        let mut after = Aftermath::default();
        if let Some(parent) = self.root.parent() {
            after.watch.insert(parent.to_owned());
        }
        let mut look = Look {
            folder: Err(String::new()),
            files: BTreeMap::new(),
            warnings: Vec::new(),
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
        after.watch.insert(self.root.clone());
        let paths = state_paths(&folder, entries, &mut look.warnings, &self.root, &mut after.watch);
        self.known.retain(|path, _| paths.contains(path));
        for path in paths {
            let read = self.read(&folder, &path, task, events, &mut after);
            look.files.insert(path, read);
        }
        (look, after)
    }

    fn read(&mut self, folder: &OpenFolder, path: &Path, task: &Task, events: bool, after: &mut Aftermath) -> Read {
        if task.writing.contains(path) {
            return self.known.get(path).map_or(Read::Writing, |known| known.read.clone());
        }
        if let Some(known) = self.known.get(path)
            && !task.everything
            && !concerns(&task.touched, path, known)
        {
            watch_known(&self.root, path, known, after);
            return known.read.clone();
        }
        let content = match folder.read(path) {
            Ok(content) => content,
            Err(FileError::Missing) if !self.known.contains_key(path) => return Read::Refused(vec![dangling(path)]),
            Err(error) => return Read::Refused(vec![unreadable(path, &error)]),
        };
        let is_new = !self.known.contains_key(path) && !task.whole.contains(path);
        let quiet = Duration::from_millis(QUIET_MS);
        let fresh = SystemTime::now().duration_since(content.modified).is_ok_and(|age| age < quiet);
        if events && is_new && fresh {
            after.again = true;
            return Read::Writing;
        }
        let known = self.parse(folder, path, content.bytes, content.real);
        watch_known(&self.root, path, &known, after);
        let read = known.read.clone();
        self.known.insert(path.to_owned(), known);
        read
    }

    /// Parses a file, unless neither its text nor anything it refers to changed.
    fn parse(&mut self, folder: &OpenFolder, path: &Path, text: Vec<u8>, real: Option<PathBuf>) -> Known {
        let base = path.parent().unwrap_or(Path::new(""));
        if let Some(known) = self.known.remove(path) {
            let files = Referred { folder, base, seen: RefCell::default() };
            let same = |(path, content): &(PathBuf, Option<Vec<u8>>)| files.read(path).ok() == *content;
            if known.text == text && known.references.iter().all(same) {
                return Known { real, ..known };
            }
        }
        let files = Referred { folder, base, seen: RefCell::default() };
        let default_name = default_name(path);
        let parsed = spec::parse(&Input { path, text: &text, default_name: &default_name, files: &files });
        let mut references = files.seen.into_inner();
        references.sort();
        references.dedup();
        let read = match parsed {
            Ok(document) => {
                let text = String::from_utf8_lossy(&text).into_owned();
                let source = Remembered { default_name, text, references: references.clone() };
                Read::Good(Box::new(GoodFile { document, source }))
            }
            Err(problems) => Read::Refused(problems),
        };
        Known { read, text, references, real }
    }
}

/// Whether an event about one of the paths may change what the file means.
fn concerns(touched: &BTreeSet<PathBuf>, path: &Path, known: &Known) -> bool {
    let base = path.parent().unwrap_or(Path::new(""));
    let linked = known.real.as_ref().is_some_and(|real| !real.ends_with(path));
    touched.iter().any(|changed| {
        let referred = known.references.iter().any(|(reference, _)| {
            let at = base.join(reference.strip_prefix(".").unwrap_or(reference));
            at == *changed || at.starts_with(changed)
        });
        linked || referred || path.starts_with(changed)
    })
}

fn watch_known(root: &Path, path: &Path, known: &Known, after: &mut Aftermath) {
    if let Some(folder) = known.real.as_deref().and_then(Path::parent) {
        after.watch.insert(folder.to_owned());
    }
    let base = root.join(path.parent().unwrap_or(Path::new("")));
    for (reference, _) in known.references.iter().filter(|(r, _)| r.is_relative()) {
        if let Some(folder) = base.join(reference).parent() {
            after.watch.insert(folder.to_owned());
        }
    }
}

fn state_paths(
    folder: &OpenFolder,
    entries: Vec<(std::ffi::OsString, FileType)>,
    warnings: &mut Vec<Problem>,
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
                warnings.push(Problem::warning(Location::whole(path), message).with_hint("rename the folder"));
            }
            FileType::Directory => {
                watch.insert(root.join(&path));
                paths.extend(project_file(folder, &path, warnings));
            }
            FileType::Symlink if !state_file(&name) => paths.extend(project_file(folder, &path, warnings)),
            _ if state_file(&name) => {
                paths.insert(path);
            }
            _ => {}
        }
    }
    paths
}

/// The state file of a project folder. A folder that cannot be listed, or a link out of the state folder, holds none.
fn project_file(folder: &OpenFolder, path: &Path, warnings: &mut Vec<Problem>) -> Option<PathBuf> {
    let entries = folder.list(path).ok()?;
    let mut found = COMPOSE_FILES.iter().filter(|name| entries.iter().any(|(entry, _)| entry == *name));
    let chosen = path.join(found.next()?);
    if let Some(other) = found.next() {
        let message = format!("{} is used, {} beside it is not", chosen.display(), path.join(other).display());
        warnings.push(Problem::warning(Location::whole(path), message).with_hint("keep one of the two"));
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
