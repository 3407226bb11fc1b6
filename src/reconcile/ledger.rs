//! Which documents are in force: what the files say, remembered over bad edits, vanished folders and slips of the hand.
//!
//! * A file that cannot be used keeps its last good version in force.
//! * A folder that is missing, unreadable or suddenly empty changes nothing.
//! * More than half of the projects gone at once, and more than two, blows a fuse: nothing is removed until the owner confirms.
//! * Two files that define the same project change nothing; what was in force stays so.
//!
//! Pure: it is told the time and what a look saw.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::view::HeldView;
use crate::model::{ContainerName, Hold, Location, Problem, Project, ProjectName, ServiceName, Severity, Timestamp};
use crate::plan::Desired;
use crate::source::{GoodFile, Look, Read};

/// A file counts as removed when it was absent for this long: replacing it by unlink and write is no removal.
pub(super) const ABSENT_MS: u64 = 300;
/// Removals that follow each other are settled together, so that the fuse sees them all; but none waits longer than this for others.
const TOGETHER_MS: u64 = 5_000;

/// What is in force.
#[derive(Debug, Default)]
pub struct Ledger {
    good: BTreeMap<PathBuf, Arc<GoodFile>>,
    /// Which of them defines a project.
    owners: BTreeMap<ProjectName, PathBuf>,
    absent_since: BTreeMap<PathBuf, Timestamp>,
    /// Projects that the host has containers of, while no document says what they are.
    lost: BTreeSet<ProjectName>,
    held: Option<HeldView>,
    /// The absences that the owner confirmed.
    confirmed: Option<BTreeSet<PathBuf>>,
    /// The folder that the remembered documents are of, where it is another one than now.
    moved_from: Option<PathBuf>,
    refused: BTreeMap<PathBuf, Vec<Problem>>,
    conflicts: Vec<Problem>,
    frozen: BTreeSet<PathBuf>,
    warnings: Vec<Problem>,
    names: BTreeMap<ContainerName, (ProjectName, ServiceName)>,
    /// The files of the last look.
    present: BTreeSet<PathBuf>,
    /// Those that could not be read as they are now.
    unread: BTreeSet<PathBuf>,
}

/// What a look changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Documents that came into force or changed.
    pub applied: Vec<PathBuf>,
    /// Documents that are no longer in force.
    pub removed: Vec<PathBuf>,
    /// What was in force before, of files that changed or are gone.
    pub replaced: Vec<(PathBuf, Arc<GoodFile>)>,
    /// A file is still being written.
    pub writing: bool,
    /// Something is absent that may be back in a moment: look again soon.
    pub look_again: bool,
    /// Absences that are settled.
    pub answered: BTreeSet<PathBuf>,
}

impl Ledger {
    /// With what was in force before the daemon ended, and the projects that the host has containers of.
    #[must_use]
    pub fn remembered(
        good: BTreeMap<PathBuf, GoodFile>,
        on_host: BTreeSet<ProjectName>,
        moved_from: Option<PathBuf>,
    ) -> Self {
        let defined: BTreeSet<_> = good.values().map(|g| g.document.project.name.clone()).collect();
        let name = |(path, good): (&PathBuf, &GoodFile)| (good.document.project.name.clone(), path.clone());
        let owners = good.iter().map(name).collect();
        let lost = on_host.into_iter().filter(|name| !defined.contains(name)).collect();
        let good = good.into_iter().map(|(path, good)| (path, Arc::new(good))).collect();
        Self { good, owners, lost, moved_from, ..Self::default() }
    }

    /// Takes in what a look saw.
    pub fn absorb(&mut self, look: &Look, now: Timestamp) -> Changes {
        let mut changes = Changes::default();
        self.warnings = look.warnings.clone();
        if let Err(reason) = &look.folder {
            let reason =
                format!("the state folder cannot be read ({reason}); everything is kept as it is until it is back");
            self.hold(reason, false, now);
            return changes;
        }
        self.note_refused(look);
        let claims = claims(look);
        self.take_over_moved(&claims, look, &mut changes);
        self.settle_conflicts(&claims, look);
        // Files that are in force first: what they give up is free for the others.
        let known = |path: &PathBuf| self.good.contains_key(path);
        let (before, new): (Vec<_>, Vec<_>) = look.files.iter().partition(|(path, _)| known(path));
        for (path, read) in before.into_iter().chain(new) {
            if let Read::Good(file) = read {
                self.apply(path, file, &mut changes);
            }
        }
        self.find_lost(look);
        self.remove_absent(look, now, &mut changes);
        self.present = look.files.keys().cloned().collect();
        let unread = look.files.iter().filter(|(_, read)| !matches!(read, Read::Good(_))).map(|(path, _)| path);
        self.unread = unread.chain(&look.unreadable).cloned().collect();
        changes.writing = look.files.values().any(|read| matches!(read, Read::Writing));
        changes
    }

