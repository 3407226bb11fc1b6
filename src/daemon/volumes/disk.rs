//! What volumes and their copies take on the disk.

use super::VolumeWork;
use crate::api::Refusal;
use crate::api::wire::{DiskItem, DiskKind, DiskRow};
use crate::volume::Snapshot;

impl VolumeWork {
    /// Every row is the sum of its items.
    pub(super) async fn rows(&self, items: bool) -> Result<Vec<DiskRow>, Refusal> {
        let volumes = self.entries(true).await?.into_iter().map(|volume| DiskItem {
            active: !volume.unused,
            // What options mount is not on our disk.
            bytes: volume.bytes.filter(|_| volume.options.is_empty()).unwrap_or(0),
            shared: 0,
            since: Some(volume.created),
            used_by: if volume.used_by.is_empty() { volume.defined_by } else { volume.used_by },
            name: volume.name,
        });
        let volumes: Vec<DiskItem> = volumes.collect();
        let copies = self.aside(|this| Ok(this.volumes.snapshots())).await?.iter().map(copy).collect();
        let mut rows = vec![row(DiskKind::Volumes, volumes), row(DiskKind::Snapshots, copies)];
        if !items {
            rows.iter_mut().for_each(|row| row.items.clear());
        }
        Ok(rows)
    }
}

/// It is kept until somebody removes it by its name.
fn copy(copy: &Snapshot) -> DiskItem {
    let (name, since) = (format!("{} {}", copy.volume, copy.name), Some(copy.created.into()));
    DiskItem { name, bytes: copy.bytes, shared: 0, active: true, since, used_by: Vec::new() }
}

fn row(kind: DiskKind, items: Vec<DiskItem>) -> DiskRow {
    DiskRow {
        kind,
        count: items.len() as u64,
        active: items.iter().filter(|item| item.active).count() as u64,
        bytes: items.iter().map(|item| item.bytes).sum(),
        reclaimable: items.iter().filter(|item| !item.active).map(|item| item.bytes).sum(),
        items,
    }
}
