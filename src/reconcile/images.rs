//! What is told of images: what a pull brought, how far a long one is, what moved, what was removed, what the disk lacks.

use std::collections::BTreeMap;

use super::host::{Transfer, TransferWait};
use super::reconciler::{Noted, Reconciler};
use crate::model::{Action, Digest, ImageReference, Key, Location, Problem, Timestamp};
use crate::plan::{ImageFacts, Observed};

/// The progress of a pull is told as an event this often, and of none that is shorter.
const TELL_MS: u64 = 2_000;

/// A pull that succeeded.
#[derive(Debug, Clone)]
pub(super) struct Pulled {
    pub(super) reason: String,
    pub(super) took: u64,
    /// It only asked, unless the name moved.
    pub(super) refresh: bool,
}

impl Reconciler {
    /// What changed among the images since they were seen last.
    pub(super) fn tell_images(&mut self, observed: &Observed, now: Timestamp, noted: &mut Noted) {
        let (pulled, removed) = (std::mem::take(&mut self.pulled), std::mem::take(&mut self.removed));
        if !self.host_seen {
            return;
        }
        let variant = |facts: &ImageFacts| (facts.digest.clone(), facts.platform.clone());
        let before: BTreeMap<ImageReference, (Digest, String)> =
            self.observed.images.iter().map(|(image, facts)| (image.clone(), variant(facts))).collect();
        for (image, facts) in &observed.images {
            let (known, pull) = (before.get(image), pulled.get(image));
            let moved = known.filter(|(digest, _)| *digest != facts.digest);
            // The same name for another platform is another image, not a newer one.
            if let Some((from, _)) = moved.filter(|(_, platform)| *platform == facts.platform) {
                let message = format!("it moved from {} to {}", from.short(), facts.digest.short());
                self.note_moved(image, &message, now);
                noted.events.push(self.event(now, "image.moved", image.to_string(), message));
            }
            let asked = pull.is_some_and(|pull| !pull.refresh);
            // What a name left behind when it moved was not pulled.
            let new = known.is_none() && (image.tag().is_some() || pull.is_some());
            if new || moved.is_some() || asked {
                let (digest, mb) = (&facts.digest, megabytes(facts.bytes));
                let how = pull.map_or_else(String::new, |p| format!(" in {} ({})", seconds(p.took), p.reason));
                let message = format!("{digest}, {mb}{how}");
                noted.events.push(self.event(now, "image.pulled", image.to_string(), message));
            }
        }
        // What we remove ourselves is told with the reason when that ends.
        let ours = |image: &ImageReference| {
            let under = self.under_way.get(&Key::Image(image.clone())).map(|under| &under.action);
            removed.contains(image) || matches!(under, Some(Action::RemoveImage { .. }))
        };
        let gone = before.keys().filter(|image| !observed.images.contains_key(image) && !ours(image));
        for image in gone.cloned().collect::<Vec<_>>() {
            let message = "it is no longer here".to_owned();
            noted.events.push(self.event(now, "image.removed", image.to_string(), message));
        }
    }

    /// How far the pulls are: told for those that take long, now and then.
    pub fn progressed(&mut self, transfers: &BTreeMap<ImageReference, Transfer>, now: Timestamp) -> Noted {
        let mut noted = Noted::default();
        self.transfers = (transfers.clone(), now);
        self.progress_told.retain(|image, _| transfers.contains_key(image));
        for (image, transfer) in transfers {
            let told = *self.progress_told.entry(image.clone()).or_insert(now);
            if now.since(told) < TELL_MS {
                continue;
            }
            self.progress_told.insert(image.clone(), now);
            let message = progress(transfer, now);
            noted.events.push(self.event(now, "image.pulling", image.to_string(), message));
        }
        noted
    }

    pub(super) fn generations_of(&self, action: &Action) -> Vec<Digest> {
        let Action::Start { spec, .. } = action else { return Vec::new() };
        let service = (spec.slot.project.clone(), spec.slot.service.clone());
        self.memory.generations.get(&service).cloned().unwrap_or_default()
    }

    pub(super) fn new_generations(&mut self, action: &Action, before: &[Digest]) {
        let Action::Start { spec, .. } = action else { return };
        if self.generations_of(action) != before {
            self.generations.touch(&(spec.slot.project.clone(), spec.slot.service.clone()));
        }
    }

    pub(super) fn crowded_problem(&self) -> Option<Problem> {
        let crowded = self.plan.crowded.as_ref()?;
        let path = self.observed.disk.as_ref().map_or_else(Default::default, |disk| disk.path.clone());
        let message = format!(
            "the disk is {} % full (images are removed from {} % on) and no image can be removed: {} are in use or kept, {} are too young",
            crowded.percent, crowded.limit, crowded.in_use, crowded.young
        );
        let hint = "make room on the disk, or remove images by hand with `longshore image prune`";
        Some(Problem::warning(Location::whole(path), message).with_hint(hint))
    }

    /// The image's pull in words, while one runs.
    pub(super) fn pull_in_words(&self, image: &ImageReference) -> String {
        let (transfers, now) = &self.transfers;
        let transfer = transfers.get(image);
        let under = self.under_way.get(&Key::Image(image.clone())).map(|under| &under.action);
        let asking = matches!(under, Some(Action::Pull { refresh: true, .. }));
        match transfer.filter(|t| t.total.is_some() || t.wait.is_some()) {
            Some(transfer) => format!("image {image} is being pulled: {}", progress(transfer, *now)),
            None if asking => format!("the registry is asked whether image {image} moved"),
            None => format!("image {image} is being pulled"),
        }
    }
}

fn progress(transfer: &Transfer, now: Timestamp) -> String {
    let so_far = match transfer.total {
        Some(total) => format!("{} of {}", megabytes(transfer.done), megabytes(total)),
        None => "its manifest is being fetched".to_owned(),
    };
    match &transfer.wait {
        Some(wait) => format!("{so_far}; {}", waiting(wait, now)),
        None => so_far,
    }
}

/// `waits 12 s: the registry asks to slow down (attempt 2 of 5)`.
fn waiting(wait: &TransferWait, now: Timestamp) -> String {
    let TransferWait { reason, until, attempt, of } = wait;
    format!("waits {} s: {reason} (attempt {attempt} of {of})", until.since(now).div_ceil(1000))
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms / 100 % 10)
}
