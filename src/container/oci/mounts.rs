//! What is mounted in a container, beside its root. Pure.

use std::path::Path;

use serde_json::{Value, json};

use super::{INIT, Surroundings};
use crate::container::host_device::HostDevice;
use crate::model::{ContainerSpec, Ipc, Tmpfs};

const SHM_BYTES: u64 = 64 * 1024 * 1024;
const CLOSED: [&str; 3] = ["nosuid", "noexec", "nodev"];

/// In the order in which they are made: a later one may lie in an earlier one.
pub(super) fn mounts(spec: &ContainerSpec, around: &Surroundings<'_>) -> Vec<Value> {
    let isolation = &spec.service.isolation;
    let access = if isolation.privileged { "rw" } else { "ro" };
    let shm = isolation.shm_bytes.unwrap_or(SHM_BYTES);
    let closed = |further: &[&str]| CLOSED.iter().chain(further).map(|o| (*o).to_owned()).collect::<Vec<_>>();
    let texts = |options: &[&str]| options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>();
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let mut mounts = vec![
        mount("proc", "proc", "/proc", &closed(&[])),
        mount("tmpfs", "tmpfs", "/dev", &texts(&["nosuid", "strictatime", "mode=755", "size=65536k"])),
        mount("devpts", "devpts", "/dev/pts", &texts(&pts)),
        mount("sysfs", "sysfs", "/sys", &closed(&[access])),
        mount("cgroup", "cgroup", "/sys/fs/cgroup", &closed(&[access])),
        mount("mqueue", "mqueue", "/dev/mqueue", &closed(&[])),
    ];
    match isolation.ipc {
        Ipc::Private => {
            mounts.push(mount("tmpfs", "shm", "/dev/shm", &closed(&["mode=1777", &format!("size={shm}")])));
        }
        Ipc::None => {}
        Ipc::Host => mounts.push(bind(Path::new("/dev/shm"), "/dev/shm", &texts(&["rbind", "rprivate"]))),
    }
    let mut own: Vec<&Tmpfs> = isolation.tmpfs.iter().collect();
    own.sort_by_key(|tmpfs| Path::new(&tmpfs.target).components().count());
    for tmpfs in own {
        // It takes the place of ours.
        mounts.retain(|mount| mount["destination"] != tmpfs.target.as_str());
        mounts.push(mount("tmpfs", "tmpfs", &tmpfs.target, &tmpfs_options(&tmpfs.options)));
    }
    for name in ["resolv.conf", "hostname", "hosts"] {
        mounts.push(bind(&around.etc.join(name), &format!("/etc/{name}"), &texts(&["rbind", "rprivate"])));
    }
    for given in around.binds {
        // It takes the place of ours.
        mounts.retain(|mount| mount["destination"] != given.target.as_str());
        let mut options = given.options.clone();
        if !options.iter().any(|option| option.ends_with("bind")) {
            options.push("rbind".to_owned());
        }
        mounts.push(bind(Path::new(&given.source), &given.target, &options));
    }
    for device in around.devices.iter().filter(|device| !made(device, around)) {
        mounts.push(bind(&device.source, &device.path, &texts(&["bind", "nosuid", "noexec"])));
    }
    if spec.service.process.init {
        mounts.push(bind(around.init, INIT, &texts(&["bind", "ro", "nosuid", "nodev"])));
    }
    // One that lies in another comes after it.
    mounts.sort_by_key(|mount| Path::new(mount["destination"].as_str().unwrap_or_default()).components().count());
    mounts
}

/// Whether the runtime makes its file: in /dev alone. Nobody makes any in a user namespace; there a runtime would show the host's file of
/// the container's path, which may be another device.
pub(super) fn made(device: &HostDevice, around: &Surroundings<'_>) -> bool {
    device.path.starts_with("/dev/") && (!around.own_users || is_everywhere(&device.path))
}

/// Whether runtimes make the file unasked.
#[must_use]
pub fn is_everywhere(path: &str) -> bool {
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/urandom", "/dev/random"].contains(&path)
}

fn mount(kind: &str, source: &str, at: &str, options: &[String]) -> Value {
    json!({ "type": kind, "source": source, "destination": at, "options": options })
}

fn bind(source: &Path, at: &str, options: &[String]) -> Value {
    json!({ "type": "bind", "source": source, "destination": at, "options": options })
}

/// Docker's defaults, but where the file says the opposite.
fn tmpfs_options(asked: &[String]) -> Vec<String> {
    let mut options: Vec<String> = CLOSED.iter().map(|o| (*o).to_owned()).collect();
    for option in asked {
        options.retain(|known| known != option && known.strip_prefix("no") != Some(option));
        // These are what a mount is without the option.
        if !matches!(option.as_str(), "suid" | "exec" | "dev" | "rw" | "defaults") {
            options.push(option.clone());
        }
    }
    options
}

/// The first option of a `tmpfs` that is none of mount(8).
#[must_use]
pub fn unknown_option(options: &[String]) -> Option<&str> {
    const PLAIN: [&str; 21] = [
        "ro",
        "rw",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "exec",
        "noexec",
        "sync",
        "async",
        "dirsync",
        "mand",
        "nomand",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "relatime",
        "norelatime",
        "strictatime",
        "defaults",
    ];
    const VALUED: [&str; 8] = ["size", "nr_blocks", "nr_inodes", "mode", "uid", "gid", "mpol", "huge"];
    let known = |option: &str| match option.split_once('=') {
        Some((name, value)) => VALUED.contains(&name) && !value.is_empty(),
        None => PLAIN.contains(&option),
    };
    options.iter().map(String::as_str).find(|option| !known(option))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tmpfs_is_closed_unless_its_file_opens_it() {
        let seen = |options: &[&str]| tmpfs_options(&options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>());
        assert_eq!(seen(&[]), CLOSED);
        assert_eq!(seen(&["size=1m", "exec"]), ["nosuid", "nodev", "size=1m"]);
        assert_eq!(seen(&["ro", "dev", "suid", "noexec"]), ["ro", "noexec"]);
        let unknown = |option: &str| unknown_option(&["ro".to_owned(), option.to_owned()]).is_some();
        assert!(unknown("soze=1m") && unknown("size=") && unknown("exce"));
        assert!(!unknown("mode=1777") && !unknown("uid=5") && !unknown("exec"));
    }
}
