//! Everything a container needs before its runtime is called: namespaces, root, user, files, configuration.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::Pid;

use super::asked::{Asked, sysctl_path};
use super::net::Net;
use super::userns::{Gathered, PLACE, raise_limits};
use super::{ShimError, doing, etc, files, mounts};
use crate::container::confine::bounding;
use crate::container::device_filter;
use crate::container::link::{CONTAINER, GIVEN, GivenRecord, Order};
use crate::container::oci::{self, Surroundings};
use crate::container::privileges::{self, Privileges};
use crate::container::record::{ContainerRecord, ImageDefaults};
use crate::container::resources::{self, Blocks};
use crate::container::seccomp;
use crate::container::{userns, users};
use crate::model::{Capability, ContainerSpec, DeviceRule, Namespace, NetworkMode, Owner, Resources};
use crate::rootfs::{IdRange, Overlay, Writes, make_dirs};

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
    /// What its processes may do.
    pub(super) privileges: Privileges,
    /// The devices that it may use.
    pub(super) device_rules: Vec<DeviceRule>,
    /// The SELinux label of its processes.
    pub(super) label: Option<String>,
    /// Its network namespace.
    pub(super) net: Net,
    /// System controls of it.
    network_sysctls: BTreeMap<String, String>,
}

/// What the runtime mounts.
struct Parts {
    root: PathBuf,
    etc: PathBuf,
    init: PathBuf,
}

impl Stage {
    pub(super) fn set(order: &Order) -> Result<Self, ShimError> {
        let contents = files::receive(order)?;
        let json = fs::read(order.folder.join(CONTAINER)).map_err(doing("reading the container's record"))?;
        let record = ContainerRecord::parse(&json)?;
        let spec = record.spec.to_model()?;
        let asked = Asked::gather(order, &spec)?;
        let ids = order.ids.map(IdRange::from);
        let net = Net::gather(order, &spec)?;
        let shared = mounts::Shared::open(order)?;
        enter_namespaces(&net, &spec.service.network, ids.is_none())?;
        let etc = etc::write(order, &spec, &net.attached.links, &outer_name(order, &spec))?;
        let context = asked.labels.as_ref().map(|labels| labels.files.as_str());
        let parts = match ids {
            None => Parts { root: mount_root(order, &record.layers, context)?, etc, init: order.init.clone() },
            Some(range) => {
                let gathered = Gathered::new(range)?;
                let root = gathered.root(order, &record.layers, range, context)?;
                Parts { root, etc: gathered.etc(&etc)?, init: gathered.init(&order.init)? }
            }
        };
        let privileges = privileges::granted(&spec.service.isolation, order, bounding());
        let (bundle, owner) =
            write_config(order, &spec, privileges, &record.image_defaults, &parts, (&asked, &shared, &contents))?;
        let device_rules = device_filter::allowed(&spec.service.isolation, &asked.devices);
        let label = asked.labels.map(|labels| labels.process);
        let stage = Self {
            spec,
            bundle,
            ids,
            owner,
            privileges,
            device_rules,
            label,
            net,
            network_sysctls: asked.network_sysctls,
        };
        if ids.is_none() {
            stage.set_network()?;
        }
        Ok(stage)
    }

    /// A network namespace that the runtime made is prepared from inside; the shim stays in it, as it does in its own.
    pub(super) fn join_network(&self, init: Pid) -> Result<(), ShimError> {
        if self.ids.is_none() || !self.spec.service.network.own() {
            return Ok(());
        }
        Net::enter(init)?;
        self.net.set_up()?;
        self.set_network()
    }

