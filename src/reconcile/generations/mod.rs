//! Generations: which versions of a service were asked for, one after the other, how they went, and which one is in force.
//!
//! ```text
//! asked for ─▶ UnderWay ─▶ Good ──────────────▶ what one goes back to
//!                 │  └─▶ Replaced: another was asked for before it was proven
//!                 └─▶ Failed ─▶ set aside ─▶ (Rollback: the last good one is run instead) ─▶ over: another version, or `resume`
//! ```
//!
//! What is decided is recorded first and in force only once it is on disk ([`Generations::saving`], [`Generations::saved`]): a
//! daemon that is killed in between decides the same again. A generation keeps its state file as it was, with what that refers to;
//! services of one file share it. Pure; it is told the time.

mod automatic;
mod back;
mod note;
#[cfg(test)]
mod tests;
mod verdict;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use automatic::{Answer, Question};
pub use back::Wish;
pub use view::{AsideView, Comparison, HistoryView};

use super::by_hand::ServiceKey;
use super::host::Change;
use crate::model::{Digest, FailureAction, ImageReference, Service, ServiceName, SpecHash, Timestamp};
use crate::plan::Version;
use crate::source::{GoodFile, Remembered};

/// So many generations of a service are kept where nobody says otherwise.
pub(super) const KEPT: u32 = 5;
/// The images of so many good generations are kept beside those of the present one and the one that ran before.
const GOOD_IMAGES: usize = 2;

/// A state file as it was, known by what it held.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceId(String);

impl SourceId {
    /// Of a file and what it refers to.
    #[must_use]
    pub fn of(path: &Path, source: &Remembered) -> Self {
        use std::os::unix::ffi::OsStrExt as _;
        let mut bytes = Vec::new();
        let mut part = |text: &[u8]| {
            bytes.extend(text.len().to_be_bytes());
            bytes.extend_from_slice(text);
        };
        part(path.as_os_str().as_bytes());
        part(source.default_name.as_bytes());
        part(source.text.as_bytes());
        for (path, content) in &source.references {
            part(path.as_os_str().as_bytes());
            match content {
                Some(content) => part(content),
                None => part(b"missing"),
            }
            part(&[u8::from(content.is_some())]);
        }
        Self(SpecHash::of(&bytes).to_string())
    }

    /// As it was written down.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        SpecHash::from_hex(text).map(|hash| Self(hash.to_string()))
    }

    /// 64 digits of base 16.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How a generation went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its containers are being made, or not proven yet.
    UnderWay,
    /// All its containers were proven.
    Good(Timestamp),
    /// Too many of its containers failed.
    Failed {
        /// When.
        at: Timestamp,
        /// Why.
        why: String,
    },
    /// Another one was asked for before it was proven.
    Replaced(Timestamp),
}

impl Outcome {
    /// Whether one may go back to it.
    #[must_use]
    pub const fn good(&self) -> bool {
        matches!(self, Self::Good(_))
    }
}

/// A version of a service that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// From 1 on.
    pub number: u32,
    /// When it was asked for last.
    pub at: Timestamp,
    /// By which state file.
    pub file: PathBuf,
    /// In which line of it; 0: nobody knows.
    pub line: u32,
    /// Why it came.
    pub why: String,
    /// What its containers are made of.
    pub version: Version,
    /// Its image by name, as it was taken.
    pub image: ImageReference,
    /// The file as it was.
    pub source: SourceId,
    /// How it went.
    pub outcome: Outcome,
}

/// A version that is not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// What was asked for.
    pub hash: SpecHash,
    /// What its image stood for, where that was here.
    pub digest: Option<Digest>,
    /// Its image by name.
    pub image: ImageReference,
    /// The file as it was.
    pub source: SourceId,
    /// Why.
    pub why: String,
    /// What follows.
    pub then: FailureAction,
    /// Since when.
    pub since: Timestamp,
    /// Whether its owner said so.
    pub by_hand: bool,
    /// Which generation is run instead, where one is.
    pub to: Option<u32>,
}

/// The version of an image that was taken by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The image with its tag.
    pub image: ImageReference,
    /// When.
    pub at: Timestamp,
}

