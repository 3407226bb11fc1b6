//! Newer images that are taken by themselves (`x-longshore: update`): what registries are asked, what is taken, and what waits for its
//! window.
//!
//! | policy | in the window | outside of it |
//! |---|---|---|
//! | `digest` | the planner asks, as for `pull_policy: every_…` | asked here, without fetching: the status says what waits |
//! | a range of versions | the highest tag that is higher than the present one is taken | the same question; it waits |
//!
//! What is taken is recorded first, so that it is the same after a restart with no network. A version is never followed by a lower one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Chosen, ServiceKey, back};
use crate::model::{
    AutoUpdate, Choice, Digest, ImageReference, Moment, Platform, Release, Releases, Service, Timestamp, highest,
    release,
};
use crate::plan::Observed;
use crate::reconcile::host::ActionError;
use crate::reconcile::reconciler::{Noted, Reconciler};
use crate::spec;

/// After a question that failed, the next one; doubled each time, and never later than the interval.
const AGAIN_MS: u64 = 10_000;
/// The window is looked at this often, for a clock that is put right.
const LOOK_MS: u64 = 60_000;

/// What a registry is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Whether a name stands for something else than what is here.
    Moved {
        /// The name.
        image: ImageReference,
        /// For which platform.
        platform: Option<Platform>,
    },
    /// All tags of an image's repository.
    Tags {
        /// The image.
        image: ImageReference,
    },
}

impl Question {
    const fn image(&self) -> &ImageReference {
        match self {
            Self::Moved { image, .. } | Self::Tags { image } => image,
        }
    }
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// What the name stands for, where that is not here.
    Moved(Option<Digest>),
    /// The tags.
    Tags(Vec<String>),
}

/// What is known of a service's registry.
#[derive(Debug, Clone)]
struct Asked {
    question: Question,
    at: Timestamp,
    answer: Option<Answer>,
    failure: Option<(String, u32, Timestamp)>,
    under_way: bool,
}

/// What registries said, and which windows are open.
#[derive(Debug, Default)]
pub(super) struct Automatic {
    moment: Moment,
    asked: BTreeMap<ServiceKey, Asked>,
}

impl Automatic {
    /// The service as it is run: with the version that was taken, and following its tag while its window is open.
    pub(super) fn apply(&self, key: &ServiceKey, service: &mut Service, chosen: Option<&Chosen>, observed: &Observed) {
        let Some(auto) = service.taking.auto.clone() else { return };
        match &auto.choice {
            Choice::Digest if self.open(&auto) || mixed(key, service, observed) => {
                service.taking.follow_ms = Some(auto.interval_ms);
            }
            Choice::Digest => {}
            Choice::Semver(range) => {
                let Some(chosen) = chosen.filter(|chosen| fits(chosen, service, range)) else { return };
                service.image = Some(chosen.image.clone());
                service.hash = spec::hash(service);
            }
        }
    }

    fn open(&self, auto: &AutoUpdate) -> bool {
        auto.window.is_none_or(|window| window.open(self.moment))
    }
}

/// Whether its replicas are made from several images: what was begun in the window is brought to its end.
fn mixed(key: &ServiceKey, service: &Service, observed: &Observed) -> bool {
    let mine = observed.containers.values().filter(|c| {
        c.spec.slot.project == key.0 && c.spec.slot.service == key.1 && c.spec.service.hash == service.hash
    });
    mine.map(|c| &c.spec.image_digest).collect::<BTreeSet<_>>().len() > 1
}

/// Whether what was taken is still what the file asks for: of its repository, in its range, and higher than what it names.
fn fits(chosen: &Chosen, service: &Service, range: &Releases) -> bool {
    let Some(image) = &service.image else { return false };
    let version = chosen.image.tag().and_then(release);
    let named = image.tag().and_then(release);
    back::repository(image) == back::repository(&chosen.image)
        && version.is_some_and(|version| range.matches(&version) && named.is_none_or(|named| version > named))
}

impl Reconciler {
    /// What time it is by the host's clock; what is to be asked now, and when to come again.
    pub(in crate::reconcile) fn automatic(
        &mut self,
        moment: Moment,
        now: Timestamp,
    ) -> (Vec<(ServiceKey, Question)>, Noted, Option<Timestamp>) {
        let mut noted = Noted::default();
        let services = self.automatic_services();
        let open = |at: Moment| -> Vec<bool> {
            services.iter().map(|(_, _, auto)| auto.window.is_none_or(|window| window.open(at))).collect()
        };
        let other = open(self.generations.automatic.moment) != open(moment);
        self.generations.automatic.moment = moment;
        if other {
            self.refresh_desired();
        }
        let known: BTreeSet<&ServiceKey> = services.iter().map(|(key, ..)| key).collect();
        self.generations.automatic.asked.retain(|key, _| known.contains(key));
        let (mut questions, mut wake) = (Vec::new(), None::<Timestamp>);
        let mut at = |time: Timestamp| wake = Some(wake.map_or(time, |earlier| earlier.min(time)));
        for (key, service, auto) in &services {
            if let Some(window) = auto.window {
                let minutes = u64::from(window.opens_in(moment)).max(1);
                at(now.plus_ms((minutes * 60_000).min(LOOK_MS)));
            }
            if let Some(question) = self.due(key, service, auto, now, &mut at) {
                questions.push((key.clone(), question));
            }
            self.take(key, service, auto, now, &mut noted);
        }
        (questions, noted, wake)
    }

