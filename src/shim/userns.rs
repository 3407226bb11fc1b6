//! The root of a container with a user namespace of its own: every layer, its own files and its `etc` are seen through idmapped
//! mounts, at a place that the container's root can reach.
//!
//! The runtime mounts inside of the namespace, as a user who is nobody on the host and may not pass through our folders (0700). So
//! all it needs is gathered below one folder of the host that everybody may pass through, in the shim's own mount namespace: a
//! small file system hides what is there, from the shim alone.
//!
//! ```text
//! /mnt/rootfs   the root       /mnt/etc   hosts, hostname, resolv.conf       /mnt/init   our init
//! /mnt/layers/N, /mnt/own      what the root is made of, until it is mounted
//! ```

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::{ShimError, doing};
use crate::container::link::Order;
use crate::rootfs::{IdRange, Mapping, Overlay};

/// Folders that every system has, and that nothing of ours needs.
const PLACES: [&str; 6] = ["/mnt", "/media", "/srv", "/opt", "/home", "/boot"];

/// The gathered things.
pub(super) struct Gathered {
    place: PathBuf,
    mapping: Mapping,
}

impl Gathered {
    pub(super) fn new(order: &Order, layers: &[PathBuf], range: IdRange) -> Result<Self, ShimError> {
        let place = place(order, layers)?;
        mount(Some("longshore"), &place, Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755,size=1m"))
            .map_err(doing("making room for the root"))?;
        Ok(Self { place, mapping: Mapping::new(range)? })
    }

    /// Mounts the root.
    pub(super) fn root(
        &self,
        order: &Order,
        layers: &[PathBuf],
        range: IdRange,
        context: Option<&str>,
    ) -> Result<PathBuf, ShimError> {
        let root = self.folder("rootfs")?;
        let mut mapped = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            let at = self.folder(&format!("layers/{number}"))?;
            self.mapping.bind(layer, &at)?;
            mapped.push(at);
        }
        // Upper and work must be of one mount.
        let own = self.folder("own")?;
        self.mapping.bind(&order.folder, &own)?;
        let (upper, work) = (own.join("upper"), own.join("work"));
        let overlay = Overlay { layers: &mapped, upper: &upper, work: &work, nodev: !order.device_guard, context };
        // The overlay writes as whoever mounted it, who must be somebody in the upper folder.
        range.as_root(|| overlay.mount(&root)).map_err(doing("mounting as the container's root"))??;
        for part in mapped.iter().chain([&own]) {
            umount2(part, MntFlags::MNT_DETACH).map_err(doing("letting go of the layers"))?;
        }
        Ok(root)
    }

    /// Its own `etc`, which its root may write.
    pub(super) fn etc(&self, etc: &Path) -> Result<PathBuf, ShimError> {
        let at = self.folder("etc")?;
        self.mapping.bind(etc, &at)?;
        Ok(at)
    }

    /// Our init.
    pub(super) fn init(&self, init: &Path) -> Result<PathBuf, ShimError> {
        let at = self.place.join("init");
        File::create(&at).map_err(doing("making room for the init"))?;
        self.mapping.bind(init, &at)?;
        Ok(at)
    }

    fn folder(&self, name: &str) -> Result<PathBuf, ShimError> {
        let path = self.place.join(name);
        fs::create_dir_all(&path).map_err(doing("making the folders of the root"))?;
        Ok(path)
    }
}

/// `longshore shim PROBE FOLDER`: whether the file system of a folder can show its files with other owners; if not, says why.
pub(super) fn probe(folder: &Path) -> ExitCode {
    let range = IdRange { uid: 1, gid: 1, size: 1 };
    let unshared = unshare(CloneFlags::CLONE_NEWNS).map_err(doing("making namespaces"));
    let private = unshared.and_then(|()| {
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).map_err(doing("separating the mounts"))
    });
    let done = private.and_then(|()| Ok(Mapping::new(range)?.bind(folder, folder)?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{}", super::chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// The first that everybody may pass through and that hides nothing of ours.
fn place(order: &Order, layers: &[PathBuf]) -> Result<PathBuf, ShimError> {
    let ours = [Some(&order.folder), Some(&order.run), Some(&order.init), order.runtime.as_ref()];
    let needed: Vec<PathBuf> =
        ours.into_iter().flatten().chain(layers).filter_map(|path| path.canonicalize().ok()).collect();
    let fits = |place: &&'static str| {
        let folder = fs::symlink_metadata(place).is_ok_and(|meta| meta.is_dir() && meta.permissions().mode() & 1 == 1);
        folder && !needed.iter().any(|path| path.starts_with(place))
    };
    PLACES.into_iter().find(fits).map(PathBuf::from).ok_or_else(|| {
        let words = format!("a container with its own users needs one of {} as a folder that everybody may enter, and that holds nothing of Longshore's", PLACES.join(", "));
        ShimError::Runtime(words)
    })
}
