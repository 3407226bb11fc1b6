//! The rule for what must be mounted: nothing is started below a mount point that should be one and is not, so that nothing is written
//! where the mount will hide it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::WaitingOn;
use crate::model::{ContainerSpec, MountSource, VolumeMount, VolumeRef};

/// What is mounted on the host, and what should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountTable {
    /// What relative sources begin at.
    pub state_dir: PathBuf,
    /// Mount points.
    pub points: BTreeSet<PathBuf>,
    /// Paths that should be mount points, each with who says so.
    pub expected: BTreeMap<PathBuf, String>,
}

impl MountTable {
    /// The mount point that this path is on or below, that should be mounted and is not; and who says so.
    #[must_use]
    pub fn absent_above(&self, path: &Path) -> Option<(&Path, &str)> {
        let absent = |(point, _): &(&PathBuf, &String)| path.starts_with(point) && !self.points.contains(*point);
        self.expected.iter().find(absent).map(|(point, why)| (point.as_path(), why.as_str()))
    }

    /// The mount point below this path that should be mounted and is not. Who is given the root of the host is not asked: it has all that
    /// is mounted now and later.
    #[must_use]
    pub fn absent_in(&self, path: &Path) -> Option<(&Path, &str)> {
        let below = |point: &Path| path.parent().is_some() && point.starts_with(path);
        let absent = |(point, _): &(&PathBuf, &String)| below(point) && !self.points.contains(*point);
        self.expected.iter().find(absent).map(|(point, why)| (point.as_path(), why.as_str()))
    }
}

/// The mount that a container waits for, if there is one.
pub(super) fn missing(table: &MountTable, spec: &ContainerSpec) -> Option<WaitingOn> {
    let wait = |path: PathBuf, point: &Path, why: &str| WaitingOn::Mount {
        path,
        point: point.to_owned(),
        why: why.to_owned(),
    };
    let binds = spec.service.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Bind(bind) => Some((table.state_dir.join(&bind.source), !mount.read_only)),
        MountSource::Volume(volume) => device(volume).map(|device| (device, !mount.read_only)),
        MountSource::Image(_) => None,
    });
    let below = binds.into_iter().find_map(|(path, written)| {
        let absent = table.absent_above(&path).or_else(|| table.absent_in(&path).filter(|_| written));
        absent.map(|(point, why)| wait(path.clone(), point, why))
    });
    let required = || {
        let required = spec.service.required_mounts.iter().map(|path| table.state_dir.join(path));
        let mut open = required.into_iter().filter(|path| !on_a_mount(table, path));
        open.next().map(|path| wait(path.clone(), &path, "`require_mount` asks for it"))
    };
    below.or_else(required)
}

/// The folder of the host that a volume is, by its options.
fn device(mount: &VolumeMount) -> Option<PathBuf> {
    let VolumeRef::Named(volume) = &mount.volume else { return None };
    volume.device().map(Path::to_owned)
}

/// Whether it is a mount point, or lies below one other than the root of the host.
fn on_a_mount(table: &MountTable, path: &Path) -> bool {
    path.ancestors().any(|above| above.parent().is_some() && table.points.contains(above))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Bind, ContainerId, Digest, ImageReference, Mount, ProjectName, Propagation, Recursive, ServiceName, Slot,
        SpecHash,
    };
    use crate::plan::sim::Chance;

    fn spec(sources: &[&str], required: &[&str]) -> ContainerSpec {
        let mut service = crate::plan::histories::service(ServiceName::parse("a").unwrap(), 0, &mut Chance::new(1));
        let mount = |source: &&str| Mount {
            target: "/m".into(),
            source: MountSource::Bind(Bind {
                source: source.into(),
                create: true,
                propagation: Propagation::Private,
                recursive: Recursive::Enabled,
                label: None,
            }),
            read_only: false,
            owner: None,
        };
        service.mounts = sources.iter().map(mount).collect();
        service.required_mounts = required.iter().map(PathBuf::from).collect();
        service.hash = SpecHash::of(b"x");
        let slot = Slot { project: ProjectName::parse("p").unwrap(), service: service.name.clone(), number: 1 };
        let digest = Digest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap();
        let id = ContainerId::derive(&slot, &service.hash, &digest);
        crate::plan::slot::container_spec(id, &slot, &service, &ImageReference::parse("b").unwrap(), &digest)
    }

    #[test]
    fn nothing_starts_below_what_should_be_mounted() {
        let table = |points: &[&str]| MountTable {
            state_dir: "/state".into(),
            points: points.iter().map(PathBuf::from).collect(),
            expected: BTreeMap::from([("/mnt/disk".into(), "/etc/fstab names it".into())]),
        };
        let waits = |points: &[&str], sources: &[&str], required: &[&str]| {
            missing(&table(points), &spec(sources, required)).map(|on| match on {
                WaitingOn::Mount { path, point, .. } => (path.display().to_string(), point.display().to_string()),
                other => panic!("{other:?}"),
            })
        };
        let on = |path: &str, point: &str| Some((path.to_owned(), point.to_owned()));
        assert_eq!(waits(&["/"], &["/mnt/disk/data"], &[]), on("/mnt/disk/data", "/mnt/disk"));
        assert_eq!(waits(&["/"], &["/mnt/disk"], &[]), on("/mnt/disk", "/mnt/disk"));
        assert_eq!(waits(&["/", "/mnt/disk"], &["/mnt/disk/data"], &[]), None);
        assert_eq!(waits(&["/"], &["/mnt/disk2", "/srv", "data"], &[]), None);
        assert_eq!(waits(&["/"], &["/mnt"], &[]), on("/mnt", "/mnt/disk"), "it lies below");
        assert_eq!(waits(&["/", "/mnt/disk"], &["/mnt"], &[]), None);
        assert_eq!(waits(&["/"], &["/"], &[]), None);
        assert_eq!(waits(&["/"], &[], &["/srv/x"]), on("/srv/x", "/srv/x"));
        assert_eq!(waits(&["/"], &[], &["data"]), on("/state/data", "/state/data"));
        assert_eq!(waits(&["/", "/srv"], &["/srv/x"], &["/srv/x"]), None, "it lies on one");
        assert_eq!(waits(&["/", "/state/data"], &[], &["data"]), None);
    }
}
