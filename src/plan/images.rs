//! The rules for a service's image: which manifest its containers are made from, and when its registry is asked.
//!
//! | `pull_policy` | the registry is asked | a new digest replaces what runs |
//! |---|---|---|
//! | `never` | never | no |
//! | `missing` | when the image is not here | no |
//! | `always` | when a container is made, when the file changed, once after the daemon's start | yes |
//! | `daily`, `weekly`, `every_…` | when the last question is that old | yes |
//!
//! `x-longshore: update` with the policy `digest` is like `every_…`, while its window is open.
//!
//! A reference with a digest cannot move: it is never asked about. A registry that does not answer stops nothing that
//! can be had from what is here.
//!
//! A service that is pinned is made from one manifest, whatever the name stands for; its registry is asked only where that is not here.
//!
//! Images that a service mounts are had in the same way, when a container is made. It keeps what their names stood for then: a
//! name that moves replaces nothing, and is not asked about while the container is there.

use std::collections::BTreeMap;

use super::memory::Variant;
use super::{Failure, ImageFacts, Memory, Observed, Planner, WaitingOn};
use crate::model::{
    Action, Digest, ImageReference, Key, ObservedContainer, ProjectName, PullPolicy, Service, ServiceName, Slot,
    Timestamp,
};

/// Under `pull_policy: always` a registry is not asked about the same image more often than this.
pub(super) const FRESH_MS: u64 = 60_000;
/// No interval is shorter.
const SHORTEST_MS: u64 = 1_000;

/// Whether the service is to run what its tag stands for now. Others keep what they were made from.
#[must_use]
pub fn follows(service: &Service) -> bool {
    service.image.as_ref().is_some_and(|image| asks(service, image))
}

/// Whether the registry is asked what the name stands for though something of that name is here.
fn asks(service: &Service, image: &ImageReference) -> bool {
    let tag = image.digest().is_none();
    let pinned = pin(service, image).is_some();
    tag && !pinned && matches!(policy(service), PullPolicy::Always | PullPolicy::Every { .. })
}

/// When its registry is asked: as its file says, or while it takes by itself what its tag stands for.
fn policy(service: &Service) -> PullPolicy {
    service.taking.follow_ms.map_or(service.pull, |ms| PullPolicy::Every { ms })
}

/// The one manifest that it is made from, where it is pinned.
fn pin<'s>(service: &'s Service, image: &ImageReference) -> Option<&'s Digest> {
    service.pinned.as_ref().filter(|_| service.image.as_ref() == Some(image))
}

/// The image for the service's platform.
fn variant(observed: &Observed, service: &Service, image: &ImageReference) -> Variant {
    let platform = service.platform.as_ref().map_or_else(|| observed.machine.clone(), ToString::to_string);
    (image.clone(), platform)
}

/// The service's image as it is here, if it is here for the service's platform.
pub(super) fn here<'a>(planner: &Planner<'a>, service: &Service) -> Option<&'a ImageFacts> {
    found(planner, service, service.image.as_ref()?)
}

/// What the service's image stands for, as far as that is here.
#[must_use]
pub fn stands_for<'a>(observed: &'a Observed, memory: &Memory, service: &Service) -> Option<&'a Digest> {
    seen(observed, memory, service, service.image.as_ref()?).map(|facts| &facts.digest)
}

/// An image as it is here for the service's platform. Where the name stands for another platform's now, because another service asked
/// for that, it is what the name stood for before.
fn found<'a>(planner: &Planner<'a>, service: &Service, image: &ImageReference) -> Option<&'a ImageFacts> {
    seen(planner.facts.observed, planner.facts.memory, service, image)
}

fn seen<'a>(
    observed: &'a Observed,
    memory: &Memory,
    service: &Service,
    image: &ImageReference,
) -> Option<&'a ImageFacts> {
    let images = &observed.images;
    if let Some(digest) = pin(service, image) {
        return images.values().find(|facts| facts.digest == *digest);
    }
    let variant = variant(observed, service, image);
    let named = images.get(image)?;
    if named.platform == variant.1 {
        return Some(named);
    }
    let meant = memory.meant.get(&variant)?;
    images.values().find(|facts| facts.digest == *meant)
}

/// Whether the service's tag moved to another digest than the container was made from, and that is here; or it is pinned to another.
pub(super) fn moved(planner: &Planner<'_>, service: &Service, container: &ObservedContainer) -> bool {
    if let Some(pinned) = &service.pinned {
        return *pinned != container.spec.image_digest;
    }
    let facts = here(planner, service).filter(|_| follows(service));
    facts.is_some_and(|facts| facts.digest != container.spec.image_digest)
}

pub(super) fn moved_reason(image: &ImageReference, from: &Digest, to: &Digest) -> String {
    format!("image {image} moved from {} to {}", from.short(), to.short())
}

