//! Images compared with what they should be, and made right again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::ImageWork;
use super::refuse::store;
use super::transfer::shown;
use crate::api::wire::{FindingState, ImageFinding, ImagePart, ImageProgress, Verified, VerifyAsk};
use crate::api::{Findings, Job, Refusal};
use crate::image::{Checked, Finding, Found, Images, Part, Progress, RepairError};
use crate::model::{ImageReference, sentence};

/// What is going on.
enum Stage {
    Reads(ImageProgress),
    Fetches(Arc<Progress>),
}

type Shared = Arc<Mutex<Stage>>;

impl ImageWork {
    /// Everything is read first, then what is not right is fetched again, one thing after the other. Dropping the job ends it.
    pub(super) fn verify_job(&self, ask: &VerifyAsk) -> Result<(Job<Verified>, Findings), Refusal> {
        let wanted = ask.images.iter().map(|name| self.stored(name)).collect::<Result<Vec<_>, _>>()?;
        let at: Shared = Arc::new(Mutex::new(Stage::Reads(ImageProgress::default())));
        // As many findings as there are layers and documents, at most twice.
        let (found, findings) = unbounded_channel();
        let seen = Arc::clone(&at);
        let progress = move || match &*stage(&seen) {
            Stage::Reads(progress) => progress.clone(),
            Stage::Fetches(progress) => shown(progress.snapshot()),
        };
        let work = verify(self.images.clone(), wanted, ask.repair, at, found);
        let job = Job { progress: Box::new(progress), outcome: work.boxed() };
        let findings = stream::unfold(findings, |mut findings| async { Some((findings.recv().await?, findings)) });
        Ok((job, findings.boxed()))
    }

    /// What is damaged may not be known any more, but it still lies on the disk under its name.
    fn stored(&self, name: &str) -> Result<ImageReference, Refusal> {
        match self.find(name) {
            Ok(Found { image: Some(image), .. }) => Ok(image),
            // Each name that leads to it has the same parts.
            Ok(Found { image: None, digest }) => match self.references(&digest).into_iter().next() {
                Some(image) => Ok(image),
                None => self.named(name),
            },
            Err(refusal) => self.images.name(name).map_err(|_| refusal),
        }
    }
}

async fn verify(
    images: Images,
    wanted: Vec<ImageReference>,
    repair: bool,
    at: Shared,
    found: UnboundedSender<ImageFinding>,
) -> Result<Verified, Refusal> {
    let all: Arc<Mutex<Vec<Finding>>> = Arc::default();
    let (noted, told, seen) = (Arc::clone(&all), found.clone(), Arc::clone(&at));
    let tell = move |checked| match checked {
        Checked::Reads { image, done, total } => {
            let (total, checks) = (Some(total), Some(image.to_string()));
            *stage(&seen) = Stage::Reads(ImageProgress { done, total, checks, ..ImageProgress::default() });
        }
        Checked::Found(finding) => {
            // Nobody listens where the client is gone; then the work ends too.
            let _ = told.send(as_found(&finding));
            noted.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
        }
    };
    let read = images.verify_telling(wanted, tell).await.map_err(|error| store(&error))?;
    let all = std::mem::take(&mut *all.lock().unwrap_or_else(PoisonError::into_inner));
    let mut findings = Vec::new();
    for finding in all {
        if !repair {
            findings.push(as_found(&finding));
            continue;
        }
        let progress = Arc::new(Progress::default());
        *stage(&at) = Stage::Fetches(Arc::clone(&progress));
        let result = repaired(&finding, images.repair(&finding, &progress).await);
        let _ = found.send(result.clone());
        findings.push(result);
    }
    Ok(Verified { images: read.iter().map(ToString::to_string).collect(), findings })
}

fn repaired(finding: &Finding, outcome: Result<(), RepairError>) -> ImageFinding {
    let (state, error) = match outcome {
        Ok(()) => (FindingState::Repaired, None),
        Err(error) => (FindingState::Failed, Some(sentence(&error))),
    };
    ImageFinding { state, error, ..as_found(finding) }
}

fn as_found(finding: &Finding) -> ImageFinding {
    let part = match finding.part {
        Part::Document => ImagePart::Document,
        Part::Blob => ImagePart::Blob,
        Part::Layer => ImagePart::Layer,
    };
    let state = if finding.unknown { FindingState::Unknown } else { FindingState::Damaged };
    ImageFinding {
        image: finding.image.to_string(),
        part,
        what: finding.what.to_string(),
        damage: finding.damage.clone(),
        state,
        error: None,
    }
}

fn stage(at: &Shared) -> MutexGuard<'_, Stage> {
    at.lock().unwrap_or_else(PoisonError::into_inner)
}
