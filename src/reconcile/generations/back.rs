//! Going back: a version is set aside, and the generation that was good before is run instead of it.

use std::path::PathBuf;

use super::{Acting, Aside, Book, Generation, Generations, ServiceKey};
use crate::model::{Digest, FailureAction, ImageReference, Project, ProjectName, Service, ServiceName, Timestamp};
use crate::plan::{self, Desired, Observed, SetAside, Version};
use crate::reconcile::by_hand;
use crate::reconcile::host::Change;
use crate::reconcile::reconciler::{Noted, Reconciler};
use crate::reconcile::view::Event;
use crate::spec;

impl Generations {
    /// Puts what is in force over what the files say.
    pub(super) fn substitute(&self, desired: &mut Desired, observed: &Observed) {
        let mut watched = Vec::new();
        for project in desired.projects.values_mut() {
            let names: Vec<ServiceName> = project.services.keys().cloned().collect();
            for name in names {
                let key = (project.name.clone(), name.clone());
                let none = Acting::default();
                let acting = self.acting.get(&key).unwrap_or(&none);
                let Some(service) = project.services.get_mut(&name) else { continue };
                self.automatic.apply(&key, service, acting.chosen.as_ref(), observed);
                let asked = service.clone();
                if self.go_back(project, &key, acting) {
                    watched.push((key, asked));
                }
            }
        }
        desired.watched = watched.into_iter().collect();
    }

    /// Whether another generation than the file's is run.
    fn go_back(&self, project: &mut Project, key: &ServiceKey, acting: &Acting) -> bool {
        let Some(aside) = acting.aside.as_ref().filter(|aside| aside.then == FailureAction::Rollback) else {
            return false;
        };
        let to = aside.to.and_then(|number| self.book(key)?.by_number(number));
        let Some((generation, old)) = to.and_then(|g| Some((g, self.sources.get(&g.source)?))) else { return false };
        let Some(service) = generation_of(generation, &old.document.project, &key.1) else { return false };
        project.services.insert(key.1.clone(), service);
        // What it joins and mounts may be defined no more.
        for (name, network) in &old.document.project.networks {
            project.networks.entry(name.clone()).or_insert_with(|| network.clone());
        }
        for (name, volume) in &old.document.project.volumes {
            project.volumes.entry(name.clone()).or_insert_with(|| volume.clone());
        }
        true
    }

    /// What the planner is to know: only what acts.
    pub(super) fn set_aside(&self) -> std::collections::BTreeMap<ServiceKey, SetAside> {
        let each = self.acting.iter().filter_map(|(key, acting)| {
            let aside = acting.aside.as_ref()?;
            let version = Version { hash: aside.hash.clone(), digest: aside.digest.clone()? };
            let set = SetAside { version, why: aside.why.clone(), then: aside.then, since: aside.since };
            Some((key.clone(), set))
        });
        each.collect()
    }
}

/// A generation as a service: as its file was, made from its own image.
fn generation_of(generation: &Generation, project: &Project, name: &ServiceName) -> Option<Service> {
    let mut service = project.services.get(name)?.clone();
    if service.image.as_ref() != Some(&generation.image) {
        service.image = Some(generation.image.clone());
        service.hash = spec::hash(&service);
    }
    service.pinned = Some(generation.version.digest.clone());
    Some(service)
}

/// What is asked of generations by hand, of one service or of all of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Back to this one, or to the last good one before the present.
    Back(Option<u32>),
    /// Try again what was set aside.
    Resume,
}

impl Reconciler {
    /// Works out anew what should be.
    pub(in crate::reconcile) fn refresh_desired(&mut self) {
        let (generations, observed, overrides) = (&self.generations, &self.observed, &self.overrides);
        self.desired = self.ledger.desired_with(|desired| {
            generations.substitute(desired, observed);
            by_hand::apply(overrides, desired);
        });
        self.memory.set_aside = self.generations.set_aside();
        self.unjoined = plan::unjoined(&self.desired);
        for (of, problem) in plan::circles(&self.desired) {
            self.unjoined.entry(of).or_default().push(problem);
        }
    }

    /// What is to be brought to disk now.
    pub(in crate::reconcile) fn generation_changes(&mut self) -> Vec<Change> {
        self.generations.saving(&self.memory.generations)
    }

    /// What was decided is on disk.
    pub(in crate::reconcile) fn recorded(&mut self, now: Timestamp) -> Noted {
        let mut noted = Noted::default();
        if self.generations.saved() && self.ready {
            self.refresh_desired();
            // What failed before may go well now.
            self.memory.retry_now();
            self.tell_problems(now, &mut noted);
        }
        noted
    }

