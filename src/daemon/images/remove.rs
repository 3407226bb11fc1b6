//! Images that go: by name, or because nothing uses them.

use std::collections::BTreeMap;

use super::ImageWork;
use super::refuse::{failed, store};
use crate::api::wire::{PruneAsk, Pruned, PrunedImage, RemoveAsk, RemovedImage};
use crate::api::{Refusal, RefusalKind};
use crate::host::RemoveError;
use crate::image::{Found, Listed};
use crate::model::Digest;

impl ImageWork {
    /// A name, or with force all names that lead to the same image. What a container is made from stays in any case.
    pub(super) async fn removal(&self, ask: RemoveAsk) -> Result<RemovedImage, Refusal> {
        let Found { image, digest } = self.find(&ask.image)?;
        let removed = match image {
            _ if ask.force => self.host.remove_whole(&digest).await,
            Some(image) => self.host.remove_image(&image).await,
            None => self.host.remove_image(&self.named(&ask.image)?).await,
        };
        let removed = removed.map_err(|error| refused(&error))?;
        Ok(RemovedImage {
            untagged: removed.untagged.iter().map(ToString::to_string).collect(),
            layers: removed.layers as u64,
            freed: removed.freed,
        })
    }

    /// Images that nobody needs, by the rule of the removal on a full disk: no container is made from them, no service names
    /// them or ran them before its present one, nobody pinned them. Those without a name, or all. One that comes into use
    /// meanwhile stays.
    pub(super) async fn pruning(&self, ask: PruneAsk) -> Result<Pruned, Refusal> {
        let view = self.view.borrow().clone();
        if !view.ready {
            let message = "the state files are not read yet: it is not known which images services need";
            return Err(Refusal::new(RefusalKind::Failed, message).hint("try again in a moment"));
        }
        let (listed, own, loose) = self
            .aside(|this| {
                let usage = this.images.usage().map_err(|error| store(&error))?;
                let own: BTreeMap<Digest, u64> = usage.images.iter().map(|i| (i.digest.clone(), i.own)).collect();
                Ok((this.images.list(), own, usage.unreferenced()))
            })
            .await?;
        let unused = |image: &Listed| {
            let needed = image.pinned || view.needed.contains(&image.digest);
            (ask.all || image.names.is_empty()) && !needed && self.host.users_of(&image.digest).is_empty()
        };
        let mut pruned = Pruned::default();
        for image in listed.into_iter().filter(unused) {
            if ask.dry_run {
                pruned.freed += own.get(&image.digest).copied().unwrap_or(0);
                pruned.images.push(shown(&image));
            } else if let Some(freed) = self.prune_one(&image).await? {
                pruned.freed += freed;
                pruned.images.push(shown(&image));
            }
        }
        // Layers that nobody refers to, as a pull leaves them that was given up.
        pruned.freed +=
            if ask.dry_run { loose } else { self.images.sweep().await.map_err(|error| store(&error))?.freed };
        Ok(pruned)
    }

    async fn prune_one(&self, image: &Listed) -> Result<Option<u64>, Refusal> {
        let mut freed = 0;
        for name in &image.references {
            match self.host.remove_image(name).await {
                Ok(removed) => freed += removed.freed,
                Err(RemoveError::Unknown { .. }) => {}
                Err(RemoveError::Used { .. } | RemoveError::Pulling { .. }) => return Ok(None),
                Err(error @ RemoveError::Store { .. }) => return Err(refused(&error)),
            }
        }
        Ok(Some(freed))
    }
}

fn shown(image: &Listed) -> PrunedImage {
    let names: Vec<_> = image.names.iter().map(ToString::to_string).collect();
    let name = if names.is_empty() { image.digest.to_string() } else { names.join(", ") };
    PrunedImage { image: name, digest: image.digest.to_string(), bytes: image.disk_bytes }
}

fn refused(error: &RemoveError) -> Refusal {
    let kind = match error {
        RemoveError::Unknown { .. } => RefusalKind::Unknown,
        RemoveError::Used { .. } | RemoveError::Pulling { .. } => RefusalKind::InUse,
        RemoveError::Store { .. } => RefusalKind::Failed,
    };
    Refusal { kind, ..failed(error) }
}
