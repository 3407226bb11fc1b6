//! What is: every room's own view, joined.

use std::collections::BTreeMap;

use super::LinuxHost;
use crate::image::{Images, Present};
use crate::model::{ContainerId, ImageReference, ObservedContainer};
use crate::plan::Observed;
use crate::reconcile::{Gauges, Transfer};

/// Joins what two rooms see.
pub fn join(
    present: BTreeMap<ImageReference, Present>,
    containers: BTreeMap<ContainerId, ObservedContainer>,
) -> Observed {
    let platforms = present.iter().map(|(image, present)| (image.clone(), present.platform.clone())).collect();
    let images = present.into_iter().map(|(image, present)| (image, present.digest)).collect();
    Observed { images, platforms, machine: Images::machine().to_string(), containers }
}

impl LinuxHost {
    pub(super) fn look(&self) -> Observed {
        join(self.images.present(), self.containers.observe())
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
