//! Events of the kernel: links, addresses, routes, forwarding, rules of the packet filter.
//!
//! An event says only that something changed; who hears it looks. What cannot concern us is passed over, as far as that is cheap: other
//! engines' pairs, what the kernel says again without a change (IPv6 does with each word of a router), other programs' tables.

mod read;

use std::io;

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use read::Reader;

/// Link, addresses, routes, netconf: numbers of groups of <linux/rtnetlink.h>.
const ROUTE_GROUPS: [u32; 7] = [1, 5, 9, 7, 11, 24, 25];
/// `NFNLGRP_NFTABLES`.
const RULE_GROUPS: [u32; 1] = [7];
/// Room for the events of some hundred containers that start at once.
const ROOM: usize = 1024 * 1024;
const DATAGRAM: usize = 64 * 1024;
/// So many datagrams are read before anybody else gets a turn.
const AT_ONCE: usize = 1024;

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changed {
    /// Interfaces or their addresses.
    pub links: bool,
    /// Routes.
    pub routes: bool,
    /// Whether this machine hands packets on.
    pub forwarding: bool,
    /// Rules in a table of ours.
    pub rules: bool,
}

impl Changed {
    /// Everything, perhaps: events were lost.
    const ALL: Self = Self { links: true, routes: true, forwarding: true, rules: true };

    /// Whether anything did.
    #[must_use]
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            links: self.links || other.links,
            routes: self.routes || other.routes,
            forwarding: self.forwarding || other.forwarding,
            rules: self.rules || other.rules,
        }
    }
}

/// The events of the namespace that it was opened in.
pub struct Watch {
    route: AsyncFd<Socket>,
    /// None: a kernel without a packet filter.
    rules: Option<AsyncFd<Socket>>,
    reader: Reader,
    /// Heard, and not told yet.
    heard: Changed,
}

impl Watch {
    /// Begins to listen. Within a tokio runtime.
    pub fn open() -> io::Result<Self> {
        let route = listen(NETLINK_ROUTE, &ROUTE_GROUPS)?;
        let rules = listen(NETLINK_NETFILTER, &RULE_GROUPS).ok();
        Ok(Self { route, rules, reader: Reader::default(), heard: Changed::default() })
    }

    /// Waits until something changes. Nothing is lost where this is cancelled.
    pub async fn changed(&mut self) -> io::Result<Changed> {
        let Self { route, rules, reader, heard } = self;
        while !heard.any() {
            // Whichever is readable; either is asked again the next time.
            let of_route = tokio::select! {
                ready = route.readable() => { ready?.retain_ready(); true }
                ready = readable(rules.as_ref()) => { ready?; false }
            };
            let (socket, read): (_, fn(&mut Reader, &[u8]) -> Changed) = match rules {
                Some(rules) if !of_route => (&*rules, Reader::rules),
                _ => (&*route, Reader::route),
            };
            *heard = heard.and(drain(socket, |bytes| read(reader, bytes))?);
        }
        Ok(std::mem::take(heard))
    }
}

async fn readable(socket: Option<&AsyncFd<Socket>>) -> io::Result<()> {
    match socket {
        Some(socket) => socket.readable().await.map(|mut ready| ready.retain_ready()),
        None => std::future::pending().await,
    }
}