/// What is known of one service. An empty one is forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Book {
    /// By number.
    pub generations: Vec<Generation>,
    /// The number of the last one that was ever counted.
    pub last: u32,
    /// Which one is in force.
    pub present: Option<u32>,
    /// What is not run.
    pub aside: Option<Aside>,
    /// What was taken by itself.
    pub chosen: Option<Chosen>,
}

impl Book {
    fn by_number(&self, number: u32) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.number == number)
    }

    fn of(&self, version: &Version) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.version == *version)
    }

    fn of_mut(&mut self, version: &Version) -> Option<&mut Generation> {
        self.generations.iter_mut().find(|generation| generation.version == *version)
    }

    /// The good one that was asked for last, but for this version.
    fn last_good(&self, but: Option<&Version>) -> Option<&Generation> {
        let good = self.generations.iter().filter(|g| g.outcome.good() && but != Some(&g.version));
        good.max_by_key(|generation| (generation.at, generation.number))
    }

    /// The good one before the one in force.
    fn before_present(&self) -> Option<&Generation> {
        let present = self.present.and_then(|number| self.by_number(number));
        let Some(present) = present else { return self.last_good(None) };
        let earlier = |g: &&Generation| (g.at, g.number) < (present.at, present.number);
        let good = self.generations.iter().filter(|g| g.outcome.good() && g.number != present.number);
        good.filter(earlier).max_by_key(|generation| (generation.at, generation.number))
    }

    /// Forgets the oldest ones above `keep`, but none that is in force, set aside for, or the last one that was good.
    fn trim(&mut self, keep: u32) {
        let keep = usize::try_from(keep.max(1)).unwrap_or(usize::MAX);
        let to = self.aside.as_ref().and_then(|aside| aside.to);
        while self.generations.len() > keep {
            let needed = [self.present, to, self.last_good(None).map(|g| g.number)];
            let free = self.generations.iter().filter(|g| !needed.contains(&Some(g.number)));
            let Some(oldest) = free.min_by_key(|g| (g.at, g.number)).map(|g| g.number) else { return };
            self.generations.retain(|generation| generation.number != oldest);
        }
    }

    fn empty(&self) -> bool {
        self.generations.is_empty() && self.aside.is_none() && self.chosen.is_none()
    }

    fn sources(&self) -> impl Iterator<Item = &SourceId> {
        self.generations.iter().map(|g| &g.source).chain(self.aside.iter().map(|aside| &aside.source))
    }
}

/// What acts of a book: what is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Acting {
    aside: Option<Aside>,
    chosen: Option<Chosen>,
}

impl Acting {
    fn of(book: &Book) -> Self {
        Self { aside: book.aside.clone(), chosen: book.chosen.clone() }
    }
}

/// The generations of all services.
#[derive(Debug)]
pub struct Generations {
    books: BTreeMap<ServiceKey, Book>,
    sources: BTreeMap<SourceId, Arc<GoodFile>>,
    /// Those of them that are on disk, or on the way there.
    written: BTreeSet<SourceId>,
    /// What is not on disk as it is.
    changed: BTreeSet<ServiceKey>,
    /// What is on the way to the disk.
    saving: BTreeMap<ServiceKey, Acting>,
    acting: BTreeMap<ServiceKey, Acting>,
    /// What registries said, and when they are asked.
    automatic: automatic::Automatic,
    /// So many are kept of a service.
    keep: u32,
}

impl Default for Generations {
    fn default() -> Self {
        Self::remembered(BTreeMap::new(), BTreeMap::new())
    }
}

impl Generations {
    /// With what was remembered; without the files that cannot be read any more.
    #[must_use]
    pub fn remembered(books: BTreeMap<ServiceKey, Book>, sources: BTreeMap<SourceId, GoodFile>) -> Self {
        let acting = books.iter().map(|(key, book)| (key.clone(), Acting::of(book))).collect();
        Self {
            acting,
            written: books.values().flat_map(Book::sources).cloned().collect(),
            books,
            sources: sources.into_iter().map(|(id, file)| (id, Arc::new(file))).collect(),
            changed: BTreeSet::new(),
            saving: BTreeMap::new(),
            automatic: automatic::Automatic::default(),
            keep: KEPT,
        }
    }

