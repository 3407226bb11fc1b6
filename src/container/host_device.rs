//! Devices of the host that are put into a container.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::model::{Device, DeviceAccess, DeviceKind, DeviceRule};

/// One device file, as it is in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDevice {
    /// In the container; absolute.
    pub path: String,
    /// On the host.
    pub source: PathBuf,
    /// Block or character.
    pub kind: DeviceKind,
    /// Its number.
    pub major: u32,
    /// Its number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What may be done with it.
    pub access: DeviceAccess,
}

/// Why a device cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// It cannot be looked at.
    #[error("the device {} of the host cannot be used", .0.display())]
    Missing(PathBuf, #[source] io::Error),
    /// A file.
    #[error("{} is not a device, nor a folder with devices", .0.display())]
    NoDevice(PathBuf),
}

/// Of which Docker leaves out the same: a container has its own.
const OWN: [&str; 9] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console", "ptmx"];
/// Folders of devices are looked into so deep.
const DEPTH: usize = 8;

impl HostDevice {
    /// The rule that allows it.
    #[must_use]
    pub fn rule(&self) -> DeviceRule {
        DeviceRule { kind: self.kind, major: Some(self.major), minor: Some(self.minor), access: self.access }
    }

    /// As a runtime's configuration has it.
    #[must_use]
    pub fn oci(&self) -> Value {
        json!({
            "path": self.path,
            "type": if self.kind == DeviceKind::Block { "b" } else { "c" },
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        })
    }
}

/// The device, or all devices of the folder. A link is followed, as with other engines: `/dev/disk/by-id/…` names a device.
pub fn find(device: &Device) -> Result<Vec<HostDevice>, DeviceError> {
    let source = Path::new(&device.source);
    let meta = fs::metadata(source).map_err(|error| DeviceError::Missing(source.to_owned(), error))?;
    if let Some(found) = read(source, &device.target, device.access, &meta) {
        return Ok(vec![found]);
    }
    let mut found = Vec::new();
    if meta.is_dir() {
        walk(source, &device.target, device.access, DEPTH, &mut found)?;
    }
    if found.is_empty() { Err(DeviceError::NoDevice(source.to_owned())) } else { Ok(found) }
}

/// All devices of the host, but for those that every container has of its own.
pub fn all() -> Result<Vec<HostDevice>, DeviceError> {
    let mut found = Vec::new();
    walk(Path::new("/dev"), "/dev", DeviceAccess::ALL, DEPTH, &mut found)?;
    Ok(found)
}

fn walk(
    folder: &Path,
    target: &str,
    access: DeviceAccess,
    depth: usize,
    found: &mut Vec<HostDevice>,
) -> Result<(), DeviceError> {
    let fail = |error| DeviceError::Missing(folder.to_owned(), error);
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let (name, path) = (entry.file_name(), entry.path());
        let Some(name) = name.to_str().filter(|name| !OWN.contains(name)) else { continue };
        // Devices come and go; one that went is not one.
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let target = format!("{}/{name}", target.trim_end_matches('/'));
        if meta.is_dir() && depth > 0 {
            walk(&path, &target, access, depth - 1, found)?;
        }
        found.extend(read(&path, &target, access, &meta));
    }
    Ok(())
}

fn read(source: &Path, target: &str, access: DeviceAccess, meta: &fs::Metadata) -> Option<HostDevice> {
    let kind = match meta.file_type() {
        kind if kind.is_block_device() => DeviceKind::Block,
        kind if kind.is_char_device() => DeviceKind::Character,
        _ => return None,
    };
    Some(HostDevice {
        path: target.to_owned(),
        source: source.to_owned(),
        kind,
        major: libc::major(meta.rdev()),
        minor: libc::minor(meta.rdev()),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        access,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(source: &str) -> Device {
        Device { source: source.into(), target: "/dev/x".into(), access: DeviceAccess::ALL }
    }

    #[test]
    fn devices_are_looked_up_on_the_host() {
        let null = find(&device("/dev/null")).expect("a device");
        assert_eq!((null.len(), null[0].major, null[0].minor, null[0].path.as_str()), (1, 1, 3, "/dev/x"));
        let folder = tempfile::tempdir().expect("a folder");
        let text = |path: &Path| find(&device(&path.to_string_lossy())).expect_err("no device").to_string();
        assert!(text(folder.path()).contains("is not a device"));
        assert!(text(&folder.path().join("gone")).contains("gone of the host cannot be used"));
    }
}
