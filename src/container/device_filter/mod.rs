//! Which devices a container may use: rules that allow, everything else is refused. On cgroup v1 the controller takes them; on v2 a
//! program of ours does, which is attached to the container's cgroup.

mod attach;
mod program;

use serde_json::{Value, json};

pub use attach::attach;
pub use program::program;

use super::host_device::HostDevice;
use crate::model::{DeviceAccess, DeviceKind, DeviceRule, Isolation};

/// The tunnel device, which runtimes allow by themselves on v1.
pub const TUN: (u32, u32) = (10, 200);

/// Null, zero, full, random, urandom, tty, console, ptmx, pseudo terminals: what every container may use.
const USUAL: [(u32, Option<u32>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

/// What a container is allowed. Device files of any kind may be made (who has the capability), as with other engines; that does not
/// mean that they can be opened.
#[must_use]
pub fn allowed(isolation: &Isolation, devices: &[HostDevice]) -> Vec<DeviceRule> {
    let all = DeviceRule { kind: DeviceKind::All, major: None, minor: None, access: DeviceAccess::ALL };
    if isolation.privileged {
        return vec![all];
    }
    let make = DeviceAccess { read: false, write: false, make: true };
    let mut rules: Vec<DeviceRule> =
        [DeviceKind::Character, DeviceKind::Block].map(|kind| DeviceRule { kind, access: make, ..all }).to_vec();
    rules.extend(USUAL.map(|(major, minor)| DeviceRule {
        kind: DeviceKind::Character,
        major: Some(major),
        minor,
        access: DeviceAccess::ALL,
    }));
    rules.extend(devices.iter().map(HostDevice::rule));
    rules.extend(&isolation.device_rules);
    rules
}

/// Whether any of the rules is about the tunnel device.
#[must_use]
pub fn allows_tun(rules: &[DeviceRule]) -> bool {
    let is = |wanted: u32, number: Option<u32>| number.is_none_or(|n| n == wanted);
    rules.iter().any(|rule| {
        rule.kind != DeviceKind::Block
            && is(TUN.0, rule.major)
            && is(TUN.1, rule.minor)
            && (rule.access.read || rule.access.write)
    })
}

/// As a runtime's configuration has them: everything is refused, then the rules.
#[must_use]
pub fn oci(rules: &[DeviceRule]) -> Value {
    let written = rules.iter().map(|rule| {
        let mut one = json!({ "allow": true, "type": letter(rule.kind), "access": rule.access.text() });
        for (name, number) in [("major", rule.major), ("minor", rule.minor)] {
            if let Some(number) = number {
                one[name] = number.into();
            }
        }
        one
    });
    std::iter::once(json!({ "allow": false, "access": "rwm" })).chain(written).collect()
}

fn letter(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::All => "a",
        DeviceKind::Block => "b",
        DeviceKind::Character => "c",
    }
}