    /// In the container's network namespace.
    fn set_network(&self) -> Result<(), ShimError> {
        for (name, value) in &self.network_sysctls {
            fs::write(sysctl_path(name), value)
                .map_err(|error| ShimError::Runtime(format!("sysctls: {name} cannot be set to {value:?}: {error}")))?;
        }
        Ok(())
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
///
/// A network namespace is made here only for a container with the host's users: else it must belong to its user namespace.
fn enter_namespaces(net: &Net, network: &NetworkMode, here: bool) -> Result<(), ShimError> {
    net.share()?;
    let own = network.own() && here;
    let flags = if own { CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET } else { CloneFlags::CLONE_NEWNS };
    unshare(flags).map_err(doing("making namespaces"))?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .map_err(doing("separating the mounts"))?;
    if own { net.set_up() } else { Ok(()) }
}

fn mount_root(order: &Order, layers: &[PathBuf], context: Option<&str>) -> Result<PathBuf, ShimError> {
    let root = order.run.join("rootfs");
    let (upper, work) = (order.folder.join("upper"), order.folder.join("work"));
    for folder in [&root, &upper, &work] {
        fs::create_dir_all(folder).map_err(doing("making the folders of the root"))?;
    }
    let writes = Some(Writes { upper: &upper, work: &work });
    Overlay { layers, writes, nodev: !order.device_guard, context }.mount(&root)?;
    Ok(root)
}

fn write_config(
    order: &Order,
    spec: &ContainerSpec,
    privileges: Privileges,
    image: &ImageDefaults,
    parts: &Parts,
    (asked, shared, contents): (&Asked, &mounts::Shared, &files::Contents),
) -> Result<(PathBuf, (u32, u32)), ShimError> {
    let process = &spec.service.process;
    let isolation = &spec.service.isolation;
    let root = parts.root.as_path();
    let ids = order.ids.map(IdRange::from);
    let mut who = users::look_up(root, process.user.as_deref().unwrap_or(&image.user))?;
    for group in users::look_up_groups(root, &isolation.groups)?.iter().chain(&asked.edits.groups) {
        if !who.groups.contains(group) {
            who.groups.push(*group);
        }
    }
    let owner = userns::owner(&who, ids).map_err(ShimError::Runtime)?;
    let work = || make_dirs(root, oci::working_dir(process, image));
    match ids {
        None => work()?,
        Some(range) => range.as_root(work).map_err(doing("working as the container's root"))??,
    }
    if oci::command(process, image).is_empty() {
        return Err(ShimError::Runtime("no command: neither the file nor the image names one".into()));
    }
    let place = if ids.is_some() { Path::new(PLACE).join("mounts") } else { order.run.join("mounts") };
    let user = Owner { uid: who.uid, gid: who.gid };
    let mut binds = asked.edits.mounts.clone();
    let context = asked.labels.as_ref().map(|labels| labels.files.as_str());
    let of = mounts::For { root, ids, user, place, context };
    binds.extend(mounts::prepare(order, shared, &of)?);
    binds.extend(files::prepare(order, contents, &of)?);
    let embedded = order.runtime.is_none();
    let around = Surroundings {
        root,
        etc: &parts.etc,
        cgroup: &order.cgroup,
        machine: &order.machine,
        blocks: &limits(order, spec)?,
        init: &parts.init,
        host_name: &outer_name(order, spec),
        masked: &thermal_throttles(),
        cgroup_mounts: &cgroup_mounts(),
        nofile_hard: most_open_files()?,
        oom_score: match isolation.oom_score {
            Some(score) => asked_oom_score(score)?,
            None => oom_score(),
        },
        own_users: ids.is_some(),
        devices: &asked.devices,
        binds: &binds,
        variables: &asked.edits.environment,
        sysctls: &asked.sysctls,
        labels: asked.labels.as_ref(),
        time_namespace: embedded && Path::new("/proc/self/ns/time").exists(),
        privileges,
        embedded,
    };
    let mut config = oci::config(spec, image, &who, &around);
    if binds.iter().any(|bind| bind.options.iter().any(|option| option == "rshared")) {
        // Else the runtime would cut it off from the host.
        config["linux"]["rootfsPropagation"] = "shared".into();
    }
    if !embedded {
        let profile = seccomp::oci_for(&isolation.seccomp, isolation.privileged, privileges.capabilities)?;
        if let Some(profile) = profile {
            config["linux"]["seccomp"] = profile;
        }
    }
    if let Some(range) = ids {
        let mqueue = Path::new("/dev/mqueue").is_dir();
        let sys = match spec.service.network {
            NetworkMode::None | NetworkMode::Networks(_) => None,
            NetworkMode::Host => Some("/sys".to_owned()),
            NetworkMode::Service(_) | NetworkMode::Container(_) => Some(Gathered::sys()?),
        };
        userns::adapt(&mut config, range, sys.as_deref(), mqueue);
        raise_limits(&config)?;
    }
    let bundle = order.run.join("bundle");
    fs::create_dir_all(&bundle).map_err(doing("making the bundle"))?;
    fs::write(bundle.join("config.json"), config.to_string()).map_err(doing("writing the configuration"))?;
    let given =
        GivenRecord { capabilities: privileges.capabilities.mask(), no_new_privileges: privileges.no_new_privileges };
    let given = serde_json::to_vec(&given).map_err(|e| ShimError::Runtime(e.to_string()))?;
    fs::write(bundle.join(GIVEN), given).map_err(doing("writing what it is given"))?;
    Ok((bundle, owner))
}

/// Checks the limits, and looks up what they name.
fn limits(order: &Order, spec: &ContainerSpec) -> Result<Blocks, ShimError> {
    let wanted = &spec.service.resources;
    resources::check(wanted)?;
    resources::prepare_start(&order.machine, &order.cgroup, wanted)?;
    Ok(Blocks::look(wanted)?)
}

/// Where cgroups are seen in a container: one folder, or one of each hierarchy in it.
fn cgroup_mounts() -> Vec<String> {
    const ROOT: &str = "/sys/fs/cgroup";
    let mut mounts = vec![ROOT.to_owned()];
    if !Path::new(ROOT).join("cgroup.controllers").exists() {
        let entries = fs::read_dir(ROOT).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        mounts.extend(folders.map(|folder| format!("{ROOT}/{}", folder.file_name().to_string_lossy())));
    }
    mounts
}

/// All that containers are given, where we may raise our limit to that; else our own.
fn most_open_files() -> Result<u64, ShimError> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(doing("reading the limit of open files"))?;
    let may_raise = Capability::parse("SYS_RESOURCE").is_some_and(|capability| bounding().contains(capability));
    Ok(if may_raise { hard.max(oci::NOFILE.1) } else { hard })
}

/// What the file asks for, if we may go there.
fn asked_oom_score(score: i16) -> Result<i32, ShimError> {
    let own = fs::read_to_string(OOM_SCORE).map_err(doing("reading our own oom_score_adj"))?;
    fs::write(OOM_SCORE, score.to_string()).map_err(|error| {
        ShimError::Runtime(format!(
            "oom_score_adj: {score} is less than this machine lets the daemon give (its own is {}): {error}",
            own.trim()
        ))
    })?;
    // Where we may not go back we are less protected, no more.
    let _ = fs::write(OOM_SCORE, own.trim());
    Ok(score.into())
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

/// The name of a container without one of its own: that of whom it shares the network with.
fn outer_name(order: &Order, spec: &ContainerSpec) -> String {
    let other = order.network.etc.as_ref().filter(|_| spec.service.isolation.uts == Namespace::Private);
    let name = other.and_then(|etc| fs::read_to_string(etc.join("hostname")).ok());
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(host_name)
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
