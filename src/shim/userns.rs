//! The root of a container with a user namespace of its own: every layer, its own files and its `etc` are seen through idmapped
//! mounts, at a place that the container's root can reach.
//!
//! The runtime mounts inside of the namespace, as a user who is nobody on the host and may not pass through our folders (0700). So
//! all it needs is gathered on [`PLACE`], which everybody may reach and nobody else uses: an empty folder on the host, and a small file
//! system of its own in each shim's mount namespace.
//!
//! ```text
//! PLACE/rootfs   the root       PLACE/etc   hosts, hostname, resolv.conf       PLACE/init   our init
//! PLACE/sys      /sys, where the network is another container's
//! PLACE/layers/N, PLACE/own     what the root is made of, until it is mounted
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;

use super::{ShimError, doing};
use crate::container::link::Order;
use crate::rootfs::{IdRange, Mapping, Overlay, Writes};

/// Where a container's root is gathered. Never removed: that would unmount it from whoever is just starting.
pub(super) const PLACE: &str = "/run/longshore-root";

/// The gathered things.
pub(super) struct Gathered {
    mapping: Mapping,
}

impl Gathered {
    pub(super) fn new(range: IdRange) -> Result<Self, ShimError> {
        match fs::DirBuilder::new().mode(0o755).create(PLACE) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(doing(
                    "making /run/longshore-root, where roots of containers with users of their own are put together",
                )(error));
            }
            _ => {}
        }
        mount(Some("longshore"), PLACE, Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755,size=1m"))
            .map_err(doing("making room for the root"))?;
        Ok(Self { mapping: Mapping::new(range)? })
    }

    /// Mounts the root.
    pub(super) fn root(
        &self,
        order: &Order,
        layers: &[PathBuf],
        range: IdRange,
        context: Option<&str>,
    ) -> Result<PathBuf, ShimError> {
        let root = folder("rootfs")?;
        let mut mapped = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            let at = folder(&format!("layers/{number}"))?;
            self.mapping.bind(layer, &at)?;
            mapped.push(at);
        }
        // Upper and work must be of one mount.
        let own = folder("own")?;
        self.mapping.bind(&order.folder, &own)?;
        let (upper, work) = (own.join("upper"), own.join("work"));
        let writes = Some(Writes { upper: &upper, work: &work });
        let overlay = Overlay { layers: &mapped, writes, nodev: !order.device_guard, context };
        // The overlay writes as whoever mounted it, who must be somebody in the upper folder.
        range.as_root(|| overlay.mount(&root)).map_err(doing("mounting as the container's root"))??;
        for part in mapped.iter().chain([&own]) {
            umount2(part, MntFlags::MNT_DETACH).map_err(doing("letting go of the layers"))?;
        }
        Ok(root)
    }

    /// Its own `etc`, which its root may write.
    pub(super) fn etc(&self, etc: &Path) -> Result<PathBuf, ShimError> {
        let at = folder("etc")?;
        self.mapping.bind(etc, &at)?;
        Ok(at)
    }

    /// `/sys` as it is in the network namespace that we are in and that is not the container's own: its users could not mount it.
    pub(super) fn sys() -> Result<String, ShimError> {
        let at = folder("sys")?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("sysfs"), &at, Some("sysfs"), flags, None::<&str>)
            .map_err(doing("mounting /sys for the container"))?;
        Ok(at.display().to_string())
    }

    /// Our init.
    pub(super) fn init(&self, init: &Path) -> Result<PathBuf, ShimError> {
        let at = Path::new(PLACE).join("init");
        File::create(&at).map_err(doing("making room for the init"))?;
        self.mapping.bind(init, &at)?;
        Ok(at)
    }
}

fn folder(name: &str) -> Result<PathBuf, ShimError> {
    let path = Path::new(PLACE).join(name);
    fs::create_dir_all(&path).map_err(doing("making the folders of the root"))?;
    Ok(path)
}

/// Raises our own hard limits to those of the container: inside of its user namespace the runtime may not.
pub(super) fn raise_limits(config: &Value) -> Result<(), ShimError> {
    for limit in config["process"]["rlimits"].as_array().into_iter().flatten() {
        let (name, wanted) = (limit["type"].as_str().unwrap_or_default(), limit["hard"].as_u64().unwrap_or_default());
        let Some((_, resource)) = LIMITS.iter().find(|(known, _)| *known == name) else { continue };
        let (soft, hard) = getrlimit(*resource).map_err(doing("reading our own limits"))?;
        if wanted > hard {
            setrlimit(*resource, soft, wanted).map_err(|error| {
                ShimError::Runtime(format!("the limit {name} cannot be raised from {hard} to {wanted}: {error}"))
            })?;
        }
    }
    Ok(())
}

const LIMITS: [(&str, Resource); 16] = [
    ("RLIMIT_AS", Resource::RLIMIT_AS),
    ("RLIMIT_CORE", Resource::RLIMIT_CORE),
    ("RLIMIT_CPU", Resource::RLIMIT_CPU),
    ("RLIMIT_DATA", Resource::RLIMIT_DATA),
    ("RLIMIT_FSIZE", Resource::RLIMIT_FSIZE),
    ("RLIMIT_LOCKS", Resource::RLIMIT_LOCKS),
    ("RLIMIT_MEMLOCK", Resource::RLIMIT_MEMLOCK),
    ("RLIMIT_MSGQUEUE", Resource::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", Resource::RLIMIT_NICE),
    ("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE),
    ("RLIMIT_NPROC", Resource::RLIMIT_NPROC),
    ("RLIMIT_RSS", Resource::RLIMIT_RSS),
    ("RLIMIT_RTPRIO", Resource::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", Resource::RLIMIT_RTTIME),
    ("RLIMIT_SIGPENDING", Resource::RLIMIT_SIGPENDING),
    ("RLIMIT_STACK", Resource::RLIMIT_STACK),
];

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