    /// Versions that are set aside and that nobody asks for any more are forgotten: whatever is asked for now is tried.
    pub(in crate::reconcile) fn release_others(&mut self, now: Timestamp, noted: &mut Noted) {
        if !self.ready {
            return;
        }
        let asides = self.generations.books.iter().filter_map(|(key, book)| Some((key, book.aside.as_ref()?)));
        let over: Vec<(ServiceKey, String)> =
            asides.filter_map(|(key, aside)| Some((key.clone(), self.over(key, aside)?))).collect();
        for (key, why) in over {
            self.generations.write(&key).aside = None;
            let what = format!("{}/{}", key.0, key.1);
            noted.events.push(self.event(now, "generation.resumed", what, why.clone()));
            self.note_generation(&key, why, None, now);
        }
    }

    /// Why a version is not set aside any more.
    fn over(&self, key: &ServiceKey, aside: &Aside) -> Option<String> {
        let Some(asked) = self.asked_for(key) else {
            let unknown = self.desired.kept.contains(&key.0);
            return (!unknown).then(|| "no file defines it any more".to_owned());
        };
        let was = self.generations.service_in(&aside.source, &key.1);
        if asked.image.as_ref() != Some(&aside.image) {
            return Some("another image is asked for".to_owned());
        }
        // A file that cannot be read any more is compared by its hash.
        let same = was.map_or(asked.hash == aside.hash, |was| {
            let bare = |service: &Service| {
                let mut plain = Service { image: None, hash: aside.hash.clone(), ..spec::acts(service) };
                plain.taking.follow_ms = None;
                plain
            };
            bare(was) == bare(&asked)
        });
        if !same {
            return Some("its file says something else by now".to_owned());
        }
        let stands = plan::stands_for(&self.observed, &self.memory, &asked);
        match (stands, &aside.digest) {
            (Some(now), Some(was)) if now != was => {
                Some(format!("image {} stands for {} by now", aside.image, now.short()))
            }
            _ => None,
        }
    }

    /// The service as its file asks for it, with what was taken by itself.
    pub(super) fn asked_for(&self, key: &ServiceKey) -> Option<Service> {
        let mut files = self.ledger.files_of(&key.0)?.services.get(&key.1)?.clone();
        let chosen = self.generations.acting.get(key).and_then(|acting| acting.chosen.as_ref());
        self.generations.automatic.apply(key, &mut files, chosen, &self.observed);
        Some(files)
    }

    /// Sets a version aside; it is in force once it is on disk.
    pub(super) fn set_aside(&mut self, key: &ServiceKey, aside: Aside, now: Timestamp, noted: &mut Noted) {
        let what = format!("{}/{}", key.0, key.1);
        let text = told(&aside);
        self.generations.write(key).aside = Some(aside.clone());
        let kind = if aside.to.is_some() { "generation.rolled_back" } else { "generation.set_aside" };
        noted.events.push(self.event(now, kind, what, text.clone()));
        self.note_generation(key, text, Some(aside.why), now);
    }

    /// By hand: of one service, or of all services of a project. What was done, in a sentence for each.
    pub fn wish(
        &mut self,
        project: &ProjectName,
        service: Option<&ServiceName>,
        wish: &Wish,
        now: Timestamp,
    ) -> (Result<Vec<String>, String>, Noted) {
        let mut noted = Noted::default();
        let answer = self.wished(project, service, wish, now, &mut noted);
        (answer, noted)
    }

    fn wished(
        &mut self,
        project: &ProjectName,
        service: Option<&ServiceName>,
        wish: &Wish,
        now: Timestamp,
        noted: &mut Noted,
    ) -> Result<Vec<String>, String> {
        let known = self.ledger.files_of(project).map(|p| p.services.keys().cloned().collect::<Vec<_>>());
        let Some(known) = known else { return Err(format!("no state file defines a project {project}")) };
        if let Some(service) = service {
            if !known.contains(service) {
                return Err(format!("the state file of {project} defines no service {service}"));
            }
            return self.wish_one(&(project.clone(), service.clone()), wish, now, noted).map(|said| vec![said]);
        }
        if let (Wish::Back(Some(_)), true) = (wish, known.len() > 1) {
            return Err(format!(
                "each service of {project} counts its generations for itself; name one: {project}/{}",
                known.first().map_or("SERVICE", ServiceName::as_str)
            ));
        }
        let each = known.into_iter().map(|service| self.wish_one(&(project.clone(), service), wish, now, noted));
        let (done, not): (Vec<_>, Vec<_>) = each.collect::<Vec<_>>().into_iter().partition(Result::is_ok);
        let done: Vec<String> = done.into_iter().filter_map(Result::ok).collect();
        let not: Vec<String> = not.into_iter().filter_map(Result::err).collect();
        if done.is_empty() { Err(not.join("; ")) } else { Ok(done) }
    }

