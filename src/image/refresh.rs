//! Asks whether a name still means the same image, and fetches only where it does not.

use super::error::PullError;
use super::progress::Progress;
use super::{Images, Present, now, resolve};
use crate::model::{Digest, ImageReference, Platform};

/// What a question at the registry brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refreshed {
    /// The image that is here is the one that the name means.
    Same(Present),
    /// Another image was fetched.
    Moved {
        /// What the name meant here until now; none where it was not here, or not whole.
        from: Option<Digest>,
        /// What it means now.
        to: Present,
    },
}

impl Images {
    /// Asks what `image` names now, by one small question, and pulls it only where that is not what is here, whole. An
    /// image named by its digest never changes and is not asked for.
    pub async fn refresh(
        &self,
        image: &ImageReference,
        platform: Option<&Platform>,
        progress: &Progress,
    ) -> Result<Refreshed, PullError> {
        let machine = resolve::this_machine();
        let wanted = platform.unwrap_or(&machine).to_string();
        let here = self.present().remove(image).filter(|p| p.platform == wanted && self.layers(&p.digest).is_ok());
        let Some(here) = here else {
            let to = self.pull(image, platform, progress).await?;
            return Ok(Refreshed::Moved { from: None, to });
        };
        if image.digest().is_some() {
            return Ok(Refreshed::Same(here));
        }
        let session = self.inner.registry.about(image, progress).await;
        let told = session.digest().await;
        let told = told.map_err(|e| PullError::Registry { image: image.clone(), source: Box::new(e) })?;
        if told.as_ref() == Some(&here.top) {
            return self.asked(image, here).await.map(Refreshed::Same).map_err(|e| PullError::store(image, e));
        }
        let to = self.pull(image, platform, progress).await?;
        if to.digest == here.digest {
            return Ok(Refreshed::Same(to));
        }
        Ok(Refreshed::Moved { from: Some(here.digest), to })
    }

    /// What `image` names now, where that is not what is here; nothing is fetched.
    pub async fn newer(
        &self,
        image: &ImageReference,
        platform: Option<&Platform>,
        progress: &Progress,
    ) -> Result<Option<Digest>, PullError> {
        let machine = resolve::this_machine();
        let wanted = platform.unwrap_or(&machine).to_string();
        let here = self.present().remove(image).filter(|p| p.platform == wanted);
        let session = self.inner.registry.about(image, progress).await;
        let told = session.digest().await;
        let told = told.map_err(|e| PullError::Registry { image: image.clone(), source: Box::new(e) })?;
        Ok(told.filter(|told| here.is_none_or(|here| here.top != *told)))
    }

    /// All tags of an image's repository, as its registry lists them.
    pub async fn tags(&self, image: &ImageReference, progress: &Progress) -> Result<Vec<String>, PullError> {
        let session = self.inner.registry.about(image, progress).await;
        session.tags().await.map_err(|e| PullError::Registry { image: image.clone(), source: Box::new(e) })
    }

    /// Notes that the registry was asked and nothing changed.
    async fn asked(&self, image: &ImageReference, here: Present) -> Result<Present, super::StoreError> {
        let (name, at) = (image.clone(), now());
        let asked = Present { checked_at: at, ..here };
        let digest = asked.digest.clone();
        let noted = self.alone(move |images| {
            let known = images.known().get(&name).filter(|known| known.present.digest == digest).cloned();
            let Some(mut known) = known else { return Ok(()) };
            known.record.checked_at_ms = at.millis();
            known.present.checked_at = at;
            images.inner.store.put_ref(&name, &known.record)?;
            images.known_mut().insert(name, known);
            Ok(())
        });
        noted.await?;
        Ok(asked)
    }
}