    /// So many are kept of a service whose file does not say it.
    #[must_use]
    pub fn keeping(self, keep: Option<u32>) -> Self {
        Self { keep: keep.unwrap_or(KEPT), ..self }
    }

    pub(super) fn book(&self, key: &ServiceKey) -> Option<&Book> {
        self.books.get(key)
    }

    /// Changes a book; it is written with the next save.
    fn write(&mut self, key: &ServiceKey) -> &mut Book {
        self.changed.insert(key.clone());
        self.books.entry(key.clone()).or_default()
    }

    /// Its record changes for another reason.
    pub(super) fn touch(&mut self, key: &ServiceKey) {
        self.changed.insert(key.clone());
    }

    /// The service is gone.
    pub(super) fn forget(&mut self, key: &ServiceKey) {
        self.books.remove(key);
        self.changed.insert(key.clone());
    }

    fn keep_source(&mut self, path: &Path, file: &GoodFile) -> SourceId {
        let id = SourceId::of(path, &file.source);
        self.sources.entry(id.clone()).or_insert_with(|| Arc::new(file.clone()));
        id
    }

    /// The service of this name, as its file was.
    fn service_in(&self, source: &SourceId, name: &ServiceName) -> Option<&Service> {
        self.sources.get(source)?.document.project.services.get(name)
    }

    /// Whether something is not on disk yet.
    pub(super) fn dirty(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What is to be brought to disk now, with the manifests that each service ran last.
    pub(super) fn saving(&mut self, ran: &BTreeMap<ServiceKey, Vec<Digest>>) -> Vec<Change> {
        let mut changes = Vec::new();
        for key in std::mem::take(&mut self.changed) {
            let book = self.books.get(&key).cloned().unwrap_or_default();
            let new: BTreeSet<SourceId> = book.sources().filter(|id| !self.written.contains(id)).cloned().collect();
            for id in new {
                let Some(file) = self.sources.get(&id) else { continue };
                let project = file.document.project.name.to_string();
                changes.push(Change::Source { id: id.clone(), project, source: file.source.clone() });
                self.written.insert(id);
            }
            self.saving.insert(key.clone(), Acting::of(&book));
            let digests = ran.get(&key).cloned().unwrap_or_default();
            changes.push(Change::Generations { project: key.0, service: key.1, digests, book: Box::new(book) });
        }
        self.books.retain(|_, book| !book.empty());
        let used: BTreeSet<SourceId> = self.books.values().flat_map(Book::sources).cloned().collect();
        let unused: Vec<SourceId> = self.written.difference(&used).cloned().collect();
        for id in unused {
            self.written.remove(&id);
            changes.push(Change::SourceGone(id));
        }
        self.sources.retain(|id, _| used.contains(id));
        changes
    }

    /// It is on disk: what was decided is in force. Whether that is something else than before.
    pub(super) fn saved(&mut self) -> bool {
        let mut other = false;
        for (key, acting) in std::mem::take(&mut self.saving) {
            let before = self.acting.insert(key, acting.clone()).unwrap_or_default();
            other |= before != acting;
        }
        self.acting.retain(|_, acting| *acting != Acting::default());
        other
    }

    /// The manifests that services may go back to.
    fn good_images(&self) -> BTreeMap<ServiceKey, Vec<Digest>> {
        let of = |book: &Book| {
            let mut good: Vec<&Generation> = book.generations.iter().filter(|g| g.outcome.good()).collect();
            good.sort_by_key(|g| std::cmp::Reverse((g.at, g.number)));
            let mut digests: Vec<Digest> = Vec::new();
            for generation in good {
                if !digests.contains(&generation.version.digest) && digests.len() < GOOD_IMAGES {
                    digests.push(generation.version.digest.clone());
                }
            }
            let to = book.aside.as_ref().and_then(|aside| aside.to).and_then(|number| book.by_number(number));
            digests.extend(to.map(|generation| generation.version.digest.clone()));
            digests
        };
        self.books.iter().map(|(key, book)| (key.clone(), of(book))).collect()
    }
}
