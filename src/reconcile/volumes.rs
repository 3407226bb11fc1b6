//! What the status knows of volumes: which the state files name, so that nothing that is named is ever pruned.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::reconciler::Reconciler;
use super::view::{VolumeService, VolumesView};
use crate::model::{MountSource, Project, Service, Slot, VolumeMount, VolumeName, VolumeRef};

/// Of a service that is scaled to none, so many replicas may be back with their data.
const REPLICAS: u32 = 100;

impl Reconciler {
    pub(super) fn volumes_view(&self) -> VolumesView {
        let mut view = VolumesView { doubt: self.ledger.doubted(), ..VolumesView::default() };
        for project in self.desired.projects.values() {
            for name in project.volumes.keys() {
                note(&mut view.named, name.clone(), project);
            }
            for service in project.services.values() {
                of_service(&mut view, project, service);
            }
        }
        view
    }
}

fn of_service(view: &mut VolumesView, project: &Project, service: &Service) {
    let replicas = if service.replicas == 0 { REPLICAS } else { service.replicas };
    let slot = |number| Slot { project: project.name.clone(), service: service.name.clone(), number };
    for mount in &service.mounts {
        let MountSource::Volume(VolumeMount { volume, .. }) = &mount.source else { continue };
        let replicas = match volume {
            VolumeRef::Named(_) => 1,
            VolumeRef::Anonymous { .. } => replicas,
        };
        for number in 1..=replicas {
            note(&mut view.named, volume.name(&slot(number)), project);
        }
    }
    if let Some(image) = service.image.clone() {
        view.services.push(VolumeService { slot: slot(1), replicas, image, file: project.file.clone() });
    }
}

fn note(named: &mut BTreeMap<VolumeName, BTreeSet<PathBuf>>, name: VolumeName, project: &Project) {
    named.entry(name).or_default().insert(project.file.clone());
}
