//! Another image's files as the container sees them: its layers mounted over each other, with nothing above them that could be written.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use nix::mount::{MntFlags, umount2};

use super::ShimError;
use super::mounts::{For, clone, failed};
use crate::container::GivenMount;
use crate::rootfs::{Mapping, Overlay, set_attributes};

/// What is seen of the image, as a mount that is nowhere yet.
pub(super) fn open(number: usize, mount: &GivenMount, layers: &[PathBuf], of: &For<'_>) -> Result<OwnedFd, ShimError> {
    let place = of.place.join(format!("image-{number}"));
    let room = |name: &str| {
        let folder = place.join(name);
        fs::create_dir_all(&folder).map_err(|error| failed(mount, "making room for it", &error))?;
        Ok::<_, ShimError>(folder)
    };
    let root = room("root")?;
    // Of one layer alone the kernel makes no overlay.
    let mut shown = vec![room("empty")?];
    let mapped = match of.mapping(mount)? {
        Some(mapping) => map(&mapping, layers, room)?,
        None => Vec::new(),
    };
    shown.extend(if mapped.is_empty() { layers.to_vec() } else { mapped.clone() });
    let overlay = Overlay { layers: &shown, writes: None, nodev: true, context: of.context };
    match of.ids {
        Some(range) => {
            range.as_root(|| overlay.mount(&root)).map_err(|error| failed(mount, "mounting it", &error))??;
        }
        None => overlay.mount(&root)?,
    }
    let tree = clone(mount, &root)?;
    let confined = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    set_attributes(tree.as_fd(), false, confined, 0, None)
        .map_err(|error| failed(mount, "making it read-only", &error))?;
    for part in mapped.iter().chain([&root]) {
        let gone = umount2(part.as_path(), MntFlags::MNT_DETACH);
        gone.map_err(|error| failed(mount, "letting go of its layers", &io::Error::from(error)))?;
    }
    Ok(tree)
}

/// The layers with the owners that the container is to see.
fn map(
    mapping: &Mapping,
    layers: &[PathBuf],
    room: impl Fn(&str) -> Result<PathBuf, ShimError>,
) -> Result<Vec<PathBuf>, ShimError> {
    let one = |(number, layer): (usize, &PathBuf)| {
        let at = room(&number.to_string())?;
        mapping.bind(layer, &at)?;
        Ok(at)
    };
    layers.iter().enumerate().map(one).collect()
}
