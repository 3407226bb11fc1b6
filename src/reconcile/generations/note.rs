//! Which version of each service is asked for, and how it goes: noted at every look, so that nothing is missed by a daemon that was
//! not there.

use super::{Aside, Generation, Outcome, ServiceKey};
use crate::model::{CauseKind, FailureAction, Service, Timestamp};
use crate::plan::{Rollout, Version};
use crate::reconcile::reconciler::{Noted, Reconciler};
use crate::spec;

impl Reconciler {
    /// After a plan was made.
    pub(in crate::reconcile) fn note_generations(&mut self, now: Timestamp, noted: &mut Noted) {
        if !self.ready {
            return;
        }
        let services: Vec<(ServiceKey, Service)> = self
            .desired
            .projects
            .values()
            .flat_map(|p| p.services.values().map(|service| ((p.name.clone(), service.name.clone()), service.clone())))
            .collect();
        for (key, service) in &services {
            if let Some(digest) = self.made_from(key, service) {
                self.asked(key, service, &Version { hash: service.hash.clone(), digest }, now);
            }
        }
        for (key, service) in &services {
            match self.verdict(key, service) {
                Some(Rollout::Proven(version)) => self.proven(key, &version, now, noted),
                Some(Rollout::UnderWay { .. }) | None => {}
                Some(Rollout::Failed { version, why, then }) => {
                    self.asked(key, service, &version, now);
                    self.version_failed(key, &version, &why, then, now, noted);
                }
            }
        }
        self.memory.good = self.generations.good_images();
    }

    /// A version is asked for: a new generation, or one that is known.
    fn asked(&mut self, key: &ServiceKey, service: &Service, version: &Version, now: Timestamp) {
        let book = self.generations.book(key);
        let known = book.and_then(|book| book.of(version)).map(|generation| generation.number);
        let present = book.and_then(|book| book.present);
        let back = self.generations.acting.get(key).and_then(|acting| acting.aside.as_ref()).and_then(|a| a.to);
        if known.is_some() && known == present {
            if back.is_none() {
                self.keep_up(key, service, version);
            }
            return;
        }
        let Some(image) = service.image.clone() else { return };
        if known.is_none() && back.is_some() {
            // What is run instead is known; nothing else is asked for.
            return;
        }
        let number = match known {
            Some(number) => number,
            None => {
                let Some(generation) = self.generation(key, service, version, now) else { return };
                let number = generation.number;
                let book = self.generations.write(key);
                book.last = number;
                book.generations.push(Generation { image, ..generation });
                number
            }
        };
        let keep = service.taking.keep.unwrap_or(self.generations.keep);
        let book = self.generations.write(key);
        for generation in &mut book.generations {
            let left = present == Some(generation.number) && generation.number != number;
            if left && generation.outcome == Outcome::UnderWay {
                generation.outcome = Outcome::Replaced(now);
            }
            if generation.number == number && back != Some(number) {
                generation.at = now;
                if !generation.outcome.good() {
                    generation.outcome = Outcome::UnderWay;
                }
            }
        }
        book.present = Some(number);
        book.trim(keep);
        self.keep_up(key, service, version);
    }

    fn generation(
        &mut self,
        key: &ServiceKey,
        service: &Service,
        version: &Version,
        now: Timestamp,
    ) -> Option<Generation> {
        let path = self.ledger.files_of(&key.0)?.file.clone();
        let file = self.ledger.good(&path)?.clone();
        let line = spec::line(&path, &file.source.text, &key.1);
        let (number, why) = {
            let book = self.generations.book(key);
            let before = book.and_then(|book| book.present.and_then(|number| book.by_number(number)));
            let why = match before {
                None => "the file came into force".to_owned(),
                Some(before) if before.version.hash == version.hash => format!(
                    "image {} moved from {} to {}",
                    before.image,
                    before.version.digest.short(),
                    version.digest.short()
                ),
                Some(_) if self.took(key, service) => {
                    format!(
                        "{} was taken by itself",
                        service.image.as_ref().map_or_else(String::new, ToString::to_string)
                    )
                }
                Some(_) => "the file was edited".to_owned(),
            };
            (book.map_or(0, |book| book.last).saturating_add(1), why)
        };
        let image = service.image.clone()?;
        let source = self.generations.keep_source(&path, &file);
        let version = version.clone();
        Some(Generation { number, at: now, file: path, line, why, version, image, source, outcome: Outcome::UnderWay })
    }