    fn note_refused(&mut self, look: &Look) {
        self.refused.clear();
        for (path, read) in &look.files {
            if let Read::Refused(problems) = read {
                self.refused.insert(path.clone(), problems.clone());
            }
        }
    }

    /// A file that was renamed: its project goes on under the new name, at once.
    fn take_over_moved(&mut self, claims: &Claims<'_>, look: &Look, changes: &mut Changes) {
        let moved: Vec<PathBuf> = self
            .good
            .iter()
            .filter(|(path, good)| {
                // A file that was there before is no new name of this one, but in conflict with it.
                let new = |claim: &BTreeSet<&Path>| {
                    claim.len() == 1 && claim.iter().all(|path| !self.present.contains(*path))
                };
                self.absent(path, look) && claims.get(&good.document.project.name).is_some_and(new)
            })
            .map(|(path, _)| path.clone())
            .collect();
        for path in moved {
            self.drop_good(&path, changes);
        }
    }

    /// Two files claim the same project: both are told; the one that was in force stays as it was.
    fn settle_conflicts(&mut self, claims: &Claims<'_>, look: &Look) {
        self.conflicts.clear();
        self.frozen.clear();
        for (project, paths) in claims {
            let owner = self.owner(project).filter(|path| look.files.contains_key(*path)).map(Path::to_owned);
            let mut all: BTreeSet<&Path> = paths.clone();
            if let Some(owner) = owner.as_deref().filter(|path| !matches!(look.files.get(*path), Some(Read::Good(_)))) {
                all.insert(owner);
            }
            if all.len() < 2 {
                continue;
            }
            for path in &all {
                let others: Vec<String> = all.iter().filter(|p| *p != path).map(|p| p.display().to_string()).collect();
                let state = match owner.as_deref() {
                    Some(owner) => format!("what {} said before stays in force", owner.display()),
                    None => "none of them is applied".to_owned(),
                };
                let message = format!("project {project} is also defined by {}; {state}", others.join(", "));
                let hint = "give one of them another `name:`, or remove it";
                self.conflicts.push(Problem::error(Location::whole(*path), message).with_hint(hint));
                self.frozen.insert(path.to_path_buf());
            }
        }
    }

    fn owner(&self, project: &ProjectName) -> Option<&Path> {
        self.owners.get(project).map(PathBuf::as_path)
    }

    fn apply(&mut self, path: &Path, file: &Arc<GoodFile>, changes: &mut Changes) {
        self.absent_since.remove(path);
        // The file that has the project may be back in a moment.
        let taken = self.owner(&file.document.project.name).is_some_and(|owner| owner != path);
        if !taken && !self.frozen.contains(path) && self.good.get(path) != Some(file) {
            self.disown(path);
            self.owners.insert(file.document.project.name.clone(), path.to_owned());
            let before = self.good.insert(path.to_owned(), Arc::clone(file));
            changes.replaced.extend(before.map(|before| (path.to_owned(), before)));
            changes.applied.push(path.to_owned());
        }
    }

    /// Projects of the host are no longer lost when a document speaks of them, or when every file was read and none does.
    fn find_lost(&mut self, look: &Look) {
        let defined: BTreeSet<_> = self.good.values().map(|g| g.document.project.name.clone()).collect();
        self.lost.retain(|name| !defined.contains(name));
        let unread =
            look.files.iter().any(|(path, read)| !matches!(read, Read::Good(_)) && !self.good.contains_key(path));
        let unsure = unread || !self.conflicts.is_empty();
        let fuse = self.lost.len() > 2 && self.lost.len() > self.good.len();
        if !unsure && !look.files.is_empty() && !fuse {
            self.lost.clear();
        }
    }

