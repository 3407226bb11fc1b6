//! Devices are refused before the container's command runs: what the runtime allows on its own is taken back, and on cgroup v2 our
//! program is attached. Between create and start; the only step here that knows where the cgroup is.

use std::fs;
use std::io;

use super::{ShimError, doing};
use crate::container::device_filter::{TUN, allows_tun, attach, program};
use crate::container::link::{DeviceCgroup, Order};
use crate::model::DeviceRule;

pub(super) fn refuse_devices(order: &Order, rules: &[DeviceRule]) -> Result<(), ShimError> {
    match &order.device_cgroup {
        None => Ok(()),
        Some(DeviceCgroup { folder, unified: true }) => {
            attach(&program(rules), folder).map_err(doing("attaching the program that refuses devices"))
        }
        // Runtimes allow it to every container; there is no reason to.
        Some(DeviceCgroup { .. }) if allows_tun(rules) => Ok(()),
        Some(DeviceCgroup { folder, .. }) => {
            match fs::write(folder.join("devices.deny"), format!("c {}:{} rwm", TUN.0, TUN.1)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                done => done.map_err(doing("refusing the tunnel device")),
            }
        }
    }
}
