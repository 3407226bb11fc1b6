//! Everything a container needs before its runtime is called: namespaces, root, user, files, configuration.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::Pid;

use super::userns::Gathered;
use super::{ShimError, doing, net};
use crate::container::link::{CONTAINER, Order};
use crate::container::oci::{self, Surroundings};
use crate::container::record::{ContainerRecord, ImageDefaults};
use crate::container::seccomp;
use crate::container::{userns, users};
use crate::model::{ContainerSpec, NetworkMode};
use crate::rootfs::{IdRange, Overlay, make_dirs};

/// How readily the kernel kills this process for want of memory.
pub(super) const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// A container that is ready to be created.
pub(super) struct Stage {
    /// What it is.
    pub(super) spec: ContainerSpec,
    /// The folder with `config.json`.
    pub(super) bundle: PathBuf,
    /// The ids of its own users; none: the host's.
    pub(super) ids: Option<IdRange>,
    /// User and group that its command runs as, as the host has them.
    pub(super) owner: (u32, u32),
}

/// What the runtime mounts.
struct Parts {
    root: PathBuf,
    etc: PathBuf,
    init: PathBuf,
}

impl Stage {
    pub(super) fn set(order: &Order) -> Result<Self, ShimError> {
        let json = fs::read(order.folder.join(CONTAINER)).map_err(doing("reading the container's record"))?;
        let record = ContainerRecord::parse(&json)?;
        let spec = record.spec.to_model()?;
        let ids = order.ids.map(IdRange::from);
        enter_namespaces(spec.service.network, ids.is_none())?;
        let etc = write_etc(order, &spec)?;
        let parts = match ids {
            None => Parts { root: mount_root(order, &record.layers)?, etc, init: order.init.clone() },
            Some(range) => {
                let gathered = Gathered::new(range)?;
                let root = gathered.root(order, &record.layers, range)?;
                Parts { root, etc: gathered.etc(&etc)?, init: gathered.init(&order.init)? }
            }
        };
        let (bundle, owner) = write_config(order, &spec, &record.image_defaults, &parts)?;
        Ok(Self { spec, bundle, ids, owner })
    }
}

impl Stage {
    /// A network namespace that the runtime made is prepared from inside; the shim stays in it, as it does in its own.
    pub(super) fn join_network(&self, init: Pid) -> Result<(), ShimError> {
        if self.ids.is_none() || self.spec.service.network != NetworkMode::None {
            return Ok(());
        }
        let namespace =
            fs::File::open(format!("/proc/{init}/ns/net")).map_err(doing("opening the network namespace"))?;
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(doing("entering the network namespace"))?;
        net::prepare().map_err(doing("preparing the network namespace"))
    }
}

/// From here on no mount of ours reaches the host; the host's still reach us, so that what is unmounted there is not held here.
///
/// A network namespace is made here only for a container with the host's users: else it must belong to its user namespace.
fn enter_namespaces(network: NetworkMode, here: bool) -> Result<(), ShimError> {
    let flags = match network {
        NetworkMode::None if here => CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET,
        NetworkMode::None | NetworkMode::Host => CloneFlags::CLONE_NEWNS,
    };
    unshare(flags).map_err(doing("making namespaces"))?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .map_err(doing("separating the mounts"))?;
    match network {
        NetworkMode::None if here => net::prepare().map_err(doing("preparing the network namespace")),
        NetworkMode::None | NetworkMode::Host => Ok(()),
    }
}

fn mount_root(order: &Order, layers: &[PathBuf]) -> Result<PathBuf, ShimError> {
    let root = order.run.join("rootfs");
    let (upper, work) = (order.folder.join("upper"), order.folder.join("work"));
    for folder in [&root, &upper, &work] {
        fs::create_dir_all(folder).map_err(doing("making the folders of the root"))?;
    }
    Overlay { layers, upper: &upper, work: &work, nodev: !order.device_guard }.mount(&root)?;
    Ok(root)
}