/// Reads what is there.
fn drain(socket: &AsyncFd<Socket>, mut read: impl FnMut(&[u8]) -> Changed) -> io::Result<Changed> {
    let mut changed = Changed::default();
    let mut bytes = Vec::with_capacity(DATAGRAM);
    for _ in 0..AT_ONCE {
        bytes.clear();
        match socket.try_io(Interest::READABLE, |socket| socket.recv(&mut bytes, 0)) {
            Ok(_) => changed = changed.and(read(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = Changed::ALL,
            Err(error) => return Err(error),
        }
    }
    Ok(changed)
}

fn listen(protocol: isize, groups: &[u32]) -> io::Result<AsyncFd<Socket>> {
    let mut socket = Socket::new(protocol)?;
    // Where we may not have more, lost events only make us look at everything.
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &ROOM);
    let groups = groups.iter().fold(0, |mask, group| mask | 1 << (group - 1));
    socket.bind(&SocketAddr::new(0, groups))?;
    socket.set_non_blocking(true)?;
    #[expect(deprecated, reason = "its successor is unsafe; a socket that moves in keeps what it asks for")]
    AsyncFd::with_interest(socket, Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Cidr;
    use crate::network::netlink::tests::apart;
    use crate::network::netlink::{self, Request};
    use crate::network::sysctl;
    use std::time::Duration;

    /// What is heard within a moment of the work; nothing where it is quiet for long enough.
    async fn heard(watch: &mut Watch, work: impl FnOnce()) -> Changed {
        work();
        let mut all = Changed::default();
        while let Ok(changed) = tokio::time::timeout(Duration::from_millis(150), watch.changed()).await {
            all = all.and(changed.unwrap());
        }
        all
    }

    fn watching(work: impl AsyncFnOnce(&mut Watch, netlink::Socket) + Send + 'static) {
        apart(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { work(&mut Watch::open().unwrap(), netlink::Socket::open().unwrap()).await });
        });
    }

    const LINKS: Changed = Changed { links: true, routes: false, forwarding: false, rules: false };

    #[test]
    fn links_addresses_and_routes_are_heard() {
        watching(async |watch, socket| {
            let make = || socket.one(Request::make_bridge("b", "ls-1", None, None)).unwrap();
            assert!(heard(watch, make).await.links);
            let link = socket.link("ls-1").unwrap().unwrap();
            let cidr = Cidr::parse("10.9.0.1/24").unwrap();
            assert!(heard(watch, || socket.one(Request::address(&link, cidr)).unwrap()).await.links);
            assert!(heard(watch, || socket.one(Request::up(&link)).unwrap()).await.routes, "with its subnet");
            assert_eq!(heard(watch, || {}).await, Changed::default());
            let gone = heard(watch, || socket.one(Request::remove("b", "ls-1")).unwrap()).await;
            assert!(gone.links && gone.routes);
        });
    }

    #[test]
    fn forwarding_is_heard() {
        watching(async |watch, _| {
            // A new namespace begins as the machine is.
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
            heard(watch, || {}).await;
            assert!(heard(watch, || sysctl::forward_ipv4().unwrap()).await.forwarding);
            assert!(heard(watch, || sysctl::forward_ipv6().unwrap()).await.forwarding);
            assert_eq!(heard(watch, || sysctl::forward_ipv4().unwrap()).await, Changed::default());
        });
    }

    #[test]
    fn pairs_of_others_and_tables_of_others_are_passed_over() {
        watching(async |watch, socket| {
            use std::os::fd::AsFd as _;
            let here = crate::network::namespace::own().unwrap();
            let pair = |name| Request::make_pair("p", name, ("far", here.as_fd()), None, 1500);
            assert!(!heard(watch, || socket.one(pair("veth1")).unwrap()).await.links);
            socket.one(Request::remove("p", "veth1")).unwrap();
            assert_eq!(heard(watch, || socket.one(pair("lv1")).unwrap()).await, LINKS);
            let nft = |command: &str| {
                let status = std::process::Command::new("nft").args(command.split(' ')).status();
                assert!(status.expect("nft is installed").success());
            };
            assert!(!heard(watch, || nft("add table inet other")).await.rules);
            assert!(heard(watch, || nft("add table inet longshore_1")).await.rules);
            assert!(heard(watch, || nft("add chain inet longshore_1 c")).await.rules);
            assert!(heard(watch, || nft("flush ruleset")).await.rules);
        });
    }

    #[test]
    fn what_was_lost_is_everything() {
        watching(async |watch, socket| {
            setsockopt(watch.route.get_ref(), sockopt::RcvBuf, &2048).unwrap();
            let make = |n: usize| Request::make_bridge("b", &format!("ls-{n}"), None, None);
            socket.all(&(0..50).map(make).collect::<Vec<_>>()).unwrap();
            assert_eq!(watch.changed().await.unwrap(), Changed::ALL);
        });
    }
}
