//! What of the host, of volumes and of other images the container sees: each source is opened once and cloned with its attributes, at a place of this mount
//! namespace that the runtime binds from. A link that is swapped later changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::{ShimError, layered};
use crate::container::cdi::Bind;
use crate::container::link::Order;
use crate::container::{GivenMount, GivenSource};
use crate::model::{Owner, Propagation, Recursive};
use crate::rootfs::{IdRange, Mapping, copy_tree, set_attributes};

/// What is opened before this process has mounts of its own: only there do mounts go both ways.
pub(super) struct Shared(BTreeMap<String, OwnedFd>);

impl Shared {
    pub(super) fn open(order: &Order) -> Result<Self, ShimError> {
        let shared = given(order).into_iter().filter(|mount| mount.propagation == Propagation::Shared);
        let opened = shared.filter_map(|mount| match &mount.source {
            GivenSource::Path(path) => Some(clone(&mount, path).map(|tree| (mount.target.clone(), tree))),
            GivenSource::Image { .. } => None,
        });
        opened.collect::<Result<_, _>>().map(Self)
    }
}

/// For whom mounts are prepared.
pub(super) struct For<'a> {
    /// The mounted root.
    pub(super) root: &'a Path,
    /// Its own users.
    pub(super) ids: Option<IdRange>,
    /// User and group of its command, as the container has them.
    pub(super) user: Owner,
    /// Where the clones are put.
    pub(super) place: PathBuf,
    /// The SELinux label of the files of its images.
    pub(super) context: Option<&'a str>,
}

impl For<'_> {
    /// How the owners of a mount's files are shown; none: as they are.
    pub(super) fn mapping(&self, mount: &GivenMount) -> Result<Option<Mapping>, ShimError> {
        if mount.owner.is_none() && self.ids.is_none() {
            return Ok(None);
        }
        Ok(Some(Mapping::seen(self.ids, mount.owner.map(|owner| (owner, self.user)))?))
    }
}

/// In the order in which they are made: a later one may lie in an earlier one.
pub(super) fn prepare(order: &Order, shared: &Shared, of: &For<'_>) -> Result<Vec<Bind>, ShimError> {
    let mut given = given(order);
    given.sort_by_key(|mount| Path::new(&mount.target).components().count());
    given.iter().enumerate().map(|(number, mount)| one(number, mount, shared, of)).collect()
}

fn given(order: &Order) -> Vec<GivenMount> {
    order.mounts.iter().cloned().map(GivenMount::from).collect()
}

