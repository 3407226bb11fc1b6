//! Damaged parts are fetched again and put in the place of what is there.
//!
//! The new layer stands in one step where the damaged one stood. A container that runs keeps the old one, for its overlay
//! holds it open; restart it to let it see the new one.

use super::error::{PullError, StoreError};
use super::progress::Progress;
use super::refs::RefRecord;
use super::unpack::check::Damage;
use super::verify::{Finding, Part};
use super::{Images, resolve};
use crate::model::{Digest, ImageReference, Platform};

/// Why something stays damaged.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// No registry has it.
    #[error("{image} did not come from a registry; load or import it again")]
    NoSource { image: ImageReference },
    /// The registry does not give it.
    #[error("cannot fetch the damaged parts of {image} again")]
    Pull {
        image: ImageReference,
        #[source]
        source: Box<PullError>,
    },
    /// It was fetched, and the damage is still there.
    #[error("{what} is damaged again: {damage}; look at the disk")]
    Still { what: Digest, damage: String },
    /// The store on this machine.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Images {
    /// Makes one finding right, from the registry that the image came from.
    pub async fn repair(&self, finding: &Finding, progress: &Progress) -> Result<(), RepairError> {
        let record = self.records(Some(&finding.image))?.into_iter().next();
        let Some((_, record)) = record else { return Err(StoreError::Unknown { image: finding.image.clone() }.into()) };
        match finding.part {
            Part::Blob => {
                // Only kept to write the same archive again: without it the layer is made into another one.
                let path = self.inner.store.blob_path(&finding.what);
                let aside = self.inner.store.discard(&path).map_err(StoreError::io(&path))?;
                super::store::delete(aside.as_slice());
                return Ok(());
            }
            Part::Layer => self.inner.store.mark_damaged(&finding.what),
            Part::Document => {}
        }
        self.fetch_again(&finding.image, &record, progress).await?;
        let (images, part, what) = (self.clone(), finding.part, finding.what.clone());
        let checked = tokio::task::spawn_blocking(move || images.check(part, &what)).await;
        // Where there is still nothing to compare it with, it was compared while it came.
        if let Err(damage @ Damage::Found(_)) = checked.map_err(|_| StoreError::Lost)? {
            return Err(RepairError::Still { what: finding.what.clone(), damage: damage.to_string() });
        }
        if let Ok(known) = self.inner.store.whole(&record) {
            self.known_mut().entry(finding.image.clone()).or_insert(known);
        }
        Ok(())
    }

    /// By digest, because the tag may have moved; the manifest alone where the index is gone.
    async fn fetch_again(
        &self,
        image: &ImageReference,
        record: &RefRecord,
        progress: &Progress,
    ) -> Result<(), RepairError> {
        let own = format!("{}/{}", image.registry(), image.repository());
        // Records of old say no source: then it is the name's.
        let sources =
            if record.sources.is_empty() && record.layers.is_empty() { vec![own] } else { record.sources.clone() };
        let wanted = platform(&record.platform);
        let mut failed = None;
        for source in &sources {
            for digest in [&record.top, &record.manifest] {
                let Ok(name) = ImageReference::parse(&format!("{source}@{digest}")) else { continue };
                match self.fetch(&name, &wanted, progress).await {
                    Ok(_) => return Ok(()),
                    Err(error) => failed = Some(error),
                }
            }
        }
        Err(match failed {
            Some(source) => RepairError::Pull { image: image.clone(), source: Box::new(source) },
            None => RepairError::NoSource { image: image.clone() },
        })
    }
}

fn platform(text: &str) -> Platform {
    let mut parts = text.split('/').map(ToOwned::to_owned);
    match (parts.next(), parts.next()) {
        (Some(os), Some(architecture)) => Platform { os, architecture, variant: parts.next() },
        _ => resolve::this_machine(),
    }
}