/// The digest to create from, or the step that brings it.
pub(super) fn resolved<'a>(
    planner: &mut Planner<'a>,
    slot: &Slot,
    service: &Service,
    image: &ImageReference,
) -> Option<&'a Digest> {
    let Some(facts) = found(planner, service, image) else {
        if service.pull == PullPolicy::Never {
            planner.wait(slot, WaitingOn::NeverPulled(image.clone()), None);
        } else {
            let wanted = pin(service, image).map_or_else(|| image.clone(), |digest| image.at(digest));
            planner.step(slot, pull(&wanted, service, false), "the image is not here".to_owned());
        }
        return None;
    };
    let going = |a: &Action| matches!(a, Action::RemoveImage { digest, .. } if *digest == facts.digest);
    if let Some(action) = planner.facts.under_way.values().find(|a| going(a)) {
        let verb = action.verb();
        planner.wait(slot, WaitingOn::Step(verb), None);
        return None;
    }
    let answered = match due(planner, slot, service, image, true) {
        Due::Now => !ask(planner, slot, service, image),
        Due::Later | Due::No => true,
    };
    answered.then_some(&facts.digest)
}

/// The digests of the images that the service mounts, or the steps that bring what is missing, all at once.
pub(super) fn mounted(
    planner: &mut Planner<'_>,
    slot: &Slot,
    service: &Service,
) -> Option<BTreeMap<ImageReference, Digest>> {
    let each = service.mounted_images().into_iter().map(|image| (image, resolved(planner, slot, service, image)));
    let all: Vec<_> = each.collect();
    all.into_iter().map(|(image, digest)| Some((image.clone(), digest?.clone()))).collect()
}

/// Asks about the image of a container that is as the file says, where it is time to. Where the name stands for another
/// image by now and the service does not follow it, that is told.
pub(super) fn look_after(
    planner: &mut Planner<'_>,
    slot: &Slot,
    service: &Service,
    image: &ImageReference,
    container: &ObservedContainer,
) {
    let loose = here(planner, service).filter(|_| service.pinned.is_none());
    let other = loose.filter(|facts| facts.digest != container.spec.image_digest && !follows(service));
    if let Some(digest) = other.map(|facts| facts.digest.clone()) {
        planner.wait(slot, WaitingOn::Recreation { image: image.clone(), digest }, None);
    }
    if due(planner, slot, service, image, false) == Due::Now {
        ask(planner, slot, service, image);
    }
}

/// Asks about the image of a version that is set aside, where it is time to: it may be another one by now.
pub(super) fn watch(planner: &mut Planner<'_>, of: &(ProjectName, ServiceName), service: &Service) {
    let Some(image) = &service.image else { return };
    let slot = Slot { project: of.0.clone(), service: of.1.clone(), number: 1 };
    if due(planner, &slot, service, image, false) == Due::Now {
        ask(planner, &slot, service, image);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Now,
    /// The planner is woken when it is time.
    Later,
    No,
}

fn due(planner: &mut Planner<'_>, slot: &Slot, service: &Service, image: &ImageReference, making: bool) -> Due {
    if !asks(service, image) {
        return Due::No;
    }
    let memory = planner.facts.memory;
    let variant = variant(planner.facts.observed, service, image);
    let (wanted, pause) = match policy(service) {
        PullPolicy::Every { ms } => (true, ms.max(SHORTEST_MS)),
        PullPolicy::Always => (making || !memory.heard(slot, &variant), FRESH_MS),
        PullPolicy::Missing | PullPolicy::Never => (false, 0),
    };
    let at = memory.asked.get(&variant).map_or(Timestamp::default(), |asked| asked.plus_ms(pause));
    match wanted {
        false => Due::No,
        true if at <= planner.facts.now => Due::Now,
        true => {
            planner.plan.wake(at);
            Due::Later
        }
    }
}

/// Asks the registry. Whether whoever needs the answer has to wait for it: after an attempt that failed, nobody does.
fn ask(planner: &mut Planner<'_>, slot: &Slot, service: &Service, image: &ImageReference) -> bool {
    let action = pull(image, service, true);
    let failures = &planner.facts.memory.failures;
    let Some(failure) = failures.get(&Key::Image(image.clone())).filter(|f| f.verb == action.verb()) else {
        planner.step(slot, action, "pull_policy asks for the newest".to_owned());
        return true;
    };
    let Failure { error, attempts, retry_at, .. } = failure.clone();
    let until = (retry_at > planner.facts.now).then_some(retry_at);
    planner.wait(slot, WaitingOn::Refresh { image: image.clone(), error, attempts }, until);
    if until.is_none() {
        // What blocks this attempt, another pull or their number, ends by itself and wakes the planner.
        let _later = planner.attempt(None, action, "pull_policy asks for the newest, again".to_owned());
    }
    false
}

fn pull(image: &ImageReference, service: &Service, refresh: bool) -> Action {
    Action::Pull { image: image.clone(), platform: service.platform.clone(), refresh }
}
