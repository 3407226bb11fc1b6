//! User namespaces of containers: what they change in the runtime's configuration, and what a machine must have for them.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::{Value, json};

use super::Settings;
use super::oci::Identity;
use super::subids::Stamp;
use crate::rootfs::IdRange;

/// The shim's argument that makes it look whether a file system can show other owners.
pub const PROBE: &str = "can-show-other-owners";
/// Overlay mounts take idmapped layers from here on.
const KERNEL: (u32, u32) = (5, 19);

/// Changes `config.json` for a container whose ids are this range. The network namespace, where it has its own, must belong to the user
/// namespace, or its /sys could not be mounted; so the runtime makes it. What it shares it can see through mounts of the host's users
/// only: /sys (`sys`: where it is, if the network is shared), /proc, /dev/mqueue (`mqueue`: whether the host has that).
pub fn adapt(config: &mut Value, range: IdRange, sys: Option<&str>, mqueue: bool) {
    let mapping = |first: u32| json!([{ "containerID": 0, "hostID": first, "size": range.size }]);
    let linux = &mut config["linux"];
    (linux["uidMappings"], linux["gidMappings"]) = (mapping(range.uid), mapping(range.gid));
    let mut namespaces = linux["namespaces"].as_array().cloned().unwrap_or_default();
    namespaces.push(json!({ "type": "user" }));
    if sys.is_none() {
        namespaces.push(json!({ "type": "network" }));
    }
    let shares = |name: &str| !namespaces.iter().any(|namespace| namespace["type"] == name);
    let shared = [
        ("sysfs", sys.unwrap_or("/sys"), shares("network")),
        ("proc", "/proc", shares("pid")),
        ("mqueue", "/dev/mqueue", shares("ipc")),
    ];
    linux["namespaces"] = Value::from(namespaces.clone());
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.retain(|mount| mqueue || !shares("ipc") || mount["type"] != "mqueue");
        for (kind, source, _) in shared.iter().filter(|(_, _, shared)| *shared) {
            for mount in mounts.iter_mut().filter(|mount| mount["type"] == *kind) {
                let mut options = vec![json!("rbind"), json!("rprivate")];
                // By itself `ro` is for the topmost mount alone.
                let recursive = |option: &Value| if option == "ro" { json!("rro") } else { option.clone() };
                options.extend(mount["options"].as_array().into_iter().flatten().map(recursive));
                *mount = json!({
                    "type": "bind", "source": source, "destination": mount["destination"], "options": options,
                });
            }
        }
    }
}

/// User and group of the container as the host has them; where the range does not hold them, why not.
pub fn owner(who: &Identity, range: Option<IdRange>) -> Result<(u32, u32), String> {
    let Some(range) = range else { return Ok((who.uid, who.gid)) };
    let ids = [("user", who.uid), ("group", who.gid)].into_iter().chain(who.groups.iter().map(|gid| ("group", *gid)));
    if let Some((what, id)) = ids.into_iter().find(|(_, id)| *id >= range.size) {
        let size = range.size;
        let words = format!(
            "{what} {id} is not among the {size} ids of the container's own users; ask for more: userns_mode: auto:size={}",
            id + 1
        );
        return Err(words);
    }
    Ok((range.uid + who.uid, range.gid + who.gid))
}

