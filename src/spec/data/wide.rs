//! Mounts that give a container power over the host.

use std::path::Path;

use crate::model::{Mount, MountSource, Propagation, VolumeRef};

/// What the host runs by and from; whoever writes there has the host.
const SYSTEM: [&str; 7] = ["/etc", "/boot", "/usr", "/proc", "/sys", "/dev", "/root/.ssh"];
/// Of other folders below it nothing is said.
const ALONE: [&str; 2] = ["/", "/root"];
/// Who speaks to an engine has the host, by a read-only mount too.
const SOCKETS: [&str; 6] =
    ["docker.sock", "containerd.sock", "podman.sock", "longshore.sock", "crio.sock", "buildkitd.sock"];
const FOLDERS_OF_SOCKETS: [&str; 6] =
    ["/run", "/var/run", "/run/containerd", "/run/podman", "/run/longshore", "/var/run/longshore"];

/// What to tell of a mount that the file at `state_file` asks for.
pub(super) fn said(mount: &Mount, state_file: &Path) -> Vec<String> {
    let (source, shared) = match &mount.source {
        MountSource::Bind(bind) => (bind.source.as_path(), bind.propagation == Propagation::Shared),
        MountSource::Volume(volume) => match &volume.volume {
            VolumeRef::Named(volume) => {
                let Some(device) = volume.device() else { return Vec::new() };
                (device, false)
            }
            VolumeRef::Anonymous { .. } => return Vec::new(),
        },
        MountSource::Image(_) => return Vec::new(),
    };
    let mut said = Vec::new();
    let is = |place: &&str| source == Path::new(place);
    let socket = source.file_name().is_some_and(|name| SOCKETS.iter().any(|socket| name == *socket));
    if socket {
        said.push(format!("it may order whatever it likes of the engine at {}", source.display()));
    } else if FOLDERS_OF_SOCKETS.iter().any(is) {
        said.push(format!("it sees the sockets of the host's services ({})", source.display()));
    } else if mount.read_only {
    } else if SYSTEM.iter().any(|place| source.starts_with(place)) || ALONE.iter().any(is) {
        said.push(format!("it may write to {} of the host", source.display()));
    } else if state_file.starts_with(source) {
        said.push("it may write to its own state file, and so have anything run".to_owned());
    }
    if shared {
        said.push(format!("what it mounts below {} is mounted on the host too", mount.target));
    }
    said
}
