//! What is noted at the names of images that are here: further names, pins, uses.

use std::time::{Duration, Instant};

use super::error::StoreError;
use super::refs::{Known, Origin};
use super::{Images, now};
use crate::model::{Digest, ImageReference};

/// A use is written down at most this often; least-recently-used needs no more.
const USE_EVERY: Duration = Duration::from_secs(60);

impl Images {
    /// Gives an image that is here a further name. A name that meant another image leaves that one untagged.
    pub async fn tag(&self, from: &Digest, to: &ImageReference) -> Result<(), StoreError> {
        let (from, to) = (from.clone(), to.clone());
        self.alone(move |images| {
            let found = images.references(&from).into_iter().next();
            let Some((_, known)) = found else { return Err(StoreError::Missing { digest: from }) };
            let mut record = known.record;
            record.reference = to.to_string();
            record.origin = if record.untagged { record.origin } else { Origin::Tagged };
            record.untagged = false;
            record.pinned = false;
            images.put(&to, record).map(|_| ())
        })
        .await
    }

    /// Keeps the image from being collected, or no longer.
    pub async fn pin(&self, image: &ImageReference, pinned: bool) -> Result<(), StoreError> {
        let image = image.clone();
        self.alone(move |images| {
            let known = images.known().get(&image).cloned();
            let Some(mut known) = known else { return Err(StoreError::Unknown { image }) };
            known.record.pinned = pinned;
            images.inner.store.put_ref(&image, &known.record)?;
            if let Some(known) = images.known_mut().get_mut(&image) {
                known.record.pinned = pinned;
            }
            Ok(())
        })
        .await
    }

    /// Notes that a container is made from the image or was removed with it. Returns at once; it is written down in the
    /// background and at most once a minute.
    pub fn used(&self, digest: &Digest) {
        let at = now().millis();
        let mut due = Vec::new();
        for (name, known) in self.known_mut().iter_mut().filter(|(_, known)| known.present.digest == *digest) {
            known.record.last_used_ms = Some(at);
            if known.use_written.is_none_or(|written| written.elapsed() >= USE_EVERY) {
                known.use_written = Some(Instant::now());
                due.push(name.clone());
            }
        }
        if due.is_empty() {
            return;
        }
        let images = self.clone();
        let written = std::thread::Builder::new().name("image-used".into()).spawn(move || images.write_used(&due));
        if let Err(error) = written {
            tracing::warn!(%error, "the use of an image is not written down");
        }
    }

    fn write_used(&self, names: &[ImageReference]) {
        let _turn = self.inner.recording.blocking_lock();
        for name in names {
            let record = self.known().get(name).map(|known: &Known| known.record.clone());
            if let Some(record) = record
                && let Err(error) = self.inner.store.put_ref(name, &record)
            {
                tracing::warn!(image = %name, %error, "the use of an image is not written down");
            }
        }
    }
}