fn one(number: usize, mount: &GivenMount, shared: &Shared, of: &For<'_>) -> Result<Bind, ShimError> {
    if let (Some(staging), GivenSource::Path(source)) = (&mount.fill, &mount.source) {
        fill(mount, source, staging, of)
            .map_err(|error| failed(mount, "filling it with what the image has", &error))?;
    }
    let opened;
    let tree = match shared.0.get(&mount.target) {
        Some(tree) => tree,
        None => {
            opened = match &mount.source {
                GivenSource::Path(path) => clone(mount, path)?,
                GivenSource::Image { layers, .. } => layered::open(number, mount, layers, of)?,
            };
            &opened
        }
    };
    let recursive = mount.recursive != Recursive::Disabled;
    set_attributes(tree.as_fd(), recursive, 0, propagation(mount.propagation), None)
        .map_err(|error| failed(mount, "setting its propagation", &error))?;
    // An image's layers show their files with the right owners already.
    if let (GivenSource::Path(_), Some(mapping)) = (&mount.source, of.mapping(mount)?) {
        set_attributes(tree.as_fd(), recursive, libc::MOUNT_ATTR_IDMAP, 0, Some(&mapping)).map_err(|error| {
            failed(mount, "its file system cannot show files with other owners (idmapped mounts)", &error)
        })?;
    }
    if mount.read_only {
        let below = matches!(mount.recursive, Recursive::Enabled | Recursive::ReadOnly);
        set_attributes(tree.as_fd(), below, libc::MOUNT_ATTR_RDONLY, 0, None)
            .map_err(|error| failed(mount, "making it read-only", &error))?;
    }
    let at = of.place.join(number.to_string());
    let folder = fstat(tree).map(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
    let room = folder.map_err(io::Error::from).and_then(|folder| {
        fs::create_dir_all(&of.place)?;
        if folder { fs::create_dir_all(&at) } else { fs::File::create(&at).map(drop) }
    });
    room.map_err(|error| failed(mount, "making room for it", &error))?;
    move_mount(tree.as_fd(), "", CWD, &at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|error| failed(mount, "mounting it", &error.into()))?;
    let travel = match mount.propagation {
        Propagation::Private => "rprivate",
        Propagation::Slave => "rslave",
        Propagation::Shared => "rshared",
    };
    // Read-only it is already, with what is below it.
    let options = vec![if recursive { "rbind" } else { "bind" }.to_owned(), travel.to_owned()];
    Ok(Bind { source: at.display().to_string(), target: mount.target.clone(), options })
}

fn propagation(asked: Propagation) -> u64 {
    match asked {
        Propagation::Private => libc::MS_PRIVATE,
        // As it is opened: it follows the host, or is the host's peer.
        Propagation::Slave | Propagation::Shared => 0,
    }
}

/// `source`: what of it is seen is its subpath.
pub(super) fn clone(mount: &GivenMount, source: &Path) -> Result<OwnedFd, ShimError> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if mount.recursive != Recursive::Disabled {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let path = OFlags::PATH | OFlags::CLOEXEC;
    let source = openat2(CWD, source, path, Mode::empty(), ResolveFlags::empty()).map_err(|error| {
        failed(mount, "opening it (is it there, and does no link in it lead nowhere?)", &error.into())
    })?;
    let source = match &mount.subpath {
        None => source,
        Some(below) => {
            let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            let hint = match &mount.source {
                GivenSource::Path(_) => "make it first",
                GivenSource::Image { .. } => "the image must have it",
            };
            openat2(&source, below.as_str(), path, Mode::empty(), inside)
                .map_err(|error| failed(mount, &format!("its subpath {below} ({hint})"), &error.into()))?
        }
    };
    open_tree(&source, "", flags | OpenTreeFlags::AT_EMPTY_PATH)
        .map_err(|error| failed(mount, "cloning the mount", &error.into()))
}

/// Copies what the image has there beside the empty source, and puts it in its place.
fn fill(mount: &GivenMount, source: &Path, staging: &Path, of: &For<'_>) -> io::Result<()> {
    let path = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat2(CWD, of.root, path, Mode::empty(), ResolveFlags::empty())?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let image = match openat2(&root, mount.target.as_str(), flags, Mode::empty(), inside) {
        Ok(image) => image,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let done = copy_tree(&image, staging, of.ids).and_then(|()| {
        rustix::fs::syncfs(fs::File::open(staging)?)?;
        if mount.in_use { move_into(staging, source) } else { fs::rename(staging, source) }
    });
    if done.is_err() {
        // What failed is told; what is left of it is cleared again when the volumes are opened.
        let _ = fs::remove_dir_all(staging);
    }
    done?;
    source.parent().map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
}

/// Who runs with the empty source goes on seeing it: it is filled, not replaced.
fn move_into(staging: &Path, source: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let like = fs::symlink_metadata(staging)?;
    for entry in fs::read_dir(staging)? {
        let entry = entry?;
        let place = source.join(entry.file_name());
        // What was written there meanwhile stays.
        match rustix::fs::renameat_with(CWD, entry.path(), CWD, place, rustix::fs::RenameFlags::NOREPLACE) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    chown(source, Some(like.uid()), Some(like.gid()))?;
    fs::set_permissions(source, like.permissions())?;
    fs::remove_dir_all(staging)?;
    fs::File::open(source)?.sync_all()
}

pub(super) fn failed(mount: &GivenMount, what: &str, error: &io::Error) -> ShimError {
    let reason = match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => "there is no space left; make room, it is tried again".to_owned(),
        _ => error.to_string(),
    };
    ShimError::Runtime(format!("volumes: {} at {}: {what}: {reason}", mount.source, mount.target))
}
