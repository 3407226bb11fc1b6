//! What volumes and their copies take on the disk.

use super::{VolumeWork, entry};
use crate::api::Refusal;
use crate::api::wire::{DiskItem, DiskKind, DiskRow, VolumeEntry};
use crate::volume::Snapshot;

impl VolumeWork {
    /// Every row is the sum of its items.
    pub(super) async fn rows(&self, items: bool) -> Result<Vec<DiskRow>, Refusal> {
        let needs = self.needs().await?;
        let mut volumes = Vec::new();
        for stored in self.volumes.list() {
            // What options mount is not on our disk.
            let own = if stored.volume.options.is_empty() { self.usage(&stored).await? } else { None };
            volumes.push(one(entry(stored, &needs, own)));
        }
        let copies = self.aside(|this| Ok(this.volumes.snapshots())).await?.iter().map(copy).collect();
        let mut rows = vec![row(DiskKind::Volumes, volumes), row(DiskKind::Snapshots, copies)];
        if !items {
            rows.iter_mut().for_each(|row| row.items.clear());
        }
        Ok(rows)
    }
}

fn one(volume: VolumeEntry) -> DiskItem {
    DiskItem {
        active: !volume.unused,
        bytes: volume.bytes.unwrap_or(0),
        shared: 0,
        since: Some(volume.created),
        used_by: if volume.used_by.is_empty() { volume.defined_by } else { volume.used_by },
        name: volume.name,
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