/// `hosts`, `hostname` and `resolv.conf`. On the host's network they are copies of the host's.
fn write_etc(order: &Order, spec: &ContainerSpec) -> Result<PathBuf, ShimError> {
    let etc = order.folder.join("etc");
    fs::create_dir_all(&etc).map_err(doing("making the container's etc"))?;
    let host_name = host_name();
    let name = oci::host_name(spec, &host_name);
    let (hosts, resolv) = match spec.service.network {
        NetworkMode::Host => {
            (fs::read("/etc/hosts").unwrap_or_default(), fs::read("/etc/resolv.conf").unwrap_or_default())
        }
        NetworkMode::None => {
            let hosts = format!("127.0.0.1\tlocalhost {name}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
            (hosts.into_bytes(), Vec::new())
        }
    };
    let write =
        |file: &str, bytes: &[u8]| fs::write(etc.join(file), bytes).map_err(doing("writing the container's etc"));
    write("hosts", &hosts)?;
    write("resolv.conf", &resolv)?;
    write("hostname", format!("{name}\n").as_bytes())?;
    Ok(etc)
}

fn write_config(
    order: &Order,
    spec: &ContainerSpec,
    image: &ImageDefaults,
    parts: &Parts,
) -> Result<(PathBuf, (u32, u32)), ShimError> {
    let process = &spec.service.process;
    let root = parts.root.as_path();
    let ids = order.ids.map(IdRange::from);
    let who = users::look_up(root, process.user.as_deref().unwrap_or(&image.user))?;
    let owner = userns::owner(&who, ids).map_err(ShimError::Runtime)?;
    let work = || make_dirs(root, oci::working_dir(process, image));
    match ids {
        None => work()?,
        Some(range) => range.as_root(work).map_err(doing("working as the container's root"))??,
    }
    if oci::command(process, image).is_empty() {
        return Err(ShimError::Runtime("no command: neither the file nor the image names one".into()));
    }
    let (_, nofile_hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(doing("reading the limit of open files"))?;
    let embedded = order.runtime.is_none();
    let around = Surroundings {
        root,
        etc: &parts.etc,
        cgroup: &order.cgroup,
        init: &parts.init,
        host_name: &host_name(),
        masked: &thermal_throttles(),
        nofile_hard,
        oom_score: oom_score(),
        device_guard: order.device_guard,
        embedded,
    };
    let mut config = oci::config(spec, image, &who, &around);
    if !embedded {
        let profile = seccomp::oci(oci::capability_mask(order.device_guard))?;
        config["linux"]["seccomp"] = serde_json::to_value(profile).map_err(|e| ShimError::Runtime(e.to_string()))?;
    }
    if let Some(range) = ids {
        userns::adapt(&mut config, range, spec.service.network == NetworkMode::None);
    }
    let bundle = order.run.join("bundle");
    fs::create_dir_all(&bundle).map_err(doing("making the bundle"))?;
    fs::write(bundle.join("config.json"), config.to_string()).map_err(doing("writing the configuration"))?;
    Ok((bundle, owner))
}

/// 0, or what we have where we may not go down to it: the runtime would refuse to start the container.
fn oom_score() -> i32 {
    let own = fs::read_to_string(OOM_SCORE).ok().and_then(|text| text.trim().parse::<i32>().ok()).unwrap_or(0);
    if own <= 0 {
        return 0;
    }
    match fs::write(OOM_SCORE, "0") {
        Ok(()) => {
            // Going up is always allowed.
            let _ = fs::write(OOM_SCORE, own.to_string());
            0
        }
        Err(_) => own,
    }
}

/// One per processor, on machines that tell: a container could watch its neighbours by them.
fn thermal_throttles() -> Vec<String> {
    let path = |cpu: usize| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
    (0..)
        .take_while(|cpu| Path::new(&format!("/sys/devices/system/cpu/cpu{cpu}")).exists())
        .map(path)
        .filter(|path| Path::new(path).exists())
        .collect()
}

fn host_name() -> String {
    nix::unistd::gethostname().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Writes a file so that readers see all of it or nothing. Durability is the daemon's part.
pub(super) fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let draft = folder.join(format!(".{name}.new"));
    fs::File::create(&draft)?.write_all(bytes)?;
    fs::rename(draft, folder.join(name))
}
