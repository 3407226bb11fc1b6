//! One bound socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol as Number, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt,
};

use super::is_carried;
use crate::model::{Exposure, Protocol, Published};

/// As many as may wait.
pub(super) const BACKLOG: i32 = 4096;
/// The kernel makes the least of it that it can.
const TINY: usize = 1;

/// The address that is bound: [`Exposure::Loopback`] without one is this machine's 127.0.0.1.
pub(super) fn address(published: &Published) -> Option<IpAddr> {
    match (published.address, published.exposure) {
        (None, Exposure::Loopback) => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        (address, _) => address,
    }
}

/// Whether the kernel has both families.
pub(super) fn dual() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// `shared`: with `SO_REUSEADDR`.
pub(super) fn bound(published: &Published, shared: bool) -> Result<OwnedFd, Errno> {
    let address = address(published);
    // One socket for both families, where the kernel has both.
    let dual = address.is_none() && dual();
    let on =
        address.unwrap_or(if dual { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) });
    let family = if on.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let (kind, protocol): (_, Number) = match published.protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol))?;
    if on.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !dual)?;
    }
    if is_carried(published) {
        // A listener is alone on its port whatever it says.
        let listens = published.protocol != Protocol::Udp;
        sockopt::set_socket_reuseaddr(&socket, listens)?;
        bind(&socket, &SocketAddr::new(on, published.port))?;
        if listens {
            listen(&socket, BACKLOG)?;
        }
    } else {
        // Nobody reads from it or writes to it.
        sockopt::set_socket_recv_buffer_size(&socket, TINY)?;
        sockopt::set_socket_send_buffer_size(&socket, TINY)?;
        sockopt::set_socket_reuseaddr(&socket, shared)?;
        bind(&socket, &SocketAddr::new(on, published.port))?;
        if shared && published.protocol == Protocol::Tcp {
            // Who says so as well could have the port beside us, but not beside one that listens.
            listen(&socket, 0)?;
        }
    }
    Ok(socket)
}