    /// Whether the image is one that was taken by itself.
    fn took(&self, key: &ServiceKey, service: &Service) -> bool {
        let acting = self.generations.acting.get(key).and_then(|acting| acting.chosen.as_ref());
        acting.is_some_and(|chosen| service.image.as_ref() == Some(&chosen.image))
    }

    /// What is no part of a version may change in the file: the generation is then as the file says now.
    fn keep_up(&mut self, key: &ServiceKey, service: &Service, version: &Version) {
        if service.pinned.is_some() {
            return;
        }
        let of = self.generations.book(key).and_then(|book| book.of(version));
        let kept = of.and_then(|generation| self.generations.service_in(&generation.source, &key.1));
        let Some(kept) = kept else { return };
        let Some(file) = self.ledger.files_of(&key.0) else { return };
        let now = file.services.get(&key.1);
        if now.is_none_or(|now| spec::acts(now) == spec::acts(kept)) {
            return;
        }
        let path = file.file.clone();
        let Some(file) = self.ledger.good(&path).cloned() else { return };
        let source = self.generations.keep_source(&path, &file);
        let line = spec::line(&path, &file.source.text, &key.1);
        if let Some(generation) = self.generations.write(key).of_mut(version) {
            (generation.source, generation.file, generation.line) = (source, path, line);
        }
    }

    fn proven(&mut self, key: &ServiceKey, version: &Version, now: Timestamp, noted: &mut Noted) {
        let known = self.generations.book(key).and_then(|book| book.of(version));
        let aside = self.generations.book(key).and_then(|book| book.aside.as_ref());
        let aside = aside.is_some_and(|a| a.hash == version.hash && a.digest.as_ref() == Some(&version.digest));
        if aside || known.is_none_or(|generation| generation.outcome.good()) {
            return;
        }
        let Some(generation) = self.generations.write(key).of_mut(version) else { return };
        generation.outcome = Outcome::Good(now);
        let text = format!("generation {} is good", generation.number);
        noted.events.push(self.event_of(key, "generation.good", text, now));
    }

    /// Too many of a version's containers failed.
    fn version_failed(
        &mut self,
        key: &ServiceKey,
        version: &Version,
        why: &str,
        then: FailureAction,
        now: Timestamp,
        noted: &mut Noted,
    ) {
        let Some(book) = self.generations.book(key) else { return };
        let aside = book.aside.as_ref();
        // Told once; and where one went back already, one does not go back further by oneself.
        let known = aside.is_some_and(|a| a.hash == version.hash && a.digest.as_ref() == Some(&version.digest));
        let Some(generation) = book.of(version) else { return };
        let (number, told) = (generation.number, matches!(generation.outcome, Outcome::Failed { .. }));
        let gone_back = aside.is_some_and(|aside| aside.to == Some(number));
        let to = book.last_good(Some(version)).map(|generation| generation.number);
        if !told {
            if let Some(generation) = self.generations.write(key).of_mut(version) {
                generation.outcome = Outcome::Failed { at: now, why: why.to_owned() };
            }
            let text = format!("generation {number} failed: {why}");
            noted.events.push(self.event_of(key, "generation.failed", text.clone(), now));
            self.note_generation(key, text, None, now);
        }
        if known || gone_back || then == FailureAction::Continue {
            return;
        }
        let Some((asked, path)) = self.asked_with_file(key) else { return };
        let (Some(image), Some(file)) = (asked.image, self.ledger.good(&path).cloned()) else { return };
        let aside = Aside {
            hash: version.hash.clone(),
            digest: Some(version.digest.clone()),
            image,
            source: self.generations.keep_source(&path, &file),
            why: why.to_owned(),
            then,
            since: now,
            by_hand: false,
            to: to.filter(|_| then == FailureAction::Rollback),
        };
        self.set_aside(key, aside, now, noted);
    }

    /// Services that are in no file and of which nothing is here.
    pub(in crate::reconcile) fn unknown_books(&self) -> Vec<ServiceKey> {
        let known = |(project, service): &&ServiceKey| {
            self.desired.kept.contains(project)
                || self.desired.projects.get(project).is_some_and(|p| p.services.contains_key(service))
                || self
                    .observed
                    .containers
                    .values()
                    .any(|c| c.spec.slot.project == *project && c.spec.slot.service == *service)
        };
        self.generations.books.keys().filter(|key| !known(key)).cloned().collect()
    }

    /// One more cause in the chain of `why`.
    pub(super) fn note_generation(&mut self, key: &ServiceKey, text: String, reason: Option<String>, now: Timestamp) {
        let reason = reason.filter(|reason| !text.contains(reason.as_str()));
        self.chronicle.generation(key, CauseKind::Version, text, reason, now);
    }
}