/// Why this machine's kernel has no user namespaces for containers.
#[must_use]
pub fn lacking() -> Option<String> {
    if !Path::new("/proc/self/ns/user").exists() {
        return Some("the kernel has no user namespaces".to_owned());
    }
    let most = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    if most.trim() == "0" {
        return Some("user namespaces are switched off (user.max_user_namespaces is 0)".to_owned());
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    (version(release) < KERNEL).then(|| {
        let (major, minor) = KERNEL;
        format!("the kernel is {release}; overlay mounts take idmapped layers from {major}.{minor} on")
    })
}

/// Why there can be no container with users of its own here: the kernel, nobody's ids, the file system of the data directory. Who is told
/// to add a line to a file is believed once the file has changed.
#[derive(Debug, Default)]
pub(super) struct LackingUsers {
    seen: Mutex<Option<([Stamp; 2], Option<String>)>>,
    /// Does not change while we run.
    disk: OnceLock<Option<String>>,
}

impl LackingUsers {
    /// Why. Blocks the first time.
    pub(super) fn look(&self, settings: &Settings, exe: &Path) -> Option<String> {
        let now = settings.ids.stamps();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, why)) = seen.as_ref().filter(|(stamps, _)| *stamps == now) {
            return why.clone();
        }
        let disk = || self.disk.get_or_init(|| lacking_on_disk(&settings.data_dir, exe)).clone();
        let why = lacking().or_else(|| settings.ids.lacking()).or_else(disk);
        *seen = Some((now, why.clone()));
        why
    }
}

fn lacking_on_disk(data_dir: &Path, exe: &Path) -> Option<String> {
    let mut command = Command::new(exe);
    match command.arg0("longshore").args(["shim", PROBE]).arg(data_dir).env_clear().output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        Err(error) => Some(format!("it cannot be tried whether files can be shown with other owners: {error}")),
    }
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_by_their_release() {
        assert_eq!(version("6.1.0-56-cloud-amd64"), (6, 1));
        assert!(version("5.18.19") < KERNEL && version("5.19-rc1") >= KERNEL && version("6.1") > KERNEL);
        assert_eq!(version(""), (0, 0));
    }

    #[test]
    fn a_user_outside_of_the_range_is_said_so() {
        let who = Identity { uid: 33, gid: 5, groups: vec![99], ..Identity::default() };
        let owner = |size| owner(&who, Some(IdRange { uid: 1000, gid: 2000, size }));
        assert_eq!(super::owner(&who, None), Ok((33, 5)));
        assert_eq!(owner(100), Ok((1033, 2005)));
        assert!(owner(99).is_err_and(|e| e.starts_with("group 99 ") && e.ends_with("auto:size=100")));
        assert!(owner(33).is_err_and(|e| e.starts_with("user 33 ")));
    }

    #[test]
    fn the_configuration_gets_its_namespaces_and_ids() {
        let whole = json!({
            "mounts": [
                { "type": "proc" },
                { "type": "sysfs", "destination": "/sys", "options": ["ro"] },
                { "type": "mqueue", "destination": "/dev/mqueue", "options": [] },
            ],
            "linux": { "namespaces": [{ "type": "pid" }, { "type": "ipc" }] },
        });
        let range = IdRange { uid: 1000, gid: 2000, size: 10 };
        let (mut own, mut host) = (whole.clone(), whole.clone());
        adapt(&mut own, range, None, true);
        assert_eq!(own["linux"]["uidMappings"], json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]));
        assert_eq!(own["linux"]["gidMappings"][0]["hostID"], 2000);
        let named = |config: &Value| config["linux"]["namespaces"].as_array().expect("some").clone();
        let types = |config: &Value| named(config).iter().map(|n| n["type"].clone()).collect::<Vec<_>>();
        assert_eq!(types(&own), ["pid", "ipc", "user", "network"]);
        assert_eq!(own["mounts"][1]["type"], "sysfs");
        adapt(&mut host, range, Some("/sys"), false);
        assert_eq!(types(&host), ["pid", "ipc", "user"]);
        assert_eq!((&host["mounts"][1]["source"], &host["mounts"][1]["destination"]), (&json!("/sys"), &json!("/sys")));
        assert_eq!(host["mounts"][1]["options"], json!(["rbind", "rprivate", "rro"]));
        assert_eq!((&host["mounts"][0]["type"], &host["mounts"][2]["type"]), (&json!("proc"), &json!("mqueue")));
        let mut shares = whole;
        shares["linux"]["namespaces"] = json!([]);
        adapt(&mut shares, range, None, false);
        assert_eq!(shares["mounts"].as_array().expect("some").len(), 2, "there is no /dev/mqueue to show");
        assert_eq!(shares["mounts"][0]["source"], "/proc");
    }
}
