//! What is: every room's own view, joined.

use super::LinuxHost;
use crate::plan::Observed;
use crate::reconcile::{Gauges, Transfer};

impl LinuxHost {
    pub(super) fn look(&self) -> Observed {
        let images = self.images.present().into_iter().map(|(image, present)| (image, present.digest)).collect();
        Observed { images, containers: self.containers.observe() }
    }

    pub(super) fn measure(&self) -> Gauges {
        let transfer = |progress: &crate::image::Progress| {
            let total = progress.total();
            Transfer { done: progress.done(), total: (total > 0).then_some(total) }
        };
        Gauges {
            sizes: self.images.present().into_iter().map(|(image, present)| (image, present.bytes)).collect(),
            transfers: self.pulls().iter().map(|(image, progress)| (image.clone(), transfer(progress))).collect(),
            store_note: self.store_note.clone(),
            loosenings: self.loosenings.clone(),
        }
    }
}
