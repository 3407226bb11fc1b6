//! Errors of the rooms as the API refuses.

use std::error::Error;

use crate::api::{Refusal, RefusalKind};
use crate::image::{FindError, Images, StoreError};
use crate::model::{ImageReference, Platform, sentence};

pub(super) fn failed(error: &dyn Error) -> Refusal {
    Refusal::new(RefusalKind::Failed, sentence(error))
}

pub(super) fn found(error: &FindError) -> Refusal {
    let kind = match error {
        FindError::Unknown { .. } => RefusalKind::Unknown,
        FindError::Ambiguous { .. } => RefusalKind::Ambiguous,
    };
    Refusal::new(kind, error.to_string()).hint("`longshore image ls` lists what there is")
}

pub(super) fn store(error: &StoreError) -> Refusal {
    match error {
        StoreError::Unknown { .. } | StoreError::Missing { .. } => {
            Refusal::new(RefusalKind::Unknown, sentence(error)).hint("`longshore image ls` lists what there is")
        }
        StoreError::Damaged { .. } => failed(error).hint("`longshore image pull` fetches it again"),
        StoreError::Lost | StoreError::Io { .. } => failed(error),
    }
}

pub(super) fn name(images: &Images, text: &str) -> Result<ImageReference, Refusal> {
    let invalid = |error| Refusal::new(RefusalKind::Invalid, sentence(&error));
    images.name(text).map_err(|error| invalid(error).hint("write [REGISTRY/]REPOSITORY[:TAG]"))
}

pub(super) fn platform(text: Option<&str>) -> Result<Option<Platform>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    let shown: String = text.chars().take(100).collect();
    let invalid = || Refusal::new(RefusalKind::Invalid, format!("{shown:?} is not a platform"));
    Platform::parse(text)
        .map(Some)
        .ok_or_else(|| invalid().hint("write os/architecture[/variant], such as linux/arm64"))
}
