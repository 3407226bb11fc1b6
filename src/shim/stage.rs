//! Everything a container needs before its runtime is called: namespaces, root, user, files, configuration.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit};

use super::{ShimError, doing, net};
use crate::container::link::{CONTAINER, Order};
use crate::container::oci::{self, Surroundings};
use crate::container::record::{ContainerRecord, ImageDefaults};
use crate::container::resources::{self, Blocks};
use crate::container::seccomp;
use crate::container::users;
use crate::model::{ContainerSpec, NetworkMode, Resources};
use crate::rootfs::{Overlay, make_dirs};

/// How readily the kernel kills this process for want of memory.
pub(super) const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// A container that is ready to be created.
pub(super) struct Stage {
    /// What it is.
    pub(super) spec: ContainerSpec,
    /// The folder with `config.json`.
    pub(super) bundle: PathBuf,
}

impl Stage {
    pub(super) fn set(order: &Order) -> Result<Self, ShimError> {
        let json = fs::read(order.folder.join(CONTAINER)).map_err(doing("reading the container's record"))?;
        let record = ContainerRecord::parse(&json)?;
        let spec = record.spec.to_model()?;
        enter_namespaces(spec.service.network)?;
        let root = mount_root(order, &record.layers)?;
        let etc = write_etc(order, &spec)?;
        let bundle = write_config(order, &spec, &record.image_defaults, &root, &etc)?;
        Ok(Self { spec, bundle })
    }

    /// Writes the limits to the cgroups that the runtime has made: runtimes leave some out (libcontainer `oom_kill_disable`, weights
    /// of devices, and on v2 every weight of block I/O, which it gets wrong), or understand others in their own way.
    pub(super) fn limit(&self, order: &Order) -> Result<(), ShimError> {
        let wanted = &self.spec.service.resources;
        if *wanted != Resources::default() {
            resources::write(&order.machine, &order.cgroup, None, wanted)?;
        }
        Ok(())
    }
}

/// From here on no mount of ours reaches the host; the host's still reach us, so that what is unmounted there is not held here.
fn enter_namespaces(network: NetworkMode) -> Result<(), ShimError> {
    let flags = match network {
        NetworkMode::None => CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET,
        NetworkMode::Host => CloneFlags::CLONE_NEWNS,
    };
    unshare(flags).map_err(doing("making namespaces"))?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .map_err(doing("separating the mounts"))?;
    match network {
        NetworkMode::None => net::prepare().map_err(doing("preparing the network namespace")),
        NetworkMode::Host => Ok(()),
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
    root: &Path,
    etc: &Path,
) -> Result<PathBuf, ShimError> {
    let process = &spec.service.process;
    let who = users::look_up(root, process.user.as_deref().unwrap_or(&image.user))?;
    make_dirs(root, oci::working_dir(process, image))?;
    if oci::command(process, image).is_empty() {
        return Err(ShimError::Runtime("no command: neither the file nor the image names one".into()));
    }
    let (_, nofile_hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(doing("reading the limit of open files"))?;
    let embedded = order.runtime.is_none();
    let around = Surroundings {
        root,
        etc,
        cgroup: &order.cgroup,
        machine: &order.machine,
        blocks: &limits(order, spec)?,
        init: &order.init,
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
    let bundle = order.run.join("bundle");
    fs::create_dir_all(&bundle).map_err(doing("making the bundle"))?;
    fs::write(bundle.join("config.json"), config.to_string()).map_err(doing("writing the configuration"))?;
    Ok(bundle)
}

/// Checks the limits, and looks up what they name.
fn limits(order: &Order, spec: &ContainerSpec) -> Result<Blocks, ShimError> {
    let wanted = &spec.service.resources;
    resources::check(wanted)?;
    resources::prepare(&order.machine, &order.cgroup, wanted)?;
    Ok(Blocks::look(wanted)?)
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
