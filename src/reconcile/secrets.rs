//! What the status knows of secrets that are kept by name: who uses them, so that none is forgotten under a service.

use std::collections::{BTreeMap, BTreeSet};

use super::reconciler::Reconciler;

impl Reconciler {
    pub(super) fn secrets_view(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for project in self.desired.projects.values() {
            for service in project.services.values() {
                for kept in service.files.iter().filter_map(|file| file.kept.clone()) {
                    used.entry(kept).or_default().insert(format!("{}/{}", project.name, service.name));
                }
            }
        }
        used
    }
}
