//! Where the cgroup of a container is: made from its id and its parent alone, so that a daemon that was started again finds it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use super::delegation::Unit;
use crate::model::ContainerId;

/// Who makes the folder that our containers are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupDriver {
    /// systemd, where it runs and cgroups are v2 alone; else we ourselves.
    #[default]
    Auto,
    /// We ourselves: below `/longshore/INSTANCE`, or below `longshore-INSTANCE` in an absolute parent.
    Cgroupfs,
    /// systemd, as a unit that is delegated to us: in `longshore.slice`.
    Systemd,
}

/// Who makes it, decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    Cgroupfs,
    Systemd,
}

/// A parent that a container cannot be put below.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParentError {
    /// systemd owns the tree.
    #[error(
        "cgroup_parent {0:?} is not the name of a slice: systemd owns the cgroups of this machine, so it is a name that ends in .slice (shop.slice); or set cgroup-driver to cgroupfs"
    )]
    NoSlice(String),
    /// `..` and the like.
    #[error("cgroup_parent {0:?} is not a path of plain names (/shop or shop)")]
    NoPath(String),
}

/// The places of all containers.
#[derive(Debug)]
pub(super) struct Places {
    instance: String,
    pub(super) driver: Driver,
    /// Those that asked for a parent of their own.
    parents: RwLock<BTreeMap<ContainerId, String>>,
}

impl Places {
    pub(super) fn new(instance: &str, driver: Driver) -> Self {
        Self { instance: instance.to_owned(), driver, parents: RwLock::default() }
    }

    /// Remembers what a container asked for.
    pub(super) fn remember(&self, id: &ContainerId, parent: Option<&str>) {
        let mut parents = self.parents.write().unwrap_or_else(PoisonError::into_inner);
        match parent {
            Some(parent) => parents.insert(id.clone(), parent.to_owned()),
            None => parents.remove(id),
        };
    }

