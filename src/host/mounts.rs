//! What a container is given of volumes and of the host: sources made absolute, looked at, and made where its file asks for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::LinuxHost;
use super::apply::failed;
use crate::container::{GivenMount, GivenSource};
use crate::image::StoreError;
use crate::model::{
    Bind, ContainerName, ContainerSpec, ImageMount, ImageReference, Mount, MountSource, Propagation, Recursive,
    VolumeMount, VolumeName, VolumeRef,
};
use crate::plan::MountTable;
use crate::reconcile::ActionError;
use crate::volume::Ready;

/// Why a file or a folder of the host is not given to a container.
#[derive(Debug, thiserror::Error)]
enum BindError {
    #[error("volumes: the bind source {} at {target} does not exist; create it, or write `bind: {{create_host_path: true}}`", source_path.display())]
    Missing { source_path: PathBuf, target: String },
    #[error("volumes: the bind source {} at {target} is a symbolic link to something that is not there; repair it", source_path.display())]
    Dangling { source_path: PathBuf, target: String },
    #[error("volumes: the bind source {} at {target} lies in the daemon's own {what}; nothing of it is given to containers", source_path.display())]
    Ours { source_path: PathBuf, target: String, what: &'static str },
    #[error("volumes: the bind source {} at {target} leads below {}, which is not mounted ({why}); mount it", source_path.display(), point.display())]
    Unmounted { source_path: PathBuf, target: String, point: PathBuf, why: String },
    #[error("volumes: the bind source {} at {target} cannot be {step}", source_path.display())]
    Io {
        source_path: PathBuf,
        target: String,
        step: &'static str,
        #[source]
        source: io::Error,
    },
}

/// An image that a container mounts is not whole any more.
#[derive(Debug, thiserror::Error)]
#[error("volumes: the image {reference} at {target} is not here as the container was made with it; pull {needed}")]
struct ImageError {
    reference: ImageReference,
    target: String,
    needed: String,
    #[source]
    source: Option<StoreError>,
}

/// Folders of which nothing is given away.
#[derive(Debug, Clone)]
pub struct Own {
    /// The data directory.
    pub data: PathBuf,
    /// The run directory.
    pub run: PathBuf,
}

impl LinuxHost {
    /// Everything that is mounted for this start, and what must be kept until it is done.
    pub(super) async fn mounts_for(&self, spec: &ContainerSpec) -> Result<(Vec<GivenMount>, Vec<Ready>), ActionError> {
        let all = self.wanted(spec);
        let mut ready: BTreeMap<VolumeName, Ready> = BTreeMap::new();
        // In the order of their names: of two who fill the same ones neither waits for the other's.
        let volumes: BTreeMap<VolumeName, &VolumeRef> =
            all.iter().filter_map(volume).map(|mount| (mount.volume.name(&spec.slot), &mount.volume)).collect();
        for (name, reference) in volumes {
            let volume = reference.volume(&spec.slot);
            ready.insert(name, self.volumes.ready(&volume).await.map_err(|e| failed(&e))?);
        }
        let mut filled = BTreeSet::new();
        let mut given = Vec::new();
        for mount in &all {
            given.push(match &mount.source {
                MountSource::Bind(bind) => self.bind(mount, bind).await?,
                MountSource::Volume(volume) => {
                    let name = volume.volume.name(&spec.slot);
                    let Some(ready) = ready.get(&name) else { continue };
                    // The first one that may fills it.
                    let fills = ready.fill.is_some() && !volume.no_copy && volume.subpath.is_none();
                    let fill = if fills && filled.insert(name) { ready.fill.clone() } else { None };
                    let in_use = fill.is_some() && self.volumes_in_use().contains(&volume.volume.name(&spec.slot));
                    of_volume(mount, volume, ready.path.clone(), fill.map(|staging| (staging, in_use)))
                }
                MountSource::Image(image) => self.image_mount(spec, mount, image).map_err(|e| failed(&e))?,
            });
        }
        // Where they lie now is where they belong: after a boot they wait for it.
        if let Err(error) = self.mounts.remember(&self.bind_sources()) {
            tracing::warn!(%error, "on which mounts containers are is not written down");
        }
        Ok((given, ready.into_values().collect()))
    }