    fn remove_absent(&mut self, look: &Look, now: Timestamp, changes: &mut Changes) {
        let gone: BTreeSet<PathBuf> = self.good.keys().filter(|path| self.absent(path, look)).cloned().collect();
        self.absent_since.retain(|path, _| gone.contains(path));
        for path in &gone {
            self.absent_since.entry(path.clone()).or_insert(now);
        }
        if gone.is_empty() && self.lost.is_empty() {
            self.moved_from = None;
            self.held = None;
            self.confirmed = None;
            return;
        }
        if let Some(reason) = self.doubt(&gone, look) {
            return self.hold(reason, true, now);
        }
        self.held = None;
        self.lost.retain(|_| self.confirmed.is_none());
        let quiet = self.absent_since.values().max().is_none_or(|last| now.since(*last) >= ABSENT_MS);
        for path in &gone {
            if quiet || self.absent_since.get(path).is_some_and(|since| now.since(*since) >= TOGETHER_MS) {
                self.drop_good(path, changes);
            } else {
                changes.look_again = true;
            }
        }
    }

    /// Whether the file is really not there: a folder that cannot be listed does not say so.
    fn absent(&self, path: &Path, look: &Look) -> bool {
        !look.files.contains_key(path) && !look.unreadable.iter().any(|folder| path.starts_with(folder))
    }

    /// Why the absences are not taken for removals; none where they are what the owner wants.
    fn doubt(&self, gone: &BTreeSet<PathBuf>, look: &Look) -> Option<String> {
        if self.confirmed.as_ref().is_some_and(|confirmed| gone.is_subset(confirmed)) {
            return None;
        }
        let (missing, all) = (gone.len() + self.lost.len(), self.good.len() + self.lost.len());
        let what = format!("{missing} of {all} projects would be removed");
        let then = "nothing is removed until the files are back or `longshore confirm` says that it is meant";
        if let Some(before) = &self.moved_from {
            return Some(format!("another state folder than {} is watched now, and {what}; {then}", before.display()));
        }
        let seen = || gone.iter().all(|path| path.ancestors().any(|above| look.unlinked.contains(above)));
        if look.files.is_empty() && !(self.lost.is_empty() && seen()) {
            return Some(format!("the state folder is suddenly empty, and {what}; {then}"));
        }
        (missing > 2 && missing * 2 > all).then(|| format!("{what} at once; {then}"))
    }

    fn drop_good(&mut self, path: &Path, changes: &mut Changes) {
        self.disown(path);
        let before = self.good.remove(path);
        changes.replaced.extend(before.map(|before| (path.to_owned(), before)));
        self.absent_since.remove(path);
        changes.removed.push(path.to_owned());
        changes.answered.insert(path.to_owned());
    }

    /// What the path defined belongs to nobody now.
    fn disown(&mut self, path: &Path) {
        if let Some(good) = self.good.get(path) {
            self.owners.remove(&good.document.project.name);
        }
    }

    fn hold(&mut self, reason: String, confirmable: bool, now: Timestamp) {
        let since = self.held.as_ref().map_or(now, |held| held.since);
        self.held = Some(HeldView { reason, since, confirmable });
    }

    /// The owner says that what is absent is meant to be removed.
    pub fn confirm(&mut self) -> Result<(), String> {
        match &self.held {
            Some(held) if held.confirmable => {
                self.confirmed = Some(self.absent_since.keys().cloned().collect());
                Ok(())
            }
            Some(held) => Err(format!("this cannot be confirmed: {}", held.reason)),
            None => Err("nothing waits for a confirmation".to_owned()),
        }
    }

    /// Why the folder is not followed now.
    #[must_use]
    pub fn held(&self) -> Option<&HeldView> {
        self.held.as_ref()
    }

    /// Why the files may say more than what is in force; none: they do not.
    #[must_use]
    pub fn doubted(&self) -> Option<String> {
        let files = self.unread.union(&self.frozen).map(|path| path.display().to_string()).collect::<Vec<_>>();
        match (&self.held, files.as_slice(), self.lost.first()) {
            (Some(held), ..) => Some(held.reason.clone()),
            (None, [], None) => None,
            (None, [], Some(lost)) => Some(format!("nothing is known of the file of the project {lost}")),
            (None, files, _) => Some(format!("what {} says now is not in force", files.join(" and "))),
        }
    }