    fn parent(&self, id: &ContainerId) -> Option<String> {
        self.parents.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// The delegated unit that it is put into.
    pub(super) fn unit(&self, id: &ContainerId) -> Result<Unit, ParentError> {
        Unit::of(&self.instance, self.parent(id).as_deref())
    }

    /// All units of ours that there are.
    pub(super) fn units(&self) -> Vec<Unit> {
        Unit::all(&self.instance)
    }

    /// Where it is put by the driver in force.
    pub(super) fn next(&self, id: &ContainerId) -> Result<PathBuf, ParentError> {
        self.by(self.driver, id)
    }

    /// Where it may be: by the driver in force first, then by the other one, which may have been in force when it was started.
    pub(super) fn all(&self, id: &ContainerId) -> Vec<PathBuf> {
        let drivers = match self.driver {
            Driver::Cgroupfs => [Driver::Cgroupfs, Driver::Systemd],
            Driver::Systemd => [Driver::Systemd, Driver::Cgroupfs],
        };
        drivers.into_iter().filter_map(|driver| self.by(driver, id).ok()).collect()
    }

    /// The folders of containers that asked for no parent, for both drivers.
    pub(super) fn common(&self) -> [PathBuf; 2] {
        let unit = Unit::of(&self.instance, None).map(|unit| unit.path()).unwrap_or_default();
        [self.own_tree(), unit]
    }

    fn own_tree(&self) -> PathBuf {
        Path::new("/longshore").join(&self.instance)
    }

    /// What is ours in a parent that others may be in too, such as another daemon's container of the same id.
    pub(super) fn own_name(&self) -> String {
        format!("longshore-{}", self.instance)
    }

    /// Every container's folder that there is below this mount, with the parent that it asked for. Absolute parents are known from
    /// the containers that are known.
    pub(super) fn found(&self, mount: &Path) -> Vec<(ContainerId, Option<String>)> {
        let [own, unit] = self.common().map(|place| super::below(mount, &place));
        let mut found = Vec::new();
        look(&own, None, &mut found);
        let ids = |folder: &Path| super::children(folder).into_iter().filter_map(|child| id_of(&child));
        found.extend(ids(&unit).map(|id| (id, None)));
        let parents = self.parents.read().unwrap_or_else(PoisonError::into_inner).clone();
        for parent in parents.values().filter(|parent| parent.starts_with('/')).collect::<BTreeSet<_>>() {
            let folder = super::below(mount, Path::new(parent)).join(self.own_name());
            found.extend(ids(&folder).map(|id| (id, Some(parent.clone()))));
        }
        found
    }

    fn by(&self, driver: Driver, id: &ContainerId) -> Result<PathBuf, ParentError> {
        let folder = match driver {
            Driver::Systemd => self.unit(id)?.path(),
            Driver::Cgroupfs => match self.parent(id) {
                None => self.own_tree(),
                Some(parent) if parent.starts_with('/') => plain(&parent)?.join(self.own_name()),
                Some(parent) => self.own_tree().join(plain(&parent)?),
            },
        };
        Ok(folder.join(id.as_str()))
    }
}

/// Containers in our own tree, those with a parent in it too.
fn look(folder: &Path, parent: Option<&Path>, found: &mut Vec<(ContainerId, Option<String>)>) {
    for child in super::children(folder) {
        match (id_of(&child), child.file_name()) {
            (Some(id), _) => found.push((id, parent.and_then(Path::to_str).map(str::to_owned))),
            (None, Some(name)) => look(&child, Some(&parent.unwrap_or(Path::new("")).join(name)), found),
            (None, None) => {}
        }
    }
}

fn id_of(folder: &Path) -> Option<ContainerId> {
    ContainerId::from_hex(folder.file_name()?.to_str()?)
}

fn plain(parent: &str) -> Result<&Path, ParentError> {
    let path = Path::new(parent);
    let mut names = path.components().filter(|c| *c != Component::RootDir).peekable();
    let named = names.peek().is_some() && names.all(|c| matches!(c, Component::Normal(_)));
    if named { Ok(path) } else { Err(ParentError::NoPath(parent.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_its_place_by_its_parent() {
        let id = ContainerId::from_hex(&"a".repeat(64)).expect("an id");
        let place = |driver, parent: Option<&str>| {
            let places = Places::new("1234abcd", driver);
            places.remember(&id, parent);
            let path = places.next(&id).map_err(|e| e.to_string())?;
            assert_eq!(places.all(&id).first(), Some(&path));
            Ok(path.parent().expect("a parent").to_str().expect("text").to_owned())
        };
        let (own, unit) = (Driver::Cgroupfs, Driver::Systemd);
        let is = |text: &str| Ok::<_, String>(text.to_owned());
        assert_eq!(place(own, None), is("/longshore/1234abcd"));
        assert_eq!(place(own, Some("/shop/web")), is("/shop/web/longshore-1234abcd"));
        assert_eq!(place(own, Some("web")), is("/longshore/1234abcd/web"));
        assert!(place(own, Some("../x")).is_err_and(|e| e.contains("plain names")));
        assert!(place(own, Some("/")).is_err() && place(own, Some("")).is_err());
        assert_eq!(place(unit, None), is("/longshore.slice/longshore-containers-1234abcd.service"));
        assert_eq!(place(unit, Some("shop.slice")), is("/shop.slice/longshore-containers-1234abcd-shop.service"));
        assert_eq!(
            place(unit, Some("shop-web.slice")),
            is("/shop.slice/shop-web.slice/longshore-containers-1234abcd-shop-web.service")
        );
        assert_eq!(place(unit, Some("-.slice")), is("/longshore-containers-1234abcd--.service"));
        for wrong in ["/shop", "shop", ".slice", "a--b.slice", "a/b.slice", "-a.slice", "../a.slice"] {
            assert!(place(unit, Some(wrong)).is_err_and(|e| e.contains("name of a slice")), "{wrong}");
        }
    }

    #[test]
    fn who_was_started_by_the_other_driver_is_found_too() {
        let id = ContainerId::from_hex(&"a".repeat(64)).expect("an id");
        let places = Places::new("i", Driver::Systemd);
        assert_eq!(places.all(&id)[1], Path::new("/longshore/i").join(id.as_str()));
        // A path is nothing to systemd, but it may have been one to us.
        places.remember(&id, Some("/shop"));
        assert_eq!(places.all(&id), [Path::new("/shop/longshore-i").join(id.as_str())]);
    }

    #[test]
    fn two_daemons_that_read_the_same_file_share_no_place() {
        let id = ContainerId::from_hex(&"a".repeat(64)).expect("an id");
        let place = |instance, parent| {
            let places = Places::new(instance, Driver::Cgroupfs);
            places.remember(&id, parent);
            places.next(&id).expect("a place")
        };
        for parent in [None, Some("shop"), Some("/shop"), Some("/shop/web")] {
            let (one, other) = (place("1234abcd", parent), place("5678abcd", parent));
            assert!(!one.starts_with(&other) && !other.starts_with(&one), "{}", one.display());
        }
    }

    #[test]
    fn containers_are_found_below_their_parents() {
        let mount = tempfile::tempdir().expect("a folder");
        let id = |digit: &str| ContainerId::from_hex(&digit.repeat(64)).expect("an id");
        let make = |folder: &str, digit: &str| {
            let folder = mount.path().join(folder).join(id(digit).as_str());
            std::fs::create_dir_all(folder.join("inside")).expect("made");
        };
        make("longshore/i", "a");
        make("longshore/i/web", "b");
        make("longshore/i/web/low", "c");
        make("longshore/other", "d");
        make("shop/longshore-i", "e");
        make("shop/longshore-other", "f");
        make("unknown/longshore-i", "0");
        let places = Places::new("i", Driver::Cgroupfs);
        places.remember(&id("9"), Some("/shop"));
        let mut found = places.found(mount.path());
        found.sort();
        let text = |text: &str| Some(text.to_owned());
        let all = [(id("a"), None), (id("b"), text("web")), (id("c"), text("web/low")), (id("e"), text("/shop"))];
        assert_eq!(found, all);
    }
}
