//! What is told of generations: by the status, by `history`, and how two of them differ.

use super::{Aside, Book, Generation, ServiceKey, back};
use crate::model::{Edit, EditChange, FailureAction, ProjectName, ServiceName, Timestamp};
use crate::reconcile::reconciler::Reconciler;
use crate::source::GoodFile;
use crate::spec;

/// What the status says of a version that is not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsideView {
    /// In one sentence.
    pub text: String,
    /// Why.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
    /// Whether its owner said so.
    pub by_hand: bool,
    /// Which generation is run instead, where one is.
    pub generation: Option<u32>,
}

/// What is known of a service's generations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryView {
    /// By number.
    pub generations: Vec<Generation>,
    /// Which one is in force.
    pub present: Option<u32>,
    /// What is not run.
    pub aside: Option<AsideView>,
    /// What there is to say of newer images.
    pub update: Option<String>,
}

/// How two generations differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The one.
    pub from: u32,
    /// The other.
    pub to: u32,
    /// Which keys differ. What may be secret is told by its name alone.
    pub edits: Vec<Edit>,
}

impl Reconciler {
    /// The generations of a service; none where nothing is known of it.
    #[must_use]
    pub fn history_of(&self, project: &ProjectName, service: &ServiceName) -> Option<HistoryView> {
        let key = (project.clone(), service.clone());
        let Book { generations, last: _, present, .. } = self.generations.book(&key)?.clone();
        let (aside, update) = (self.aside_view(&key), self.update_note(&key));
        Some(HistoryView { generations, present, aside, update })
    }

    /// Which generation is in force.
    pub(in crate::reconcile) fn present_generation(&self, key: &ServiceKey) -> Option<u32> {
        self.generations.book(key)?.present
    }

    /// What is not run of a service, once that is in force.
    pub(in crate::reconcile) fn aside_view(&self, key: &ServiceKey) -> Option<AsideView> {
        let Aside { why, since, by_hand, to, then, .. } = self.generations.acting.get(key)?.aside.clone()?;
        let aside = self.generations.acting.get(key)?.aside.as_ref()?;
        let again = format!("`longshore resume {}/{}` tries it again", key.0, key.1);
        let text = format!("{}; {again}", back::told(aside));
        let generation = to.filter(|_| then == FailureAction::Rollback);
        Some(AsideView { text, why, since, by_hand, generation })
    }

    /// How two generations of a service differ; the second one is the one in force where none is named.
    pub fn compare(
        &self,
        project: &ProjectName,
        service: &ServiceName,
        from: u32,
        to: Option<u32>,
    ) -> Result<Comparison, String> {
        let key = (project.clone(), service.clone());
        let name = format!("{project}/{service}");
        let book = self.generations.book(&key).ok_or_else(|| format!("nothing is known of generations of {name}"))?;
        let to = to.or(book.present).ok_or_else(|| format!("no generation of {name} is in force"))?;
        let (before, now) = (self.kept(book, &name, from)?, self.kept(book, &name, to)?);
        let path = &now.0.file;
        let mut edits = spec::edits(path, version(before.1), version(now.1)).remove(service).unwrap_or_default();
        let said = |edits: &[Edit], key: &str| edits.iter().any(|edit| edit.key == key);
        let mut differ = |key: &str, before: String, now: String| {
            if before != now && !said(&edits, key) {
                let change = EditChange::Changed { values: Some((before, now)) };
                edits.push(Edit { file: path.clone(), line: 0, key: key.to_owned(), change });
            }
        };
        differ("image", before.0.image.to_string(), now.0.image.to_string());
        let digest = |generation: &Generation| generation.version.digest.to_string();
        differ("image digest", digest(before.0), digest(now.0));
        Ok(Comparison { from, to, edits })
    }

    fn kept<'a>(&'a self, book: &'a Book, name: &str, number: u32) -> Result<(&'a Generation, &'a GoodFile), String> {
        let generation = book.by_number(number).ok_or_else(|| {
            format!("{name} has no generation {number}; `longshore history {name}` lists those that are kept")
        })?;
        let file = self.generations.sources.get(&generation.source).ok_or_else(|| {
            format!(
                "generation {number} of {name} was kept by another version of Longshore and cannot be read by this one"
            )
        })?;
        Ok((generation, file))
    }
}

fn version(file: &GoodFile) -> spec::Version<'_> {
    spec::Version { text: &file.source.text, references: &file.source.references, project: &file.document.project }
}