    /// A document in force.
    #[must_use]
    pub fn good(&self, path: &Path) -> Option<&GoodFile> {
        self.good.get(path).map(AsRef::as_ref)
    }

    /// Whether a project's document in force is older than its file.
    #[must_use]
    pub fn is_last_good(&self, path: &Path) -> bool {
        self.refused.contains_key(path) || self.frozen.contains(path)
    }

    /// What should be.
    #[must_use]
    pub fn desired(&mut self) -> Desired {
        self.desired_with(|_| {})
    }

    /// The same, with what was decided, and asked by hand, over it.
    pub(super) fn desired_with(&mut self, over: impl FnOnce(&mut Desired)) -> Desired {
        let mut desired = self.files();
        over(&mut desired);
        self.hold_name_clashes(&mut desired);
        desired
    }

    /// What the files say of a project.
    pub(super) fn files_of(&self, project: &ProjectName) -> Option<&Project> {
        self.good.get(self.owners.get(project)?).map(|good| &good.document.project)
    }

    /// What the files say, each for itself.
    pub(super) fn files(&self) -> Desired {
        let mut desired = Desired { kept: self.lost.clone(), ..Desired::default() };
        for good in self.good.values() {
            let project = &good.document.project;
            desired.projects.insert(project.name.clone(), project.clone());
        }
        desired
    }

    /// Two containers cannot have one name: the service that had it keeps it, the other one is held.
    fn hold_name_clashes(&mut self, desired: &mut Desired) {
        let mut names: BTreeMap<ContainerName, (ProjectName, ServiceName)> = BTreeMap::new();
        let before = std::mem::take(&mut self.names);
        for (name, owner) in wanted_names(desired) {
            let had = before.get(&name) == Some(&owner);
            names
                .entry(name)
                .and_modify(|first| {
                    if had {
                        first.clone_from(&owner);
                    }
                })
                .or_insert(owner);
        }
        for (name, owner) in wanted_names(desired) {
            let first = &names[&name];
            if *first == owner {
                continue;
            }
            let message = format!("the container name {name} is already taken by {}/{}", first.0, first.1);
            let Some(project) = desired.projects.get_mut(&owner.0) else { continue };
            let location = Location::whole(project.file.clone());
            let problem = Problem::new(Severity::Held, location, message)
                .with_key(format!("services.{}", owner.1))
                .with_hint("give it another `container_name`");
            if let Some(service) = project.services.get_mut(&owner.1) {
                service.holds.push(Hold { problem });
            }
        }
        self.names = names;
    }

    /// Everything that is wrong with the files, errors first.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let refused = self.refused.iter().flat_map(|(path, problems)| {
            let last_good = self.good.contains_key(path);
            problems.iter().cloned().map(move |problem| {
                let hint = problem.hint.clone();
                match (last_good, hint) {
                    (true, None) => problem.with_hint("its last good version stays in force"),
                    (true, Some(hint)) => problem.with_hint(format!("{hint}; its last good version stays in force")),
                    (false, _) => problem,
                }
            })
        });
        let documents = self.good.values().flat_map(|good| good.document.warnings.iter().cloned());
        let mut all: Vec<Problem> = refused
            .chain(self.conflicts.iter().cloned())
            .chain(documents)
            .chain(self.warnings.iter().cloned())
            .collect();
        all.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.location.cmp(&b.location)));
        all.dedup();
        all
    }
}

type Claims<'a> = BTreeMap<ProjectName, BTreeSet<&'a Path>>;

fn claims(look: &Look) -> Claims<'_> {
    let mut claims = Claims::new();
    for (path, read) in &look.files {
        if let Read::Good(file) = read {
            claims.entry(file.document.project.name.clone()).or_default().insert(path);
        }
    }
    claims
}

fn wanted_names(desired: &Desired) -> Vec<(ContainerName, (ProjectName, ServiceName))> {
    let mut names = Vec::new();
    for project in desired.projects.values() {
        for service in project.services.values() {
            for number in 1..=service.replicas {
                let of_replica = || ContainerName::of_replica(&project.name, &service.name, number);
                let name = service.container_name.clone().unwrap_or_else(of_replica);
                names.push((name, (project.name.clone(), service.name.clone())));
            }
        }
    }
    names
}

#[cfg(test)]
mod tests;
