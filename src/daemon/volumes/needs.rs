//! Who needs which volume. Asked anew each time: nothing is kept that could be out of date.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::VolumeWork;
use crate::model::{ContainerName, Digest, ImageReference, Slot, VolumeName, VolumeRef};
use crate::volume::VolumeError;

/// At one moment.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Containers that exist, running or not.
    users: BTreeMap<VolumeName, Vec<ContainerName>>,
    /// Volumes of those that run.
    running: BTreeSet<VolumeName>,
    /// State files in force.
    named: BTreeMap<VolumeName, BTreeSet<PathBuf>>,
    /// Why files may name more; none: they do not.
    pub(super) doubt: Option<String>,
    /// Images of services that are not here: nobody knows which anonymous volumes they want.
    pub(super) absent: BTreeSet<ImageReference>,
}

impl VolumeWork {
    /// Blocks: it reads what images want.
    pub(super) fn needs_now(&self) -> Needs {
        let view = self.view.borrow().clone();
        let not_read = || "the state files are not read yet".to_owned();
        let mut needs = Needs {
            users: self.host.volume_users(),
            running: self.host.volumes_in_use(),
            named: view.volumes.named.clone(),
            doubt: if view.ready { view.volumes.doubt.clone() } else { Some(not_read()) },
            absent: BTreeSet::new(),
        };
        let present = self.images.present();
        let mut wants: BTreeMap<&Digest, Vec<String>> = BTreeMap::new();
        for service in &view.volumes.services {
            let Some(image) = present.get(&service.image) else {
                needs.absent.insert(service.image.clone());
                continue;
            };
            let read = || self.images.config(&image.digest).map(|config| config.volumes);
            let targets = match wants.get(&image.digest) {
                Some(targets) => targets.clone(),
                None => match read() {
                    Ok(targets) => targets,
                    Err(_) => {
                        needs.absent.insert(service.image.clone());
                        continue;
                    }
                },
            };
            for target in &targets {
                needs.note(&service.slot, service.replicas, target, &service.file);
            }
            wants.insert(&image.digest, targets);
        }
        needs
    }

    /// Whether nothing needs a volume, for who removes it.
    pub(super) fn unneeded(&self, name: &VolumeName) -> Result<(), VolumeError> {
        let needs = self.needs_now();
        let (containers, files) = (needs.containers(name), needs.files(name));
        let instead = match (containers.is_empty(), files.is_empty()) {
            (true, true) => return Ok(()),
            (_, false) => "take it out of there first",
            (false, true) => "it can be removed when that is gone",
        };
        let by = [counted("the container", &containers), counted("the state file", &files)];
        let by: Vec<String> = by.into_iter().flatten().collect();
        Err(VolumeError::Needed { name: name.clone(), by: by.join(" and "), instead })
    }

    /// Whether nothing that runs sees a volume, for who changes what it holds.
    pub(super) fn at_rest(&self, name: &VolumeName) -> Result<(), VolumeError> {
        let needs = self.needs_now();
        if !needs.running.contains(name) {
            return Ok(());
        }
        let by = counted("the container", &needs.containers(name)).unwrap_or_else(|| "a container".to_owned());
        let instead = "stop what runs first: say `scale: 0` in the file, and take it away again afterwards";
        Err(VolumeError::Needed { name: name.clone(), by, instead })
    }
}

impl Needs {
    fn note(&mut self, first: &Slot, replicas: u32, target: &str, file: &Path) {
        let target = target.trim_end_matches('/').to_owned();
        let volume = VolumeRef::Anonymous { of: first.service.clone(), target, labels: BTreeMap::new() };
        for number in 1..=replicas {
            let name = volume.name(&Slot { number, ..first.clone() });
            self.named.entry(name).or_default().insert(file.to_owned());
        }
    }

    pub(super) fn containers(&self, name: &VolumeName) -> Vec<String> {
        self.users.get(name).into_iter().flatten().map(ToString::to_string).collect()
    }

    pub(super) fn files(&self, name: &VolumeName) -> Vec<String> {
        self.named.get(name).into_iter().flatten().map(|file| file.display().to_string()).collect()
    }

    /// Neither a container nor a file.
    pub(super) fn nobody(&self, name: &VolumeName) -> bool {
        !self.users.contains_key(name) && !self.named.contains_key(name)
    }
}

/// `the container a`, `the containers a, b`.
fn counted(noun: &str, names: &[String]) -> Option<String> {
    match names {
        [] => None,
        [one] => Some(format!("{noun} {one}")),
        many => Some(format!("{noun}s {}", many.join(", "))),
    }
}
