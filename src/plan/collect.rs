//! Which image is removed when the disk is full: one at a time, the one that was not used for longest.
//!
//! Never one that a container is made from or mounts, or that a service names, or that a service ran before its present one; never
//! one that is pinned, young, or under way. After each removal the disk is looked at anew, so that no more is removed than
//! is needed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Desired, Memory, Observed, Planner};
use crate::model::{Action, Digest, ImageReference, Key, Service};

/// The disk fills up without an event: it is looked at this often.
const LOOK_MS: u64 = 300_000;
/// When nothing could be removed, this often.
const LOOK_AGAIN_MS: u64 = 3_600_000;

/// The disk is full and no image may be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crowded {
    /// How many percent are in use.
    pub percent: u64,
    /// The limit that is exceeded.
    pub limit: u8,
    /// Images that somebody uses, or keeps.
    pub in_use: usize,
    /// Images that are only too young.
    pub young: usize,
}

pub(super) fn plan(planner: &mut Planner<'_>) {
    let facts = planner.facts;
    let policy = facts.collect;
    let Some(disk) = facts.observed.disk.as_ref().filter(|_| policy.enabled) else { return };
    planner.plan.wake(facts.now.plus_ms(LOOK_MS));
    let removing = |a: &Action| matches!(a, Action::RemoveImage { .. });
    if !facts.memory.collecting || facts.under_way.values().any(removing) {
        return;
    }
    let candidates = Candidates::of(planner);
    for (image, digest, idle_ms, bytes) in &candidates.free {
        let action = Action::RemoveImage { image: (*image).clone(), digest: (*digest).clone() };
        let reason = format!(
            "the disk is {} % full (removal starts at {} %); not used for {}; takes up to {} MB",
            disk.percent(),
            policy.start,
            age(*idle_ms),
            bytes / 1_000_000
        );
        if planner.attempt(None, action, reason).is_ok() {
            return;
        }
    }
    // Below the mark at which it begins there is no need to complain that it did not get further.
    if disk.percent() >= u64::from(policy.start) {
        planner.plan.wake(facts.now.plus_ms(LOOK_AGAIN_MS));
        let (in_use, young) = (candidates.in_use, candidates.young);
        planner.plan.crowded = Some(Crowded { percent: disk.percent(), limit: policy.start, in_use, young });
    }
}

struct Candidates<'a> {
    /// Names that may go, the first one first: with its digest, how long it is idle, and what it takes.
    free: Vec<(&'a ImageReference, &'a Digest, u64, u64)>,
    in_use: usize,
    young: usize,
}

impl<'a> Candidates<'a> {
    fn of(planner: &Planner<'a>) -> Self {
        let facts = planner.facts;
        let mut kept = in_use(facts.desired, facts.observed, facts.memory);
        let planned = planner.plan.steps.iter().map(|step| &step.action);
        for action in facts.under_way.values().chain(planned) {
            if let Action::Create { spec } | Action::Start { spec, .. } | Action::Update { spec } = action {
                kept.extend(spec.manifests());
            }
        }
        // A manifest with several names is as young as the youngest of them: removing one name would free nothing.
        let mut idle: BTreeMap<&Digest, u64> = BTreeMap::new();
        for image in facts.observed.images.values() {
            idle.entry(&image.digest).and_modify(|ms| *ms = image.idle_ms.min(*ms)).or_insert(image.idle_ms);
        }
        let mut found = Self { free: Vec::new(), in_use: 0, young: 0 };
        for (name, image) in &facts.observed.images {
            let idle_ms = idle.get(&image.digest).copied().unwrap_or(0);
            if kept.contains(&image.digest) || facts.under_way.contains_key(&Key::Image(name.clone())) {
                found.in_use += 1;
            } else if idle_ms < facts.collect.min_age_ms {
                found.young += 1;
            } else {
                found.free.push((name, &image.digest, idle_ms, image.disk_bytes));
            }
        }
        found.free.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.cmp(b.0)));
        found
    }
}

/// The manifests that somebody needs: containers, services, what services ran before, and the owner who pinned them.
#[must_use]
pub fn in_use<'a>(desired: &'a Desired, observed: &'a Observed, memory: &'a Memory) -> BTreeSet<&'a Digest> {
    let services = || desired.projects.values().flat_map(|project| project.services.values());
    let pinned = services().filter_map(|service| service.pinned.as_ref());
    let named: BTreeSet<&ImageReference> = services().flat_map(Service::images).collect();
    let by_name =
        observed.images.iter().filter(|(name, image)| image.pinned || named.contains(name)).map(|(_, i)| &i.digest);
    let made = observed.containers.values().flat_map(|container| container.spec.manifests());
    let kept = memory.generations.values().chain(memory.good.values()).flatten();
    made.chain(by_name).chain(pinned).chain(kept).collect()
}

fn age(ms: u64) -> String {
    match ms / 3_600_000 {
        0 if ms < 60_000 => format!("{} s", ms / 1_000),
        0 => format!("{} min", ms / 60_000),
        hours @ 1..48 => format!("{hours} h"),
        hours => format!("{} days", hours / 24),
    }
}
