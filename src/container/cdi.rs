//! Devices by the Container Device Interface: files of the host that say what a device needs inside of a container.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::host_device::{self, DeviceError, HostDevice};
use crate::model::{Device, DeviceAccess, DeviceRequest, Which};

/// Where the files are looked for, unless the configuration says otherwise.
pub const FOLDERS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// No sane file is larger.
const LIMIT: u64 = 4 * 1024 * 1024;

/// What the devices add to a container.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Edits {
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Device files.
    pub devices: Vec<HostDevice>,
    /// Files and folders of the host.
    pub mounts: Vec<Bind>,
    /// Further groups of its processes.
    pub groups: Vec<u32>,
}

/// A file or a folder of the host, in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// On the host.
    pub source: String,
    /// In the container.
    pub target: String,
    /// As mount(8) has them.
    pub options: Vec<String>,
}

/// Why a device cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum CdiError {
    /// A file.
    #[error("the CDI file {} cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// Its text.
    #[error("the CDI file {} is not one: {words}", path.display())]
    Text { path: PathBuf, words: String },
    /// No such device.
    #[error("no CDI file describes {what}: looked in {places}; known are: {known}")]
    Unknown { what: String, places: String, known: String },
    /// Fewer than are asked for.
    #[error("{wanted} devices of {kind} are asked for, but the CDI files in {places} describe {there}")]
    Few { kind: String, wanted: u32, there: usize, places: String },
    /// Neither a kind nor a driver.
    #[error("a device is asked for by its capabilities {0:?} alone; name a driver (nvidia, or vendor.com/class)")]
    NoKind(Vec<String>),
    /// Programs of the host that would have to run.
    #[error(
        "the CDI device {0} has hooks, which are not run here; a file without them is needed (nvidia-ctk cdi generate --disable-hook=all)"
    )]
    Hooks(String),
    /// What is not done here.
    #[error("the CDI device {0} asks for {1}, which is not given here")]
    Unable(String, &'static str),
    /// Its device file.
    #[error("the CDI device {0}")]
    Device(String, #[source] DeviceError),
    /// `rwm`.
    #[error("the CDI device {0} has the permissions {1:?}, which are not of r, w and m")]
    Access(String, String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    kind: String,
    #[serde(default)]
    devices: Vec<Named>,
    #[serde(default)]
    container_edits: Changes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    name: String,
    #[serde(default)]
    container_edits: Changes,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Changes {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<Mount>,
    hooks: Vec<serde_json::Value>,
    net_devices: Vec<serde_json::Value>,
    intel_rdt: Option<serde_json::Value>,
    #[serde(rename = "additionalGids")]
    groups: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: String,
    #[serde(default)]
    host_path: Option<String>,
    #[serde(default)]
    permissions: Option<String>,
    #[serde(default)]
    file_mode: Option<u32>,
    #[serde(default)]
    uid: Option<u32>,
    #[serde(default)]
    gid: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mount {
    host_path: String,
    container_path: String,
    #[serde(default)]
    options: Vec<String>,
}

/// What the requests add, by the files of these folders; a file in a later folder wins over one of the same kind and device.
pub fn resolve(requests: &[DeviceRequest], folders: &[PathBuf]) -> Result<Edits, CdiError> {
    let mut edits = Edits::default();
    if requests.is_empty() {
        return Ok(edits);
    }
    let files = read_all(folders)?;
    let places = folders.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ");
    for request in requests {
        let kind = kind_of(request)?;
        let names = chosen(request, &kind, &files, &places)?;
        let mut general: Vec<*const File> = Vec::new();
        for name in names {
            let what = format!("{kind}={name}");
            let found =
                files.iter().rev().filter(|f| f.kind == kind).find_map(|file| {
                    file.devices.iter().find(|device| device.name == name).map(|device| (file, device))
                });
            let Some((file, device)) = found else {
                return Err(CdiError::Unknown { what, places, known: known(&files) });
            };
            edits.add(&what, &device.container_edits)?;
            // What all devices of a file need is added once.
            if !general.contains(&std::ptr::from_ref(file)) {
                general.push(file);
                edits.add(&what, &file.container_edits)?;
            }
        }
    }
    Ok(edits)
}

fn kind_of(request: &DeviceRequest) -> Result<String, CdiError> {
    let nvidia = request.capabilities.iter().any(|c| c == "gpu" || c == "nvidia");
    match request.driver.as_str() {
        "nvidia" => Ok("nvidia.com/gpu".into()),
        "amd" => Ok("amd.com/gpu".into()),
        "" if nvidia => Ok("nvidia.com/gpu".into()),
        "" => Err(CdiError::NoKind(request.capabilities.clone())),
        kind => Ok(kind.into()),
    }
}

/// The names of the devices that are asked for.
fn chosen(request: &DeviceRequest, kind: &str, files: &[File], places: &str) -> Result<Vec<String>, CdiError> {
    let mut there: Vec<&str> = Vec::new();
    for device in files.iter().filter(|f| f.kind == kind).flat_map(|f| &f.devices) {
        if !there.contains(&device.name.as_str()) {
            there.push(&device.name);
        }
    }
    let single: Vec<&str> = there.iter().copied().filter(|name| *name != "all").collect();
    let unknown = |what: String| CdiError::Unknown { what, places: places.to_owned(), known: known(files) };
    match &request.which {
        Which::Ids(ids) => Ok(ids.clone()),
        Which::All if there.contains(&"all") => Ok(vec!["all".to_owned()]),
        Which::All if single.is_empty() => Err(unknown(format!("any device of {kind}"))),
        Which::All => Ok(single.into_iter().map(str::to_owned).collect()),
        Which::Count(_) if single.is_empty() => Err(unknown(format!("any device of {kind}"))),
        Which::Count(count) => {
            // A device has two names at times: its number, and its serial one.
            let numbered: Vec<&str> =
                single.iter().copied().filter(|n| n.bytes().all(|b| b.is_ascii_digit())).collect();
            let from = if numbered.is_empty() { single } else { numbered };
            let (there, wanted) = (from.len(), *count);
            if there < wanted as usize {
                return Err(CdiError::Few { kind: kind.to_owned(), wanted, there, places: places.to_owned() });
            }
            Ok(from.into_iter().take(wanted as usize).map(str::to_owned).collect())
        }
    }
}

fn known(files: &[File]) -> String {
    let names = files.iter().flat_map(|f| f.devices.iter().map(|d| format!("{}={}", f.kind, d.name)));
    let names: Vec<String> = names.take(20).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn read_all(folders: &[PathBuf]) -> Result<Vec<File>, CdiError> {
    let mut files = Vec::new();
    for folder in folders {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(|error| CdiError::Read(folder.clone(), error))?,
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            if path.extension().is_some_and(|e| e == "json" || e == "yaml" || e == "yml") {
                files.push(read(&path)?);
            }
        }
    }
    Ok(files)
}

fn read(path: &Path) -> Result<File, CdiError> {
    use std::io::Read as _;
    let mut text = String::new();
    let opened = fs::File::open(path).map_err(|error| CdiError::Read(path.to_owned(), error))?;
    let length = opened.take(LIMIT + 1).read_to_string(&mut text);
    let length = length.map_err(|error| CdiError::Read(path.to_owned(), error))?;
    if length as u64 > LIMIT {
        return Err(CdiError::Text { path: path.to_owned(), words: "it is too large".into() });
    }
    // JSON is YAML, too.
    serde_saphyr::from_str(&text).map_err(|error| CdiError::Text { path: path.to_owned(), words: error.to_string() })
}

impl Edits {
    fn add(&mut self, what: &str, changes: &Changes) -> Result<(), CdiError> {
        if !changes.hooks.is_empty() {
            return Err(CdiError::Hooks(what.to_owned()));
        }
        if !changes.net_devices.is_empty() {
            return Err(CdiError::Unable(what.to_owned(), "network devices"));
        }
        if changes.intel_rdt.is_some() {
            return Err(CdiError::Unable(what.to_owned(), "a share of the processor's cache (intelRdt)"));
        }
        self.environment.extend(changes.env.iter().cloned());
        self.groups.extend(&changes.groups);
        self.mounts.extend(changes.mounts.iter().map(|mount| Bind {
            source: mount.host_path.clone(),
            target: mount.container_path.clone(),
            options: mount.options.clone(),
        }));
        for node in &changes.device_nodes {
            let access = node.permissions.as_deref().filter(|text| !text.is_empty());
            let access = access.map_or(Some(DeviceAccess::ALL), DeviceAccess::parse);
            let bad = || CdiError::Access(what.to_owned(), node.permissions.clone().unwrap_or_default());
            let source = node.host_path.clone().unwrap_or_else(|| node.path.clone());
            let device = Device { source, target: node.path.clone(), access: access.ok_or_else(bad)? };
            let found = host_device::find(&device).map_err(|error| CdiError::Device(what.to_owned(), error))?;
            self.devices.extend(found.into_iter().map(|found| HostDevice {
                mode: node.file_mode.map_or(found.mode, |mode| mode & 0o7777),
                uid: node.uid.unwrap_or(found.uid),
                gid: node.gid.unwrap_or(found.gid),
                ..found
            }));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r"
cdiVersion: 0.6.0
kind: nvidia.com/gpu
containerEdits:
  env: [DRIVER=1]
  mounts: [{ hostPath: /etc/hostname, containerPath: /driver, options: [ro, bind] }]
devices:
  - name: '0'
    containerEdits: { deviceNodes: [{ path: /dev/gpu0, hostPath: /dev/null, permissions: rw }], additionalGids: [44] }
  - name: '1'
    containerEdits: { deviceNodes: [{ path: /dev/gpu1, hostPath: /dev/zero }] }
  - name: bad
    containerEdits: { hooks: [{ hookName: createContainer, path: /bin/true }] }
  - name: net
    containerEdits: { netDevices: [{ hostInterfaceName: eth0, name: eth1 }] }
  - name: gone
    containerEdits: { deviceNodes: [{ path: /dev/no-such-gpu }] }
";

    #[test]
    fn devices_are_found_by_number_name_and_count() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("gpu.yaml"), FILE).expect("written");
        let folders = [folder.path().to_owned(), folder.path().join("none")];
        let ask = |driver: &str, which| {
            resolve(&[DeviceRequest { driver: driver.into(), which, capabilities: vec!["gpu".into()] }], &folders)
        };
        let paths = |edits: &Edits| edits.devices.iter().map(|d| d.path.clone()).collect::<Vec<_>>();
        let both = ask("nvidia", Which::Ids(vec!["0".into(), "1".into()])).expect("there");
        assert_eq!(paths(&both), ["/dev/gpu0", "/dev/gpu1"]);
        assert_eq!((both.environment.len(), both.mounts.len(), both.groups.as_slice()), (1, 1, [44].as_slice()));
        assert_eq!(both.devices[0].access.text(), "rw");
        assert_eq!(paths(&ask("", Which::Count(1)).expect("there")), ["/dev/gpu0"]);
        let error = |driver, which| {
            let error = ask(driver, which).expect_err("an error");
            format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string))
        };
        let named =
            |text: String, words: &[&str]| assert!(words.iter().all(|w| text.contains(w)), "{words:?} in {text}");
        let place = folder.path().display().to_string();
        named(error("nvidia", Which::Ids(vec!["7".into()])), &["nvidia.com/gpu=7", &place, "nvidia.com/gpu=0"]);
        named(error("nvidia", Which::Count(9)), &["9 devices", "describe 2", &place]);
        named(error("vendor.com/net", Which::All), &["any device of vendor.com/net", &place]);
        named(error("nvidia", Which::Ids(vec!["bad".into()])), &["hooks", "nvidia.com/gpu=bad"]);
        named(error("nvidia", Which::Ids(vec!["net".into()])), &["nvidia.com/gpu=net", "network devices"]);
        named(error("nvidia", Which::Ids(vec!["gone".into()])), &["nvidia.com/gpu=gone", "/dev/no-such-gpu"]);
        named(error("nvidia", Which::All), &["hooks"]);
        fs::write(folder.path().join("odd.json"), "[").expect("written");
        named(error("nvidia", Which::All), &["odd.json"]);
        assert_eq!(resolve(&[], &folders).expect("nothing is looked for"), Edits::default());
    }
}
