//! Pulls and pushes, and how far they are.

use std::pin::pin;
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt as _;

use super::ImageWork;
use super::refuse::{self, failed};
use crate::api::wire::{ImageProgress, LayerState, LayerStep, PullAsk, Pulled, PushAsk, Pushed, TransferWait};
use crate::api::{Job, Refusal};
use crate::image::{self, Progress, PullWait, Snapshot};

impl ImageWork {
    /// Joins a pull that runs. Dropping the job leaves it; the last who leaves ends it, and what came is kept for the next.
    pub(super) fn pull_job(&self, ask: &PullAsk) -> Result<Job<Pulled>, Refusal> {
        let image = refuse::name(&self.images, &ask.image)?;
        let platform = refuse::platform(ask.platform.as_deref())?;
        let joined: Arc<OnceLock<Arc<Progress>>> = Arc::default();
        let seen = Arc::clone(&joined);
        let progress = move || seen.get().map_or_else(ImageProgress::default, |p| shown(p.snapshot()));
        let this = self.clone();
        let outcome = async move {
            let before = this.images.present().remove(&image).map(|present| present.digest);
            let mut pull = pin!(this.host.pull_image(&image, platform.as_ref()));
            // The first step joins the pull. From then on it can be seen, also how it was when it is over.
            let first = pull.as_mut().now_or_never();
            if let Some(progress) = this.host.progress_of(&image) {
                joined.get_or_init(|| progress);
            }
            let pulled = match first {
                Some(pulled) => pulled,
                None => pull.await,
            };
            let present = pulled.map_err(|error| failed(&error))?;
            Ok(Pulled {
                image: image.to_string(),
                changed: before.as_ref() != Some(&present.digest),
                digest: present.digest.to_string(),
                bytes: present.bytes,
            })
        };
        Ok(Job { progress: Box::new(progress), outcome: outcome.boxed() })
    }

    pub(super) fn push_job(&self, ask: &PushAsk) -> Result<Job<Pushed>, Refusal> {
        let image = self.named(&ask.image)?;
        let progress = Arc::new(Progress::default());
        let (images, moved) = (self.images.clone(), Arc::clone(&progress));
        let outcome = async move {
            let pushed = images.push(&image, &moved).await.map_err(|error| failed(&error))?;
            Ok(Pushed {
                image: image.to_string(),
                digest: pushed.digest.to_string(),
                same: pushed.same,
                present: pushed.present,
                mounted: pushed.mounted,
                uploaded: pushed.uploaded,
            })
        };
        Ok(Job { progress: Box::new(move || shown(progress.snapshot())), outcome: outcome.boxed() })
    }
}

pub(super) fn shown(at: Snapshot) -> ImageProgress {
    let layer = |layer: image::LayerProgress| LayerStep {
        digest: layer.digest.to_string(),
        done: layer.done,
        total: layer.total,
        state: state(layer.state),
    };
    let wait = |wait: PullWait| TransferWait {
        reason: wait.reason,
        until: wait.until.into(),
        attempt: wait.attempt,
        of: wait.of,
    };
    ImageProgress {
        done: at.done,
        total: (!at.layers.is_empty()).then_some(at.total),
        layers: at.layers.into_iter().map(layer).collect(),
        wait: at.wait.map(wait),
        from: at.from,
        resumed: at.resumed,
        checks: None,
    }
}

fn state(state: image::LayerState) -> LayerState {
    match state {
        image::LayerState::Waiting => LayerState::Waiting,
        image::LayerState::Fetching => LayerState::Fetching,
        image::LayerState::Unpacking => LayerState::Unpacking,
        image::LayerState::Done => LayerState::Done,
        image::LayerState::Present => LayerState::Present,
    }
}