    /// Those of the file, and the image's own volumes where nothing of the file's is.
    fn wanted(&self, spec: &ContainerSpec) -> Vec<Mount> {
        let mut all = spec.service.mounts.clone();
        for target in self.containers.image_volumes(&spec.id) {
            let target = target.trim_end_matches('/').to_owned();
            let taken = all.iter().any(|mount| mount.target == target)
                || spec.service.isolation.tmpfs.iter().any(|tmpfs| tmpfs.target == target);
            if target.starts_with('/') && !taken {
                let (of, labels) = (spec.slot.service.clone(), BTreeMap::new());
                let volume = VolumeRef::Anonymous { of, target: target.clone(), labels };
                let source = MountSource::Volume(VolumeMount { volume, subpath: None, no_copy: false });
                all.push(Mount { target, source, read_only: false, owner: None });
            }
        }
        all
    }

    /// What containers that exist have of the host.
    fn bind_sources(&self) -> BTreeSet<PathBuf> {
        let all = self.containers.observe().into_values().flat_map(|container| container.spec.service.mounts);
        let source = |mount: Mount| match mount.source {
            MountSource::Bind(bind) => Some(self.state_dir.join(bind.source)),
            MountSource::Volume(_) | MountSource::Image(_) => None,
        };
        all.filter_map(source).collect()
    }

    async fn bind(&self, mount: &Mount, bind: &Bind) -> Result<GivenMount, ActionError> {
        let source = self.state_dir.join(&bind.source);
        let (asked, target, create, own) = (source.clone(), mount.target.clone(), bind.create, self.own.clone());
        let table = self.mounts.table();
        let looked = tokio::task::spawn_blocking(move || look(&asked, &target, create, &own, &table));
        looked.await.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
        Ok(GivenMount {
            source: GivenSource::Path(source),
            target: mount.target.clone(),
            read_only: mount.read_only,
            propagation: bind.propagation,
            recursive: bind.recursive,
            label: bind.label,
            owner: mount.owner,
            subpath: None,
            fill: None,
            in_use: false,
        })
    }

    /// The layers of the manifest that the container was made with.
    fn image_mount(
        &self,
        spec: &ContainerSpec,
        mount: &Mount,
        image: &ImageMount,
    ) -> Result<GivenMount, Box<ImageError>> {
        let ImageMount { reference, subpath } = image;
        let digest = spec.mounted.get(reference);
        let gone = |source: Option<StoreError>| {
            Box::new(ImageError {
                reference: reference.clone(),
                target: mount.target.clone(),
                needed: digest.map_or_else(
                    || reference.to_string(),
                    |digest| format!("{}/{}@{digest}", reference.registry(), reference.repository()),
                ),
                source,
            })
        };
        let layers = self.images.layers(digest.ok_or_else(|| gone(None))?).map_err(|error| gone(Some(error)))?;
        Ok(GivenMount {
            source: GivenSource::Image { name: reference.to_string(), layers },
            target: mount.target.clone(),
            read_only: true,
            propagation: Propagation::Private,
            recursive: Recursive::Disabled,
            label: None,
            owner: mount.owner,
            subpath: subpath.clone(),
            fill: None,
            in_use: false,
        })
    }

    /// Which containers that exist have which volumes.
    #[must_use]
    pub fn volume_users(&self) -> BTreeMap<VolumeName, Vec<ContainerName>> {
        let mut users: BTreeMap<VolumeName, Vec<ContainerName>> = BTreeMap::new();
        for container in self.containers.observe().into_values() {
            for name in self.volume_names(&container.spec) {
                users.entry(name).or_default().push(container.spec.name.clone());
            }
        }
        users.values_mut().for_each(|names| names.sort());
        users
    }

    /// The volumes that something that runs has.
    #[must_use]
    pub fn volumes_in_use(&self) -> BTreeSet<VolumeName> {
        let alive = self.containers.observe().into_values().filter(|container| container.state.alive());
        alive.flat_map(|container| self.volume_names(&container.spec)).collect()
    }

    pub(super) fn volume_names(&self, spec: &ContainerSpec) -> BTreeSet<VolumeName> {
        self.wanted(spec).iter().filter_map(volume).map(|mount| mount.volume.name(&spec.slot)).collect()
    }