    /// The services that take something by themselves, as their files have them.
    fn automatic_services(&self) -> Vec<(ServiceKey, Service, AutoUpdate)> {
        let mut found = Vec::new();
        for (project, desired) in &self.desired.projects {
            let Some(file) = self.ledger.files_of(project) else { continue };
            for name in desired.services.keys() {
                let Some(service) = file.services.get(name) else { continue };
                if let Some(auto) = &service.taking.auto {
                    found.push(((project.clone(), name.clone()), service.clone(), auto.clone()));
                }
            }
        }
        found
    }

    fn due(
        &mut self,
        key: &ServiceKey,
        service: &Service,
        auto: &AutoUpdate,
        now: Timestamp,
        at: &mut impl FnMut(Timestamp),
    ) -> Option<Question> {
        let image = service.image.clone()?;
        let question = match auto.choice {
            Choice::Digest if self.generations.automatic.open(auto) => {
                self.generations.automatic.asked.remove(key);
                return None;
            }
            Choice::Digest => Question::Moved { image, platform: service.platform.clone() },
            Choice::Semver(_) => Question::Tags { image },
        };
        let same = self.generations.automatic.asked.get(key).filter(|asked| asked.question == question);
        if let Some(asked) = same {
            let next = asked.failure.as_ref().map_or(asked.at.plus_ms(auto.interval_ms), |failure| failure.2);
            if asked.under_way {
                return None;
            }
            if next > now {
                at(next);
                return None;
            }
        }
        let (answer, failure) = same.map_or((None, None), |asked| (asked.answer.clone(), asked.failure.clone()));
        let asked = Asked { question: question.clone(), at: now, answer, failure, under_way: true };
        self.generations.automatic.asked.insert(key.clone(), asked);
        Some(question)
    }

    /// A registry answered, or did not.
    pub(in crate::reconcile) fn answered(
        &mut self,
        key: &ServiceKey,
        question: &Question,
        result: Result<Answer, ActionError>,
        now: Timestamp,
    ) -> Noted {
        let mut noted = Noted::default();
        let interval = self.generations.automatic.asked.get(key).map(|asked| asked.question == *question);
        if interval != Some(true) {
            return noted;
        }
        let longest = self
            .automatic_services()
            .into_iter()
            .find(|(of, ..)| of == key)
            .map_or(AGAIN_MS, |(_, _, auto)| auto.interval_ms);
        let mut told = None;
        if let Some(asked) = self.generations.automatic.asked.get_mut(key) {
            asked.under_way = false;
            match result {
                Ok(answer) => (asked.answer, asked.failure) = (Some(answer), None),
                Err(error) => {
                    let attempts = asked.failure.as_ref().map_or(0, |failure| failure.1).saturating_add(1);
                    let pause = AGAIN_MS.saturating_mul(1 << attempts.min(16).saturating_sub(1)).min(longest);
                    let next = now.plus_ms(pause.max(error.retry_after_ms.unwrap_or(0)));
                    if attempts == 1 {
                        told = Some(format!(
                            "the registry of {} could not be asked for newer images, and nothing changes: {}",
                            question.image(),
                            error.message
                        ));
                    }
                    asked.failure = Some((error.message, attempts, next));
                }
            }
        }
        if let Some(text) = told {
            noted.events.push(self.event_of(key, "update.failed", text, now));
        }
        noted
    }

    /// The version that is there and higher than the present one.
    fn newer(&self, key: &ServiceKey, service: &Service, range: &Releases) -> Option<ImageReference> {
        let Some(Answer::Tags(tags)) = self.generations.automatic.asked.get(key)?.answer.as_ref() else { return None };
        let image = service.image.as_ref()?;
        let chosen = self.generations.book(key).and_then(|book| book.chosen.as_ref());
        let taken = chosen.filter(|chosen| fits(chosen, service, range)).and_then(|c| c.image.tag()).and_then(release);
        let named = image.tag().and_then(release);
        let above: Option<Release> = taken.max(named);
        highest(tags.iter().map(String::as_str), range, above.as_ref()).and_then(|tag| image.tagged(tag))
    }

    fn take(&mut self, key: &ServiceKey, service: &Service, auto: &AutoUpdate, now: Timestamp, noted: &mut Noted) {
        let Choice::Semver(range) = &auto.choice else { return };
        let Some(image) = self.newer(key, service, range).filter(|_| self.generations.automatic.open(auto)) else {
            return;
        };
        let text = format!("{image} is there, the highest version in {range}; it is taken");
        self.generations.write(key).chosen = Some(Chosen { image, at: now });
        noted.events.push(self.event_of(key, "update.taken", text.clone(), now));
        self.note_generation(key, text, None, now);
    }

    /// What there is to say of newer images of a service.
    pub(in crate::reconcile) fn update_note(&self, key: &ServiceKey) -> Option<String> {
        let service = self.ledger.files_of(&key.0)?.services.get(&key.1)?;
        let auto = service.taking.auto.as_ref()?;
        let asked = self.generations.automatic.asked.get(key)?;
        if let Some((error, attempts, _)) = &asked.failure {
            return Some(format!(
                "the registry could not be asked for newer images, and nothing changes (attempt {attempts}: {error})"
            ));
        }
        let window = auto.window.filter(|_| !self.generations.automatic.open(auto))?;
        let what = match (&auto.choice, &asked.answer) {
            (Choice::Semver(range), _) => self.newer(key, service, range)?.to_string(),
            (Choice::Digest, Some(Answer::Moved(Some(digest)))) => {
                format!("a newer image of {} ({})", asked.question.image(), digest.short())
            }
            (Choice::Digest, _) => return None,
        };
        Some(format!("{what} is there; it waits for the window {window}"))
    }
}
