//! What lies on disk.

use std::collections::BTreeSet;

use super::ImageWork;
use super::refuse::store;
use crate::api::Refusal;
use crate::api::wire::{DiskItem, DiskKind, DiskRow, DiskUse, Time};
use crate::image::{ImageUsage, LayerUsage};
use crate::model::Digest;

impl ImageWork {
    /// Every row is the sum of its items, so that the two cannot disagree. What images share is counted with the layers.
    pub(super) fn measure(&self, items: bool) -> Result<DiskUse, Refusal> {
        let usage = self.images.usage().map_err(|error| store(&error))?;
        let images = usage.images.iter().map(|image| self.image(image)).collect();
        // A layer is in use when an image is that a container is made from.
        let used = usage.images.iter().filter(|image| self.is_used(&image.digest));
        let used: BTreeSet<Digest> = used
            .filter_map(|image| self.images.config(&image.digest).ok())
            .flat_map(|config| config.diff_ids)
            .collect();
        let layers = usage.layers.iter().map(|one| layer(one, used.contains(&one.diff_id))).collect();
        let containers = self.host.container_disk();
        let part = |written: bool| {
            let each = |c: &crate::host::ContainerDisk| DiskItem {
                name: c.name.to_string(),
                bytes: if written { c.disk.written } else { c.disk.logs },
                shared: 0,
                active: c.alive,
                since: c.since.map(Time::from),
                used_by: vec![format!("{}/{}", c.slot.project, c.slot.service)],
            };
            containers.iter().map(each).collect()
        };
        let kept = self.host.kept_logs().into_iter().map(|(log, bytes)| DiskItem {
            name: format!("{} (gone)", log.name),
            bytes,
            shared: 0,
            active: false,
            since: None,
            used_by: vec![format!("{}/{}", log.of.0, log.of.1)],
        });
        let mut logs: Vec<DiskItem> = part(false);
        logs.extend(kept);
        let partial = DiskItem {
            name: "all".to_owned(),
            bytes: usage.partial,
            shared: 0,
            active: false,
            since: None,
            used_by: Vec::new(),
        };
        let mut rows = vec![
            row(DiskKind::Images, images),
            row(DiskKind::Layers, layers),
            row(DiskKind::Containers, part(true)),
            row(DiskKind::Logs, logs),
            row(DiskKind::Partial, if usage.partial > 0 { vec![partial] } else { Vec::new() }),
        ];
        // A container that ended is started again with what it wrote; only its file says that it is not needed.
        for row in rows.iter_mut().filter(|row| matches!(row.kind, DiskKind::Containers | DiskKind::Logs)) {
            row.reclaimable = 0;
        }
        if !items {
            rows.iter_mut().for_each(|row| row.items.clear());
        }
        Ok(DiskUse { rows })
    }

    fn image(&self, image: &ImageUsage) -> DiskItem {
        let name = image.names.first().map_or_else(|| image.digest.to_string(), ToString::to_string);
        let used_by: Vec<String> = self.host.users_of(&image.digest).iter().map(|spec| spec.name.to_string()).collect();
        let (bytes, active) = (image.own + image.shared, !used_by.is_empty());
        DiskItem { name, bytes, shared: image.shared, active, since: None, used_by }
    }

    fn is_used(&self, image: &Digest) -> bool {
        !self.host.users_of(image).is_empty()
    }
}

fn layer(layer: &LayerUsage, active: bool) -> DiskItem {
    let shared = if layer.images > 1 { layer.disk_bytes } else { 0 };
    let (name, bytes) = (layer.diff_id.to_string(), layer.disk_bytes);
    DiskItem { name, bytes, shared, active, since: None, used_by: Vec::new() }
}

fn row(kind: DiskKind, items: Vec<DiskItem>) -> DiskRow {
    let own = |item: &DiskItem| item.bytes - if kind == DiskKind::Layers { 0 } else { item.shared };
    DiskRow {
        kind,
        count: items.len() as u64,
        active: items.iter().filter(|item| item.active).count() as u64,
        bytes: items.iter().map(own).sum(),
        reclaimable: items.iter().filter(|item| !item.active).map(own).sum(),
        items,
    }
}
