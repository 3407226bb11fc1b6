//! Kernel parameters of networks, in the namespace of the calling thread. Each is written only where it differs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const ROOT: &str = "/proc/sys/net";

/// A parameter that has not the value it should.
#[derive(Debug, thiserror::Error)]
#[error("the kernel parameter {name} was not set to {value}; set it with sysctl -w {name}={value}")]
pub struct SysctlError {
    name: String,
    value: &'static str,
    #[source]
    source: io::Error,
}

/// Whether this machine hands packets on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarding {
    /// IPv4.
    pub ipv4: bool,
    /// IPv6; none: a kernel without it.
    pub ipv6: Option<bool>,
}

impl Forwarding {
    /// How it is now.
    #[must_use]
    pub fn look() -> Self {
        let read = |name| read(name).ok().map(|value| value != "0");
        Self { ipv4: read("ipv4/ip_forward").unwrap_or(false), ipv6: read("ipv6/conf/all/forwarding") }
    }
}

/// Lets this machine hand on IPv4.
pub fn forward_ipv4() -> Result<(), SysctlError> {
    set("ipv4/ip_forward", "1").map(drop)
}

/// Lets this machine hand on IPv6. A machine that does so asks no router for its own way out any more; the interfaces that did are told
/// to go on.
pub fn forward_ipv6() -> Result<(), SysctlError> {
    if read("ipv6/conf/all/forwarding").is_ok_and(|value| value == "1") {
        return Ok(());
    }
    for interface in fs::read_dir(Path::new(ROOT).join("ipv6/conf")).into_iter().flatten().flatten() {
        let interface = interface.file_name().to_string_lossy().into_owned();
        if !["all", "default", "lo"].contains(&interface.as_str())
            && read(&of("ipv6", &interface, "accept_ra")).is_ok_and(|value| value == "1")
        {
            gone(set(&of("ipv6", &interface, "accept_ra"), "2"))?;
        }
    }
    set("ipv6/conf/all/forwarding", "1").map(drop)
}

/// Lets connections of this machine to its own 127.0.0.1 be led into this bridge.
pub fn route_localnet(bridge: &str) -> Result<(), SysctlError> {
    set(&of("ipv4", bridge, "route_localnet"), "1").map(drop)
}

/// Whether it is so.
#[must_use]
pub fn routes_localnet(bridge: &str) -> bool {
    read(&of("ipv4", bridge, "route_localnet")).is_ok_and(|value| value == "1")
}

/// Switches IPv6 of an interface on or off. Off is how it is in a kernel without it.
pub fn ipv6(interface: &str, on: bool) -> Result<(), SysctlError> {
    let done = set(&of("ipv6", interface, "disable_ipv6"), if on { "0" } else { "1" });
    if on { done.map(drop) } else { gone(done) }
}

/// Whether IPv6 of an interface is on.
#[must_use]
pub fn has_ipv6(interface: &str) -> bool {
    read(&of("ipv6", interface, "disable_ipv6")).is_ok_and(|value| value == "0")
}

/// An interface on a wire of ours: nobody there is our router, and nobody else has our addresses.
pub fn trust_no_router(interface: &str) -> Result<(), SysctlError> {
    gone(set(&of("ipv6", interface, "accept_ra"), "0"))?;
    gone(set(&of("ipv6", interface, "accept_dad"), "0"))
}

fn of(family: &str, interface: &str, name: &str) -> String {
    format!("{family}/conf/{interface}/{name}")
}

/// A parameter that this kernel does not have needs not be set.
fn gone(done: Result<bool, SysctlError>) -> Result<(), SysctlError> {
    match done {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map(drop),
    }
}

fn path(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

fn read(name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path(name))?.trim().to_owned())
}

/// Whether it had to be written.
fn set(name: &str, value: &'static str) -> Result<bool, SysctlError> {
    if read(name).is_ok_and(|now| now == value) {
        return Ok(false);
    }
    fs::write(path(name), value).map(|()| true).map_err(|source| {
        // A dot in an interface's name is written as a slash, and the other way round.
        let swap = |c| match c {
            '.' => '/',
            '/' => '.',
            c => c,
        };
        SysctlError { name: format!("net.{}", name.chars().map(swap).collect::<String>()), value, source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::netlink::tests::apart;
    use crate::network::netlink::{Request, Socket};

    #[test]
    fn a_machine_that_hands_on_ipv6_keeps_its_router() {
        apart(|| {
            let socket = Socket::open().unwrap();
            // A new namespace begins as the machine is.
            for name in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                set(name, "0").unwrap();
            }
            socket.one(Request::make_bridge("b", "b.1", None, None)).unwrap();
            let before = read("ipv6/conf/b.1/accept_ra").unwrap();
            assert_eq!(Forwarding::look(), Forwarding { ipv4: false, ipv6: Some(false) });
            assert_eq!(before, "1");
            forward_ipv4().unwrap();
            forward_ipv6().unwrap();
            assert_eq!(Forwarding::look(), Forwarding { ipv4: true, ipv6: Some(true) });
            assert_eq!(read("ipv6/conf/b.1/accept_ra").unwrap(), "2");
            trust_no_router("b.1").unwrap();
            forward_ipv6().unwrap();
            assert_eq!(read("ipv6/conf/b.1/accept_ra").unwrap(), "0", "nothing to do the second time");
        });
    }

    #[test]
    fn parameters_of_one_interface() {
        apart(|| {
            Socket::open().unwrap().one(Request::make_bridge("b", "b.1", None, None)).unwrap();
            route_localnet("b.1").unwrap();
            assert!(routes_localnet("b.1") && !routes_localnet("lo") && !routes_localnet("gone"));
            assert!(has_ipv6("b.1"));
            ipv6("b.1", false).unwrap();
            assert!(!has_ipv6("b.1"));
            ipv6("gone", false).unwrap();
            let error = route_localnet("b.2").unwrap_err().to_string();
            assert!(error.contains("net.ipv4.conf.b/2.route_localnet"), "{error}");
        });
    }
}