    /// What the options of volumes mounted that nothing alive has any more is unmounted.
    pub(super) async fn release_volumes(&self, names: &BTreeSet<VolumeName>) {
        let used = self.volumes_in_use();
        for name in names.difference(&used) {
            self.volumes.release(name).await;
        }
    }
}

fn volume(mount: &Mount) -> Option<&VolumeMount> {
    match &mount.source {
        MountSource::Volume(volume) => Some(volume),
        MountSource::Bind(_) | MountSource::Image(_) => None,
    }
}

fn of_volume(mount: &Mount, volume: &VolumeMount, source: PathBuf, fill: Option<(PathBuf, bool)>) -> GivenMount {
    let in_use = fill.as_ref().is_some_and(|(_, in_use)| *in_use);
    GivenMount {
        source: GivenSource::Path(source),
        target: mount.target.clone(),
        read_only: mount.read_only,
        propagation: Propagation::Private,
        recursive: Recursive::Enabled,
        label: None,
        owner: mount.owner,
        subpath: volume.subpath.clone(),
        fill: fill.map(|(staging, _)| staging),
        in_use,
    }
}

/// Whether a source may be given, and is there; it is made where that was asked for.
fn look(source: &Path, target: &str, create: bool, own: &Own, table: &MountTable) -> Result<(), BindError> {
    let (source_path, target) = (source.to_owned(), target.to_owned());
    let real = match fs::canonicalize(source) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Something on the way may be a link to nowhere: nothing is made behind it.
            if source.ancestors().any(|path| fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink()) && !path.exists())
            {
                return Err(BindError::Dangling { source_path, target });
            }
            if !create {
                return Err(BindError::Missing { source_path, target });
            }
            refuse_own(source, &target, own)?;
            // What is there of the way, with its links followed.
            let there = source.ancestors().find_map(|above| fs::canonicalize(above).ok());
            refuse_unmounted(there.as_deref().unwrap_or(source), &target, table)?;
            let made =
                DirBuilder::new().recursive(true).mode(0o755).create(source).and_then(|()| fs::canonicalize(source));
            made.map_err(|source| BindError::Io { source_path, target: target.clone(), step: "made", source })?
        }
        Err(source) => return Err(BindError::Io { source_path, target, step: "looked at", source }),
    };
    refuse_own(&real, &target, own)?;
    refuse_unmounted(&real, &target, table)
}

/// A link may lead below a mount point that should be one and is not, and one may have gone since the planner looked.
fn refuse_unmounted(real: &Path, target: &str, table: &MountTable) -> Result<(), BindError> {
    let Some((point, why)) = table.absent_above(real) else { return Ok(()) };
    let (source_path, target) = (real.to_owned(), target.to_owned());
    Err(BindError::Unmounted { source_path, target, point: point.to_owned(), why: why.to_owned() })
}

fn refuse_own(path: &Path, target: &str, own: &Own) -> Result<(), BindError> {
    for (folder, what) in [(&own.data, "data directory"), (&own.run, "run directory")] {
        // Its socket is asked for by name.
        let socket = what == "run directory" && path.extension().is_some_and(|extension| extension == "sock");
        if path.starts_with(folder) && !socket {
            return Err(BindError::Ours { source_path: path.to_owned(), target: target.to_owned(), what });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_there_or_made_where_asked_or_told() {
        let temp = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(temp.path()).unwrap();
        let own = Own { data: root.join("data"), run: root.join("run") };
        let gone = BTreeMap::from([(root.join("disk"), "fstab".to_owned())]);
        let table = MountTable { expected: gone, ..MountTable::default() };
        let look =
            |path: &str, create: bool| look(&root.join(path), "/m", create, &own, &table).map_err(|e| e.to_string());
        fs::create_dir_all(root.join("data/x")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("dangling")).unwrap();
        std::os::unix::fs::symlink("data", root.join("hidden")).unwrap();
        assert!(look("a/b", false).unwrap_err().contains("does not exist; create it"));
        assert!(!root.join("a").exists());
        look("a/b", true).unwrap();
        look("a/b", false).unwrap();
        for path in ["dangling", "dangling/x"] {
            assert!(look(path, true).unwrap_err().contains("symbolic link to something that is not there"), "{path}");
        }
        for path in ["data", "data/x", "data/new", "hidden/x", "hidden"] {
            assert!(look(path, true).unwrap_err().contains("data directory"), "{path}");
        }
        assert!(!root.join("data/new").exists());
        // A link to what is not mounted, and a folder that would be made below it.
        fs::create_dir(root.join("disk")).unwrap();
        std::os::unix::fs::symlink("disk", root.join("link")).unwrap();
        for path in ["disk", "link", "link/new", "disk/a/b"] {
            assert!(look(path, true).unwrap_err().contains("which is not mounted"), "{path}");
        }
        assert_eq!(fs::read_dir(root.join("disk")).unwrap().count(), 0);
    }
}
