//! Events of the kernel: links, addresses, routes, forwarding, rules of the packet filter.
//!
//! An event only says that something changed. Nothing of it is read but its kind.

use std::io;

use netlink_sys::Socket;
use netlink_sys::constants::{NETLINK_NETFILTER, NETLINK_ROUTE};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// RTNLGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE, _IPV4_NETCONF, _IPV6_NETCONF (linux/rtnetlink.h).
const ROUTE_GROUPS: [u32; 7] = [1, 5, 7, 9, 11, 24, 25];
/// NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h).
const NFTABLES_GROUP: u32 = 7;

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// Links, addresses, routes or forwarding.
    pub links: bool,
    /// Rules of the packet filter.
    pub rules: bool,
}

/// Hears what changes in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Watch {
    route: AsyncFd<Socket>,
    filter: AsyncFd<Socket>,
}

impl Watch {
    /// Within a tokio runtime.
    pub fn open() -> io::Result<Self> {
        Ok(Self { route: hear(NETLINK_ROUTE, &ROUTE_GROUPS)?, filter: hear(NETLINK_NETFILTER, &[NFTABLES_GROUP])? })
    }

    /// Resolves when something changed since the last time. May be dropped: what was not read is read the next time.
    pub async fn changed(&mut self) -> io::Result<Changes> {
        tokio::select! {
            ready = self.route.readable() => ready?.clear_ready(),
            ready = self.filter.readable() => ready?.clear_ready(),
        }
        Ok(Changes { links: drain(self.route.get_ref())?, rules: drain(self.filter.get_ref())? })
    }
}

fn hear(protocol: isize, groups: &[u32]) -> io::Result<AsyncFd<Socket>> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.set_non_blocking(true)?;
    for group in groups {
        match socket.add_membership(*group) {
            // An old kernel does not tell of it; the look now and then sees it.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            done => done?,
        }
    }
    // Safe: what is registered is the socket's own descriptor, which it keeps until it is dropped.
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// Reads all there is; whether there was anything. What did not fit into the socket was something, too.
fn drain(socket: &Socket) -> io::Result<bool> {
    let mut any = false;
    let mut buffer = [0_u8; 8192];
    loop {
        match socket.recv(&mut &mut buffer[..], libc::MSG_DONTWAIT | libc::MSG_TRUNC) {
            Ok(_) => any = true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => any = true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
