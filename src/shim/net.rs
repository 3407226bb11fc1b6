//! The container's network namespace: made or entered, and set up.
//!
//! ```text
//! gather (host's namespace) ─▶ its own: unshare, or entered once the runtime made it ─▶ loopback ─▶ links ─▶ names
//!                         └──▶ another container's: entered as it is
//! ```

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

use super::ports::{self, Kept};
use super::{ShimError, doing};
use crate::container::link::{NETWORK, Order};
use crate::container::record::network;
use crate::model::{Attached, ContainerSpec, NetworkMode, ProcessId};
use crate::network::netlink::{Request, Socket};
use crate::network::{dns, link, namespace};

/// What is needed for it, taken in the host's namespace.
pub(super) struct Net {
    /// What the container is joined to.
    pub(super) attached: Attached,
    /// What keeps its ports on the host.
    ports: Kept,
    resolver: bool,
    /// Where its questions for names wait until the daemon answers them.
    names: OnceCell<[OwnedFd; 2]>,
    /// A socket of the host's namespace; none where nothing is to be made there.
    host: Option<Socket>,
    /// The namespace of the container whose network it shares.
    shared: Option<OwnedFd>,
}

impl Net {
    pub(super) fn gather(order: &Order, spec: &ContainerSpec) -> Result<Self, ShimError> {
        let attached = match fs::read(order.folder.join(NETWORK)) {
            Ok(json) => network::parse(&json)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Attached::default(),
            Err(error) => return Err(doing("reading what the container is joined to")(error)),
        };
        let keepers: Vec<ProcessId> = order.network.keepers.iter().map(|keeper| (*keeper).into()).collect();
        let ports = ports::take(&attached, &keepers, order.shims.as_deref())?;
        let mode = &spec.service.network;
        let host = match mode {
            NetworkMode::Networks(_) if !attached.links.is_empty() => {
                Some(Socket::open().map_err(doing("asking the kernel about the host's network"))?)
            }
            _ => None,
        };
        let shared = match mode {
            NetworkMode::Service(_) | NetworkMode::Container(_) => Some(shared(&attached)?),
            NetworkMode::None | NetworkMode::Host | NetworkMode::Networks(_) => None,
        };
        Ok(Self { attached, ports, resolver: order.network.resolver, names: OnceCell::new(), host, shared })
    }

    /// Enters the other container's.
    pub(super) fn share(&self) -> Result<(), ShimError> {
        match &self.shared {
            Some(namespace) => setns(namespace, CloneFlags::CLONE_NEWNET)
                .map_err(doing("entering the network namespace of the container whose network it shares")),
            None => Ok(()),
        }
    }

    /// Enters that of a process.
    pub(super) fn enter(init: Pid) -> Result<(), ShimError> {
        let namespace = File::open(format!("/proc/{init}/ns/net")).map_err(doing("opening the network namespace"))?;
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(doing("entering the network namespace"))
    }

    /// Sets up the container's own, in which we are: loopback, links, names.
    pub(super) fn set_up(&self) -> Result<(), ShimError> {
        let inside = Socket::open().map_err(doing("asking the kernel about the container's network"))?;
        prepare(&inside)?;
        if let Some(host) = &self.host {
            let namespace = namespace::own().map_err(doing("opening the network namespace"))?;
            for attachment in &self.attached.links {
                link::connect(host, &inside, namespace.as_fd(), attachment)?;
            }
        }
        if self.resolver {
            match dns::redirect() {
                // Then the resolver listens at port 53 itself.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
                done => done.map_err(doing("leading questions for names to the resolver"))?,
            }
            let (udp, tcp) = dns::sockets().map_err(doing("opening sockets for questions for names"))?;
            let _ = self.names.set([udp.into(), tcp.into()]);
        }
        Ok(())
    }

    /// What the follower keeps: the ports on the host, and where questions for names arrive.
    pub(super) fn hand_over(self) -> Vec<OwnedFd> {
        let mut all = self.ports.hand_over();
        all.extend(self.names.into_inner().into_iter().flatten());
        all
    }

    /// Tells the others on its networks who has its addresses now. Best effort.
    pub(super) fn announce(&self) {
        if self.host.is_some()
            && let Ok(inside) = Socket::open()
        {
            for attachment in &self.attached.links {
                let _ = link::announce(&inside, attachment);
            }
        }
    }
}

/// Only if the other is still the one that it was when this was decided.
fn shared(attached: &Attached) -> Result<OwnedFd, ShimError> {
    let Some((other, process)) = &attached.shared else {
        return Err(ShimError::Runtime("it was not said whose network the container shares".into()));
    };
    let namespace = namespace::of_process(*process)
        .map_err(doing("opening the network namespace of the container whose network it shares"))?;
    namespace.ok_or_else(|| {
        let words =
            format!("the container whose network it shares ({}) has just ended; it is tried again", other.short());
        ShimError::Runtime(words)
    })
}

/// Brings loopback up, and allows what Docker allows inside: ping and low ports for every user.
fn prepare(inside: &Socket) -> Result<(), ShimError> {
    if let Some(loopback) = inside.link("lo")? {
        inside.one(Request::up(&loopback))?;
    }
    let settings = [("ping_group_range", "0 2147483647"), ("ip_unprivileged_port_start", "0")];
    for (name, value) in settings {
        match fs::write(format!("/proc/sys/net/ipv4/{name}"), value) {
            // A kernel without it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done.map_err(doing("preparing the network namespace"))?,
        }
    }
    Ok(())
}
