//! Networks made, put right and removed.

use std::io;

use super::addresses::{self, AddressError, Range, Taken};
use super::bridge::{self, BridgeError, BridgeSpec, ParentSpec};
use super::netlink::{NetlinkError, SeenLink, Socket};
use super::rules::{GuardError, forward};
use super::sysctl::SysctlError;
use super::{Inner, Made, Networks};
use crate::model::{AddressPool, Cidr, Driver, Network, NetworkId, sentence};

/// Why a network was not made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// No subnet.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Its bridge, or the interface it is on.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// The kernel.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A kernel parameter.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// The record.
    #[error("{what}")]
    Io {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The rules.
    #[error(transparent)]
    Rules(#[from] GuardError),
}

/// Why a network was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// Somebody is joined to it.
    #[error("container {0} is joined to it")]
    Used(String),
    /// Its bridge.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// The record.
    #[error("its record was not removed")]
    Io(#[source] io::Error),
    /// The rules.
    #[error(transparent)]
    Rules(#[from] GuardError),
}

fn doing(what: &'static str) -> impl FnOnce(io::Error) -> MakeError {
    move |source| MakeError::Io { what, source }
}

impl Networks {
    /// Makes it, or puts right what is wrong with it. What is on disk when it returns stays so.
    pub async fn make(&self, network: &Network) -> Result<(), MakeError> {
        let _one = self.0.making.lock().await;
        let (all, network) = (self.clone(), network.clone());
        let made = super::blocking(move || {
            let made = all.make_now(&network);
            // Also where it failed half way: what is wrong with it is told.
            all.look_now();
            made
        });
        let made = made.await.map_err(doing("the work was given up"))?;
        self.notify();
        made?;
        Ok(self.enforce().await?)
    }

    fn make_now(&self, network: &Network) -> Result<(), MakeError> {
        let (inner, id) = (&self.0, NetworkId::derive(network));
        let socket = Socket::open().map_err(doing("the kernel cannot be asked about its networks"))?;
        let made = match self.known(&socket, &id, network)? {
            Some(made) => made,
            None => {
                let ranges = addresses::choose(network, &inner.settings.pools, &self.taken(&socket, &id)?)?;
                let mtu = network.mtu.map_or_else(|| way_out_mtu(&socket), Ok)?;
                Made { network: network.clone(), pools: ranges.into_iter().map(AddressPool::from).collect(), mtu }
            }
        };
        inner.records.write(&id, &made).map_err(doing("its record was not written"))?;
        self.state().made.insert(id.clone(), made.clone());
        match &made.network.driver {
            Driver::Bridge => {
                bridge::ensure(&socket, &inner.bridge(&id, &made))?;
                forward(made.network.ipv6)?;
            }
            Driver::Macvlan { parent, .. } | Driver::Ipvlan { parent, .. } => {
                bridge::ensure_parent(&socket, &inner.parent(&id, &made, parent.is_none()))?;
            }
        }
        Ok(())
    }

    /// As it was made before, with the labels of now. One that nobody uses is made anew where its subnet is somebody else's by now.
    fn known(&self, socket: &Socket, id: &NetworkId, network: &Network) -> Result<Option<Made>, MakeError> {
        let made = self.state().made.get(id).cloned();
        let Some(made) = made else { return Ok(None) };
        let used = self.state().leases.joined(id).is_some();
        let taken = self.taken(socket, id)?;
        let clash = made.pools.iter().any(|pool| taken.iter().any(|taken| taken.cidr.overlaps(pool.subnet)));
        let keep = used || !clash || !network.pools.is_empty();
        Ok(keep.then(|| Made { network: network.clone(), ..made }))
    }

    /// The subnets that are not free: those of the host's routes and of other networks.
    fn taken(&self, socket: &Socket, id: &NetworkId) -> Result<Vec<Taken>, MakeError> {
        let state = self.state();
        let mut taken = Vec::new();
        for (_, made) in state.made.iter().filter(|(other, _)| *other != id) {
            let what = format!("network {}", made.network.name);
            taken.extend(made.pools.iter().map(|pool| Taken { cidr: pool.subnet, what: what.clone() }));
        }
        // The interface of a macvlan network is the host's own: what is reached through it is taken.
        let bridges = state.made.iter().filter(|(_, made)| made.network.driver == Driver::Bridge);
        let ours: Vec<String> = bridges.filter_map(|(id, made)| self.0.interface(id, made)).collect();
        drop(state);
        taken.extend(addresses::on_host(&socket.snapshot()?, |link| ours.contains(&link.name)));
        Ok(taken)
    }

    /// Removes it. Nothing to do for one that is gone.
    pub async fn remove(&self, id: &NetworkId) -> Result<(), RemoveError> {
        let _one = self.0.making.lock().await;
        let made = {
            let mut state = self.state();
            if let Some(spec) = state.leases.joined(id) {
                return Err(RemoveError::Used(spec.name.to_string()));
            }
            state.broken.remove(id);
            state.made.remove(id)
        };
        let Some(made) = made else { return Ok(()) };
        let (all, gone, again) = (self.clone(), id.clone(), made.clone());
        let removed = super::blocking(move || all.remove_now(&gone, &again)).await;
        let removed = match removed.map_err(RemoveError::Io).and_then(|removed| removed) {
            Ok(()) => self.enforce().await.map_err(RemoveError::from),
            Err(error) => Err(error),
        };
        if removed.is_err() {
            // Tried again: it is still ours.
            self.state().made.insert(id.clone(), made);
        }
        self.notify();
        removed
    }

    fn remove_now(&self, id: &NetworkId, made: &Made) -> Result<(), RemoveError> {
        let socket = Socket::open().map_err(RemoveError::Io)?;
        match &made.network.driver {
            Driver::Bridge => bridge::remove(&socket, &self.0.bridge(id, made))?,
            Driver::Macvlan { parent, .. } | Driver::Ipvlan { parent, .. } => {
                bridge::remove_parent(&socket, &self.0.parent(id, made, parent.is_none()))?;
            }
        }
        self.0.records.remove(id).map_err(RemoveError::Io)
    }

    /// Removes bridges of ours that no record names, and gives notes for the log.
    pub(super) fn sweep(&self) -> Vec<String> {
        let known: Vec<String> = self.state().made.keys().map(|id| self.0.alias(id)).collect();
        let prefix = format!("longshore {} ", self.0.settings.instance);
        let swept = Socket::open().map_err(|error| error.to_string()).and_then(|socket| {
            let links = socket.links().map_err(|error| error.to_string())?;
            let strangers = links.into_iter().filter(|l| l.alias.starts_with(&prefix) && !known.contains(&l.alias));
            let removed = strangers.map(|SeenLink { name, alias, .. }| {
                let spec = ParentSpec { name: name.clone(), alias, wireless: true };
                match bridge::remove_parent(&socket, &spec) {
                    Ok(()) => format!("the interface {name}, left of an earlier run, was removed"),
                    Err(error) => format!("the interface {name} is left of an earlier run: {}", sentence(&error)),
                }
            });
            Ok(removed.collect())
        });
        swept.unwrap_or_else(|error| vec![format!("leftovers of networks cannot be looked for: {error}")])
    }
}

/// The MTU of the way out: what is larger would be lost on a narrow one (a VPN, a cloud's own network).
fn way_out_mtu(socket: &Socket) -> Result<u32, NetlinkError> {
    let (links, routes) = (socket.links()?, socket.routes()?);
    let out = routes.iter().filter(|route| route.to.prefix == 0).filter_map(|route| route.index);
    let mtu = |index: u32| links.iter().find(|link| link.index == index).map(|link| link.mtu);
    Ok(out.filter_map(mtu).min().unwrap_or(1500).clamp(1280, 65_535))
}

impl Inner {
    pub(super) fn alias(&self, id: &NetworkId) -> String {
        format!("longshore {} {id}", self.settings.instance)
    }

    fn parent(&self, id: &NetworkId, made: &Made, wireless: bool) -> ParentSpec {
        ParentSpec { name: self.interface(id, made).unwrap_or_default(), alias: self.alias(id), wireless }
    }

    pub(super) fn bridge(&self, id: &NetworkId, made: &Made) -> BridgeSpec {
        let gateway = |pool: &AddressPool| Some(Cidr { address: pool.gateway?, prefix: pool.subnet.prefix });
        BridgeSpec {
            name: self.interface(id, made).unwrap_or_default(),
            alias: self.alias(id),
            mac: addresses::mac(&[self.settings.instance.as_bytes(), id.as_str().as_bytes()]),
            mtu: made.mtu,
            addresses: made.pools.iter().filter_map(gateway).collect(),
            ipv6: made.network.ipv6,
        }
    }
}

impl From<&AddressPool> for Range {
    fn from(pool: &AddressPool) -> Self {
        let AddressPool { subnet, range, gateway, kept } = pool.clone();
        Self { subnet, range, gateway: gateway.unwrap_or(subnet.address), kept: kept.into_values().collect() }
    }
}

impl From<Range> for AddressPool {
    fn from(range: Range) -> Self {
        let Range { subnet, range, gateway, kept } = range;
        let kept = kept.into_iter().map(|address| (address.to_string(), address)).collect();
        Self { subnet, range, gateway: Some(gateway), kept }
    }
}
