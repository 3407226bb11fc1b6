//! Devices are refused before the container's command runs: what the runtime allows on its own is taken back, and on cgroup v2 our
//! program is attached. Between create and start; the only step here that knows where the cgroup is.

use std::fs;
use std::io;
use std::path::Path;

use super::{ShimError, doing};
use crate::container::device_filter::{TUN, allows_tun, attach, program};
use crate::container::link::{DeviceCgroup, Order};
use crate::model::{DeviceAccess, DeviceKind, DeviceRule};

pub(super) fn refuse_devices(order: &Order, rules: &[DeviceRule]) -> Result<(), ShimError> {
    match &order.device_cgroup {
        None => Ok(()),
        Some(DeviceCgroup { folder, unified: true }) => {
            attach(&program(rules), folder).map_err(doing("attaching the program that refuses devices"))
        }
        Some(DeviceCgroup { folder, .. }) => refuse_tun(folder, rules).map_err(doing("refusing the tunnel device")),
    }
}

/// Runtimes allow it to every container; there is no reason to. What the file allows of it is given back.
fn refuse_tun(folder: &Path, rules: &[DeviceRule]) -> io::Result<()> {
    if rules.iter().any(|rule| rule.kind == DeviceKind::All && rule.access == DeviceAccess::ALL && rule.major.is_none())
    {
        return Ok(());
    }
    match fs::write(folder.join("devices.deny"), format!("c {}:{} rwm", TUN.0, TUN.1)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        done => done?,
    }
    for rule in rules.iter().filter(|rule| allows_tun(std::slice::from_ref(rule))) {
        fs::write(folder.join("devices.allow"), format!("c {}:{} {}", TUN.0, TUN.1, rule.access.text()))?;
    }
    Ok(())
}
