//! One image.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;
use crate::reconcile::view::{ImageStateView, ImageView};

/// One image that is here, being pulled, or wanted and not to be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Image {
    /// The reference in full.
    pub image: String,
    /// What is here.
    pub state: ImageState,
}

/// The state of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum ImageState {
    /// Here and whole.
    Present {
        /// The digest of its manifest.
        digest: String,
        /// Bytes of its layers as they came.
        bytes: u64,
    },
    /// Being pulled.
    Pulling {
        /// Bytes that arrived.
        done: u64,
        /// Bytes in all, once the manifest is known.
        total: Option<u64>,
        /// Since when.
        since: Time,
    },
    /// The last pull failed.
    Failed {
        /// Why.
        error: String,
        /// How many attempts so far.
        attempts: u32,
        /// When it is tried again.
        next_attempt: Option<Time>,
    },
}

impl From<&ImageView> for Image {
    fn from(view: &ImageView) -> Self {
        Self { image: view.image.to_string(), state: (&view.state).into() }
    }
}

impl From<&ImageStateView> for ImageState {
    fn from(state: &ImageStateView) -> Self {
        match state {
            ImageStateView::Present { digest, bytes } => Self::Present { digest: digest.to_string(), bytes: *bytes },
            ImageStateView::Pulling { done, total, since, .. } => {
                Self::Pulling { done: *done, total: *total, since: (*since).into() }
            }
            ImageStateView::Failed { error, attempts, next_attempt } => {
                Self::Failed { error: error.clone(), attempts: *attempts, next_attempt: next_attempt.map(Time::from) }
            }
        }
    }
}
