//! A container's life in its networks: before its start, while it runs, after its end.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::addresses::{self, AddressError, Range};
use super::leases::{Lease, Leases, Life};
use super::link::{self, LinkError};
use super::rules::GuardError;
use super::{Inner, Made, Networks, State, dns, forward, handover, namespace, ports};
use crate::model::{
    Attached, Attachment, Cidr, ContainerId, ContainerSpec, Driver, Join, Link, NetworkId, NetworkPlace, ProcessId,
    Published, ServiceName, Turn,
};

/// So long it may take until sockets that are closed are gone.
const CLOSING: Duration = Duration::from_secs(1);

/// Why a container cannot be joined to its networks.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It was removed meanwhile.
    #[error("the network {0} is not there any more; it is made again")]
    Gone(String),
    /// It would share what is not there.
    #[error("the container whose network it shares does not run")]
    NotShared,
    /// There is no address.
    #[error("network {network}: {source}")]
    Address {
        /// In which network.
        network: String,
        /// Why.
        source: AddressError,
    },
    /// A port cannot be had.
    #[error(transparent)]
    Port(#[from] ports::PortError),
    /// The rules.
    #[error(transparent)]
    Rules(#[from] GuardError),
    /// A link cannot be put right.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// It still lacks something.
    #[error("{0}")]
    Lost(String),
    /// The process that carries its ports is gone, and no other one can be started.
    #[error("the process that carries its published ports cannot be started")]
    Carry(#[source] io::Error),
    /// No threads, or the namespace is gone.
    #[error("the container's network namespace cannot be entered")]
    Namespace(#[source] io::Error),
}

impl Networks {
    /// Before a start: gives the container its addresses and ports, and puts the rules for them in force. `shared`: the init of the
    /// container whose network it shares.
    pub async fn attach(
        &self,
        spec: &ContainerSpec,
        place: &NetworkPlace,
        shared: Option<ProcessId>,
    ) -> Result<Attached, AttachError> {
        let attached = match place {
            NetworkPlace::Plain => return Ok(Attached::default()),
            NetworkPlace::Of(target) => {
                let init = shared.ok_or(AttachError::NotShared)?;
                return Ok(Attached { shared: Some((target.clone(), init)), ..Attached::default() });
            }
            NetworkPlace::Networks(ids) => {
                let (all, spec, ids) = (self.clone(), spec.clone(), ids.clone());
                super::blocking(move || all.lease(&spec, &ids)).await.map_err(AttachError::Namespace)??
            }
        };
        if let Err(error) = self.enforce().await {
            self.ended(&spec.id);
            return Err(error.into());
        }
        Ok(attached)
    }

    /// What `host-gateway` means to a container.
    #[must_use]
    pub fn host_gateway(&self, attached: &Attached) -> Option<IpAddr> {
        let state = self.state();
        // An internal network does not lead to the host.
        let first = || attached.links.iter().find(|link| matches!(link.link, Link::Bridge { .. }) && !link.internal);
        let gateway = || state.made.get(&first()?.network)?.pools.iter().find_map(|pool| pool.gateway);
        self.0.settings.host_gateway.or_else(gateway)
    }

    fn lease(&self, spec: &ContainerSpec, ids: &[NetworkId]) -> Result<Attached, AttachError> {
        let Some(membership) = spec.service.network.membership() else { return Ok(Attached::default()) };
        // Nothing is behind this lock that a panic could leave half done.
        let _one = self.0.choosing.lock().unwrap_or_else(PoisonError::into_inner);
        let (links, taken, previous, kept, turn) = {
            let state = self.state();
            let mut links = Vec::new();
            for (number, (join, id)) in membership.joins.iter().zip(ids).enumerate() {
                links.push(self.0.link(&state, spec, (number, join, id))?);
            }
            give_way_out(&mut links, &membership.joins, &state);
            let turn = if state.beside(&spec.id, &spec.slot) { Turn::Standby } else { Turn::default() };
            let (taken, kept) = (taken(&state, spec), state.kept_for(&spec.slot));
            (links, taken, state.leases.previous_ports(spec), kept, turn)
        };
        let defaults = ports::Defaults { address: self.0.settings.publish_ip, exposure: self.0.settings.exposure };
        let published = ports::choose(&membership.ports, defaults, &taken, &previous, &kept)?;
        let mut state = self.state();
        let attached = Attached { links, published, shared: None, turn };
        let lease = Lease { spec: Arc::new(spec.clone()), attached: attached.clone(), life: Life::Starting };
        // Whoever had these addresses before and has ended has them no longer.
        state.leases.take_over(&spec.id, &attached);
        state.leases.0.insert(spec.id.clone(), lease);
        Ok(attached)
    }

    /// It runs: its names are answered from now on.
    pub fn started(&self, id: &ContainerId, init: ProcessId) {
        if let Some(lease) = self.state().leases.0.get_mut(id) {
            lease.life = Life::Running(init);
        }
        self.answer_names();
    }

    /// It does not run, or did not come to run.
    pub fn ended(&self, id: &ContainerId) {
        let before = self.state().leases.0.get_mut(id).map(|lease| std::mem::replace(&mut lease.life, Life::Ended));
        if before.is_some_and(|life| life != Life::Ended) {
            self.after_ends();
        }
    }

    /// Who runs now, as the host sees it. Who does not any more is not named and not reached any more; who does is, whatever was seen
    /// before: a look that was taken while a container started may come after it has.
    pub fn alive(&self, running: &BTreeMap<ContainerId, ProcessId>) {
        let (mut changed, mut ruled) = (false, false);
        for (id, lease) in &mut self.state().leases.0 {
            let now = match (running.get(id), lease.life) {
                (Some(init), _) => Life::Running(*init),
                (None, Life::Running(_)) => Life::Ended,
                (None, life) => life,
            };
            changed |= now != lease.life;
            // Who starts has its rules already.
            ruled |= (now == Life::Ended) != (lease.life == Life::Ended);
            lease.life = now;
        }
        match (changed, ruled) {
            (_, true) => self.after_ends(),
            (true, false) => self.answer_names(),
            (false, false) => {}
        }
    }

    /// It was removed: what it had is free.
    pub fn forget(&self, id: &ContainerId) {
        let lease = self.state().leases.0.remove(id);
        let held = lease.as_ref().is_some_and(|lease| self.state().held(&lease.spec.slot).is_some());
        if held || lease.is_some_and(|lease| lease.life != Life::Ended) {
            self.after_ends();
        }
    }

    pub(super) fn after_ends(&self) {
        self.answer_names();
        let all = self.clone();
        tokio::spawn(async move {
            if let Err(error) = all.enforce().await {
                tracing::warn!("{error}");
                all.state().firewall = Some(error.to_string());
            }
            all.settle().await;
            all.notify();
        });
    }

    /// Puts the links of a container that runs right, its carried ports, and its names.
    pub async fn connect(&self, id: &ContainerId) -> Result<(), AttachError> {
        let (attached, init, paused) = {
            let state = self.state();
            let paused = |lease: &Lease| state.beside(id, &lease.spec.slot);
            match state.leases.0.get(id) {
                Some(lease @ Lease { attached, life: Life::Running(init), .. }) => {
                    (attached.clone(), *init, paused(lease))
                }
                // It ended meanwhile.
                _ => return Ok(()),
            }
        };
        let exe = self.0.settings.exe.clone();
        let done = super::blocking(move || match namespace::of_process(init).map_err(AttachError::Namespace)? {
            Some(namespace) => {
                Ok((link::reconnect(&namespace, &attached.links)?, carry_again(&exe, &attached, init, paused)?))
            }
            // It is just ending.
            None => Ok::<_, AttachError>((Vec::new(), Vec::new())),
        });
        let (links, carried) = done.await.map_err(AttachError::Namespace)??;
        for (attachment, fault) in links {
            tracing::info!(container = id.short(), network = %attachment.name, "put right: its interface {} {fault}", attachment.interface);
        }
        for port in carried {
            tracing::info!(container = id.short(), "put right: its port {} is carried again", ports::name(&port));
        }
        self.state().lost.remove(id);
        self.answer_names();
        let (all, mine) = (self.clone(), id.clone());
        // Also where it has taken away what leads its questions to us.
        super::blocking(move || all.serve(&mine, init)).await.map_err(AttachError::Namespace)?;
        self.notify();
        self.state().lost.get(id).map_or(Ok(()), |why| Err(AttachError::Lost(why.clone())))
    }

    /// Answers the names of who runs, for who runs, and for nobody else.
    pub(super) fn answer_names(&self) {
        let mut state = self.state();
        let running: BTreeMap<ContainerId, ProcessId> = state
            .leases
            .0
            .iter()
            .filter_map(|(id, lease)| match lease.life {
                Life::Running(init) if !lease.attached.links.is_empty() => Some((id.clone(), init)),
                Life::Running(_) | Life::Starting | Life::Ended => None,
            })
            .collect();
        let named = handover::named(&state.leases);
        let known = running.keys().filter_map(|id| Some((named.contains(id), state.leases.0.get(id)?)));
        let members = known.map(|(named, lease)| member(lease, named)).collect();
        self.0.resolver.set(dns::Zone::new(members));
        let gone: Vec<ContainerId> = state
            .served
            .iter()
            .filter(|(id, init)| running.get(*id) != Some(*init))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            state.served.remove(&id);
            self.0.resolver.close(&id);
        }
        for (id, init) in running {
            if state.served.insert(id.clone(), init).is_none() {
                let all = self.clone();
                tokio::task::spawn_blocking(move || all.serve(&id, init));
            }
        }
    }

    fn serve(&self, id: &ContainerId, init: ProcessId) {
        let Err(error) = self.open_names(id, init) else { return };
        let mut state = self.state();
        // It may have been started anew meanwhile.
        if state.served.get(id) == Some(&init) {
            state.served.remove(id);
            if matches!(state.leases.0.get(id), Some(Lease { life: Life::Running(now), .. }) if *now == init) {
                let why = format!("names cannot be answered in it: {error}");
                tracing::debug!(container = id.short(), "{why}");
                state.lost.insert(id.clone(), why);
            }
        }
        drop(state);
        self.notify();
    }

    /// Answers a container's questions, unless they are answered. Blocks.
    fn open_names(&self, id: &ContainerId, init: ProcessId) -> io::Result<()> {
        let begun = Instant::now();
        loop {
            // Where it has just ended nobody asks any more.
            let Some(namespace) = namespace::of_process(init)? else { return Ok(()) };
            let opened = namespace::within(&namespace, dns::open)?;
            let state = self.state();
            if state.served.get(id) != Some(&init) {
                return Ok(());
            }
            match opened {
                Ok((udp, tcp)) => return self.0.resolver.serve(id.clone(), udp, tcp),
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => return Err(error),
                Err(_) if self.0.resolver.serves(id) => return Ok(()),
                Err(error) => {
                    if let Some((udp, tcp)) = dns::kept(init.pid)? {
                        return self.0.resolver.serve(id.clone(), udp, tcp);
                    }
                    // Some that were just closed, or that are just handed to the follower.
                    if begun.elapsed() > CLOSING {
                        return Err(error);
                    }
                }
            }
            drop(state);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Inner {
    /// One link of a container: an address in each subnet of the network.
    fn link(
        &self,
        state: &State,
        spec: &ContainerSpec,
        (number, join, id): (usize, &Join, &NetworkId),
    ) -> Result<Attachment, AttachError> {
        let made = state.made.get(id).ok_or_else(|| AttachError::Gone(join.network.to_string()))?;
        let wrong = |source| AttachError::Address { network: join.network.to_string(), source };
        let (used, preferred) = (state.leases.used(id, spec), state.leases.preferred(id, spec));
        let mut addresses = Vec::new();
        for range in made.ranges() {
            let v4 = range.subnet.address.is_ipv4();
            let wanted = if v4 { join.ipv4.map(IpAddr::V4) } else { join.ipv6.map(IpAddr::V6) };
            // Of several subnets of a family it has an address in one: the first, or that of its fixed address.
            let have = addresses.iter().any(|had: &Cidr| had.address.is_ipv4() == v4);
            if have || wanted.is_some_and(|wanted| !range.subnet.contains(wanted)) {
                continue;
            }
            let address = address(&range, wanted, &preferred, &used, &state.leases.idle(id)).map_err(wrong)?;
            addresses.push(Cidr { address, prefix: range.subnet.prefix });
        }
        let prefix = |address: &IpAddr| if address.is_ipv4() { 16 } else { 64 };
        let more = join.link_local.iter().map(|address| Cidr { address: *address, prefix: prefix(address) });
        addresses.extend(more);
        let mac = join.mac.unwrap_or_else(|| addresses::mac(&[spec.id.as_str().as_bytes(), id.as_str().as_bytes()]));
        let interface = self.interface(id, made).unwrap_or_default();
        let link = match &made.network.driver {
            Driver::Bridge => Link::Bridge { bridge: interface, port: self.port(&spec.id, id) },
            Driver::Macvlan { mode, .. } => Link::Macvlan { parent: interface, mode: *mode },
            Driver::Ipvlan { mode, .. } => Link::Ipvlan { parent: interface, mode: *mode },
        };
        Ok(Attachment {
            network: id.clone(),
            name: join.network.clone(),
            mac: (!matches!(link, Link::Ipvlan { .. })).then_some(mac),
            link,
            interface: join.interface.clone().unwrap_or_else(|| format!("eth{number}")),
            addresses,
            gateways: Vec::new(),
            mtu: made.mtu,
            internal: made.network.internal,
        })
    }
}

/// Carries the ports that a process carried which is gone; those.
fn carry_again(exe: &Path, attached: &Attached, init: ProcessId, paused: bool) -> Result<Vec<Published>, AttachError> {
    let gone = ports::unheld(&attached.published);
    if !gone.is_empty() {
        let sockets = ports::claim(&gone)?;
        forward::again(exe, sockets, &gone, &ports::leads_to(attached), init, paused).map_err(AttachError::Carry)?;
    }
    Ok(gone)
}

/// A free one; where there is none, one that is kept for somebody who does not run.
fn address(
    range: &Range,
    wanted: Option<IpAddr>,
    preferred: &[IpAddr],
    used: &BTreeSet<IpAddr>,
    idle: &BTreeSet<IpAddr>,
) -> Result<IpAddr, AddressError> {
    addresses::address(range, wanted, preferred, used).or_else(|error| {
        let running: BTreeSet<IpAddr> = used.difference(idle).copied().collect();
        addresses::address(range, wanted, preferred, &running).map_err(|_| error)
    })
}

/// The way out is through the network that the file prefers, of those that have one.
fn give_way_out(links: &mut [Attachment], joins: &[Join], state: &State) {
    for v4 in [true, false] {
        let gateway = |link: &Attachment| {
            let pools = &state.made.get(&link.network)?.pools;
            pools.iter().filter_map(|pool| pool.gateway).find(|gateway| gateway.is_ipv4() == v4)
        };
        let mut best: Option<(i64, usize, IpAddr)> = None;
        for (number, (link, join)) in links.iter().zip(joins).enumerate().filter(|(_, (link, _))| !link.internal) {
            if let Some(gateway) = gateway(link)
                && best.is_none_or(|(priority, ..)| join.gateway_priority > priority)
            {
                best = Some((join.gateway_priority, number, gateway));
            }
        }
        if let Some((_, number, gateway)) = best {
            links[number].gateways.push(gateway);
        }
    }
}

/// The host's ports that others of ours have, or that are held for them; not those of its own slot, which are handed over.
fn taken(state: &State, spec: &ContainerSpec) -> BTreeMap<ports::Place, String> {
    let has = |(id, lease): &(&ContainerId, &Lease)| lease.life != Life::Ended || state.holds.contains_key(*id);
    let others = state.leases.0.iter().filter(has).filter(|(_, lease)| lease.spec.slot != spec.slot);
    let each = others.flat_map(|(_, lease)| {
        let slot = &lease.spec.slot;
        let owner = format!("container {} of service {}/{}", lease.spec.name, slot.project, slot.service);
        lease.attached.published.iter().map(move |port| (ports::place(port), owner.clone()))
    });
    each.collect()
}

/// The service whose name a container answers to. A one-off answers to its own names only: it does not serve what its service serves.
fn known_as(spec: &ContainerSpec) -> ServiceName {
    let own = spec.purpose.task().and_then(|_| ServiceName::parse(spec.id.short()).ok());
    own.unwrap_or_else(|| spec.slot.service.clone())
}

/// What is known by name of a container.
fn member(lease: &Lease, named: bool) -> dns::Member {
    let spec = &lease.spec;
    let membership = spec.service.network.membership().cloned().unwrap_or_default();
    let links = lease.attached.links.iter().map(|link| {
        let join = membership.joins.iter().find(|join| join.network == link.name);
        dns::Joined {
            network: link.network.clone(),
            network_name: link.name.clone(),
            v4: link.ipv4(),
            v6: link.ipv6(),
            aliases: join.map(|join| join.aliases.clone()).unwrap_or_default(),
        }
    });
    let published = membership.ports.iter().map(|port| (port.target, port.protocol, port.name.clone()));
    let exposed = membership.expose.iter().map(|exposed| (exposed.port, exposed.protocol, None));
    dns::Member {
        container: spec.id.clone(),
        name: spec.name.clone(),
        project: spec.slot.project.clone(),
        service: known_as(spec),
        internal_only: lease.attached.links.iter().all(|link| link.internal),
        links: links.collect(),
        ports: published.chain(exposed).collect(),
        service_links: membership.links,
        named,
        upstreams: spec.service.names.servers.iter().filter_map(|server| server.parse().ok()).collect(),
    }
}

impl Made {
    /// Where its addresses come from.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range> {
        self.pools.iter().map(Range::from)
    }
}

impl Leases {
    /// Takes addresses from those who have ended.
    fn take_over(&mut self, id: &ContainerId, attached: &Attached) {
        let mine: BTreeSet<(&NetworkId, IpAddr)> = attached
            .links
            .iter()
            .flat_map(|link| link.addresses.iter().map(move |cidr| (&link.network, cidr.address)))
            .collect();
        for (_, lease) in self.0.iter_mut().filter(|(other, lease)| *other != id && lease.life == Life::Ended) {
            for link in &mut lease.attached.links {
                let network = link.network.clone();
                link.addresses.retain(|cidr| !mine.contains(&(&network, cidr.address)));
            }
        }
    }
}