    fn wish_one(&mut self, key: &ServiceKey, wish: &Wish, now: Timestamp, noted: &mut Noted) -> Result<String, String> {
        let name = format!("{}/{}", key.0, key.1);
        match wish {
            Wish::Back(number) => self.back(key, &name, *number, now, noted),
            Wish::Resume => {
                let aside = self.generations.book(key).and_then(|book| book.aside.clone());
                let Some(aside) = aside else { return Err(format!("nothing is set aside of {name}")) };
                self.generations.write(key).aside = None;
                let text = "what its file says is tried again, as its owner asked".to_owned();
                noted.events.push(self.event(now, "generation.resumed", name.clone(), text.clone()));
                self.note_generation(key, text, None, now);
                self.memory.retry_now();
                Ok(format!("{name}: the file's version is tried again (it was set aside: {})", aside.why))
            }
        }
    }

    fn back(
        &mut self,
        key: &ServiceKey,
        name: &str,
        number: Option<u32>,
        now: Timestamp,
        noted: &mut Noted,
    ) -> Result<String, String> {
        let empty = Book::default();
        let book = self.generations.book(key).unwrap_or(&empty);
        let to = match number {
            Some(number) => book.by_number(number).ok_or_else(|| {
                format!("{name} has no generation {number}; `longshore history {name}` lists those that are kept")
            })?,
            None => book.before_present().ok_or_else(|| {
                format!("{name} has no good generation before the present one; see `longshore history {name}`")
            })?,
        };
        let file = self.generations.sources.get(&to.source);
        if file.and_then(|file| generation_of(to, &file.document.project, &key.1)).is_none() {
            return Err(format!(
                "generation {} of {name} was kept by another version of Longshore and cannot be read by this one",
                to.number
            ));
        }
        let to = to.number;
        let (asked, path) = self.asked_with_file(key).ok_or_else(|| format!("no state file defines {name}"))?;
        let Some(image) = asked.image.clone() else { return Err(format!("{name} names no image")) };
        let digest = plan::stands_for(&self.observed, &self.memory, &asked).cloned();
        let digest = self.made_from(key, &asked).or(digest);
        let generation = self.generations.book(key).and_then(|book| book.by_number(to)).map(|g| g.version.clone());
        let present = digest.clone().map(|digest| Version { hash: asked.hash.clone(), digest });
        if generation.is_some() && generation == present {
            return Err(format!(
                "generation {to} of {name} is what its file asks for; `longshore resume {name}` runs it where it is set aside"
            ));
        }
        let file = self.ledger.good(&path).cloned().ok_or_else(|| format!("no state file defines {name}"))?;
        let aside = Aside {
            hash: asked.hash,
            digest,
            image,
            source: self.generations.keep_source(&path, &file),
            why: "its owner went back".to_owned(),
            then: FailureAction::Rollback,
            since: now,
            by_hand: true,
            to: Some(to),
        };
        self.set_aside(key, aside, now, noted);
        Ok(format!("{name}: back to generation {to}; `longshore resume {name}` runs the file's version again"))
    }

    /// What the file asks for, and where.
    pub(super) fn asked_with_file(&self, key: &ServiceKey) -> Option<(Service, PathBuf)> {
        let path = self.ledger.files_of(&key.0)?.file.clone();
        Some((self.asked_for(key)?, path))
    }

    /// The manifest that a container of this service is made from: of the one that runs, else of any.
    pub(super) fn made_from(&self, key: &ServiceKey, service: &Service) -> Option<Digest> {
        let of = |c: &&crate::model::ObservedContainer| {
            c.spec.slot.project == key.0 && c.spec.slot.service == key.1 && c.spec.service.hash == service.hash
        };
        let fits = |c: &&crate::model::ObservedContainer| {
            service.pinned.as_ref().is_none_or(|pinned| *pinned == c.spec.image_digest)
        };
        let all = || self.observed.containers.values().filter(of).filter(fits);
        let follows = plan::follows(service).then(|| plan::stands_for(&self.observed, &self.memory, service)).flatten();
        let newest = all().find(|c| follows == Some(&c.spec.image_digest));
        let found = newest.or_else(|| all().find(|c| c.state.alive())).or_else(|| all().next());
        found.map(|c| c.spec.image_digest.clone())
    }

    pub(super) fn event_of(&mut self, key: &ServiceKey, kind: &'static str, text: String, now: Timestamp) -> Event {
        self.event(now, kind, format!("{}/{}", key.0, key.1), text)
    }
}

/// What is set aside, in words.
pub(super) fn told(aside: &Aside) -> String {
    let Aside { image, why, then, to, .. } = aside;
    match (to, then) {
        (Some(to), _) => format!("rolled back to generation {to}; the file's version ({image}) is set aside: {why}"),
        (None, FailureAction::Rollback) => {
            format!("the file's version ({image}) is set aside, and there is no good generation to go back to: {why}")
        }
        (None, FailureAction::Pause | FailureAction::Continue) => {
            format!("the file's version ({image}) is set aside, and replaces nothing more: {why}")
        }
    }
}

/// The image's name without its tag.
pub(super) fn repository(image: &ImageReference) -> String {
    format!("{}/{}", image.registry(), image.repository())
}
