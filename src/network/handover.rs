//! Ports and names go from one container of a slot to the next.
//!
//! ```text
//! start beside another one ─▶ standby: addresses of its own, copies of the sockets that keep the ports, no rules, no names
//! hold     ─▶ new connections of TCP wait in a process of their own (see [`hold`]), whoever ends or starts meanwhile
//! hand over ─▶ it accepts ─▶ its turn is written down ─▶ rules and names in force ─▶ what waited is led to it
//! ```
//! Whose turn it is stands with the container that has it ([`Turn`]), in one record: a daemon that was killed at any step finds there who
//! has the ports, puts the rules in force for that, and tells the others the rest ([`Networks::settle`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::hold::{self, Held, HeldPort, Holder, Sockets, Told};
use super::leases::{Lease, Leases, Life};
use super::rules::GuardError;
use super::{Networks, State, forward, namespace, ports};
use crate::model::{
    Attached, Attachment, ContainerId, Driver, Exposure, Link, ProcessId, Protocol, Published, Slot, Turn,
};

/// So long a container may take until it accepts what is published.
const READY: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);
/// As many connections as may wait on a port.
const BACKLOG: i32 = 4096;

/// Why ports are not held, or not handed over.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// It has ended, or was never started.
    #[error("the container does not run")]
    NotRunning,
    /// Nowhere to listen, or no process.
    #[error("{what}")]
    Io {
        /// What was done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The rules.
    #[error(transparent)]
    Rules(#[from] GuardError),
}

/// A holder that runs, as the daemon knows it.
pub(super) struct Holding {
    held: Held,
    slot: Slot,
    process: ProcessId,
    /// Its time is over: what waits is closed.
    expired: bool,
    /// It was told whom to lead to.
    led: bool,
    /// The rules lead to it: before that nobody may rely on it.
    ruled: bool,
    tell: mpsc::UnboundedSender<Told>,
}

fn doing(what: &'static str) -> impl FnOnce(io::Error) -> HandOverError {
    move |source| HandOverError::Io { what, source }
}

impl Networks {
    /// Has new connections to the published TCP ports of a container wait, until another one of its slot gets them.
    pub async fn hold(&self, id: &ContainerId) -> Result<(), HandOverError> {
        let lease = self.state().leases.0.get(id).cloned().ok_or(HandOverError::NotRunning)?;
        if !self.state().holds.values().any(|holding| holding.slot == lease.spec.slot && !holding.led) {
            let all = self.clone();
            let (of, held) = (id.clone(), lease.clone());
            let path = super::blocking(move || all.start_holder(&of, &held)).await;
            let path = path.map_err(doing("the work was given up"))??;
            let holder = Holder::connect(&path).await.map_err(doing("the process that holds ports does not answer"))?;
            self.mind(holder);
        }
        self.enforce().await?;
        self.state().rely_on_holders();
        self.settle().await;
        self.notify();
        Ok(())
    }

    /// Blocks.
    fn start_holder(&self, id: &ContainerId, lease: &Lease) -> Result<std::path::PathBuf, HandOverError> {
        let Attached { links, published, turn, .. } = &lease.attached;
        let (mut held, mut sockets) = (Vec::new(), Sockets::default());
        for gateway in self.gateways(links, &ports::leads_to(&lease.attached)) {
            for port in published.iter().filter(|port| is_led(port) && of_family(port, gateway)) {
                let listening = listen_at(gateway).map_err(doing("no port to hold connections at"))?;
                let at = TcpListener::from(listening);
                held.push(HeldPort::new(port, at.local_addr().map_err(doing("a socket without a name"))?));
                sockets.led.push(at.into());
            }
        }
        let (carried, kept): (Vec<Published>, Vec<Published>) = published.iter().cloned().partition(ports::is_carried);
        let keepers = keepers(lease);
        let copies = |ports: &[Published]| {
            // Without them the ports are led all the same; only others may take them in between.
            ports::Copies::of(&keepers, ports).map(ports::Copies::into_all).unwrap_or_default()
        };
        let listens = |port: &&Published| port.protocol == Protocol::Tcp;
        sockets.carried = copies(&carried.iter().filter(listens).cloned().collect::<Vec<_>>());
        sockets.kept = copies(&kept);
        sockets.kept.extend(copies(&carried.iter().filter(|port| !listens(port)).cloned().collect::<Vec<_>>()));
        let turn = match turn {
            Turn::Standby => 0,
            Turn::Number(number) => *number,
        };
        let held = Held::new(id.to_string(), &lease.spec.slot, turn, held);
        hold::start((&self.0.settings.exe, &self.0.settings.run_dir), held, sockets, self.0.settings.hold)
            .map_err(doing("the process that holds ports cannot be started"))
    }

    /// The addresses of this machine in the networks in which ports lead to these addresses.
    fn gateways(&self, links: &[Attachment], to: &[IpAddr]) -> Vec<IpAddr> {
        let state = self.state();
        let gateway = |to: &IpAddr| {
            let link = links.iter().find(|link| link.addresses.iter().any(|cidr| cidr.address == *to))?;
            let made = state.made.get(&link.network).filter(|made| made.network.driver == Driver::Bridge)?;
            let pool = made.pools.iter().find(|pool| pool.subnet.contains(*to))?;
            pool.gateway.filter(|_| matches!(link.link, Link::Bridge { .. }))
        };
        to.iter().filter_map(gateway).collect()
    }

    /// Waits until a container accepts connections to what it publishes, for a while. Who does not by then gets its ports all the same.
    pub async fn accepts(&self, id: &ContainerId) -> Result<(), HandOverError> {
        let until = Instant::now() + READY;
        let (published, to) = {
            let state = self.state();
            let lease = state.leases.0.get(id).ok_or(HandOverError::NotRunning)?;
            (lease.attached.published.clone(), ports::leads_to(&lease.attached))
        };
        let targets: BTreeSet<u16> =
            published.iter().filter(|port| port.protocol == Protocol::Tcp).map(|port| port.target).collect();
        let Some(to) = to.first() else { return Ok(()) };
        for target in targets {
            let target = SocketAddr::new(*to, target);
            while Instant::now() < until {
                let tried = tokio::time::timeout(until - Instant::now(), TcpStream::connect(target)).await;
                if matches!(tried, Ok(Ok(_))) {
                    break;
                }
                if !self.runs(id) {
                    return Err(HandOverError::NotRunning);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    fn runs(&self, id: &ContainerId) -> bool {
        self.state().leases.0.get(id).is_some_and(|lease| matches!(lease.life, Life::Running(_)))
    }

    /// What is to be written down of a container before it gets the ports of its slot; none where it has them.
    pub fn next_turn(&self, id: &ContainerId) -> Result<Option<Attached>, HandOverError> {
        let state = self.state();
        let lease = state.leases.0.get(id).filter(|lease| matches!(lease.life, Life::Running(_)));
        let lease = lease.ok_or(HandOverError::NotRunning)?;
        let slot = &lease.spec.slot;
        if state.leases.turns().get(slot) == Some(&id) && state.held(slot).is_none() {
            return Ok(None);
        }
        let held = state.holds.values().filter(|holding| holding.slot == *slot);
        let after = held.map(|holding| Turn::Number(holding.held.turn.saturating_add(1))).max();
        let turn = after.map_or(state.leases.next_turn(slot), |after| after.max(state.leases.next_turn(slot)));
        Ok(Some(Attached { turn, ..lease.attached.clone() }))
    }

    /// Lets the ports and the names of its slot lead to this container. `attached`: as it was written down.
    pub async fn hand_over(&self, id: &ContainerId, attached: Option<Attached>) -> Result<(), HandOverError> {
        let turn = |turn: Turn| {
            let mut state = self.state();
            state.leases.0.get_mut(id).map(|lease| std::mem::replace(&mut lease.attached.turn, turn))
        };
        let before = attached.and_then(|attached| turn(attached.turn));
        if let Err(error) = self.enforce().await {
            // Nobody may rely on it before the rules are in force.
            before.map(turn);
            return Err(error.into());
        }
        self.answer_names();
        self.settle().await;
        self.notify();
        Ok(())
    }

    /// Tells holders, and who carries ports, whose turn it is.
    pub(super) async fn settle(&self) {
        // What was decided later is not told earlier.
        let _one = self.0.settling.lock().await;
        let (mut begin, mut pause) = (Vec::new(), Vec::new());
        {
            let mut state = self.state();
            let State { leases, holds, .. } = &mut *state;
            let turns = leases.turns();
            for (slot, id) in &turns {
                let mine = &leases.0[*id].attached;
                for holding in holds.values_mut().filter(|holding| holding.slot == **slot && !holding.led) {
                    if mine.turn > Turn::Number(holding.held.turn) {
                        let to = ports::leads_to(mine);
                        let leads = holding.held.ports.iter().map(|port| port.leads(&mine.published, &to)).collect();
                        holding.led = holding.tell.send(Told::Lead(leads)).is_ok();
                    }
                }
            }
            let held: Vec<&Slot> = holds.values().filter(|holding| !holding.led).map(|holding| &holding.slot).collect();
            let contested =
                |slot: &Slot| held.contains(&slot) || leases.alive().filter(|(_, l)| l.spec.slot == *slot).count() > 1;
            for (id, lease) in
                leases.alive().filter(|(_, lease)| lease.attached.published.iter().any(ports::is_carried))
            {
                let slot = &lease.spec.slot;
                let told = ports::leads_to(&lease.attached);
                match turns.get(slot) == Some(&id) && !held.contains(&slot) {
                    true => begin.push(told),
                    false if contested(slot) => pause.push(told),
                    false => {}
                }
            }
            let gone: Vec<ContainerId> = holds
                .iter()
                .filter(|(_, h)| leases.of_slot(&h.slot).next().is_none())
                .map(|(id, _)| id.clone())
                .collect();
            for id in gone {
                holds.get(&id).map(|holding| holding.tell.send(Told::End));
            }
        }
        let tell = move || {
            // First those who begin: in between both take what comes, and both can.
            begin.iter().try_for_each(|to| forward::begin(to))?;
            pause.iter().try_for_each(|to| forward::pause(to))
        };
        if let Err(error) = super::blocking(tell).await.and_then(|done| done) {
            tracing::warn!(%error, "who carries published ports cannot be told whose turn it is");
        }
    }

    /// Takes over the holders that an earlier daemon left.
    pub(super) async fn adopt_holders(&self) -> Result<(), GuardError> {
        for holder in hold::adopt(&self.0.settings.run_dir).await {
            self.mind(holder);
        }
        let contested = {
            let state = self.state();
            !state.holds.is_empty() || state.leases.alive().any(|(_, l)| l.attached.turn != Turn::default())
        };
        if contested {
            // What was written down may not have come into force, and the next step relies on it.
            self.enforce().await?;
            self.state().rely_on_holders();
        }
        self.settle().await;
        Ok(())
    }

    /// Speaks with a holder until it ends.
    fn mind(&self, mut holder: Holder) {
        let (tell, mut told) = mpsc::unbounded_channel();
        let ids = ContainerId::from_hex(&holder.held.container).zip(holder.held.slot());
        let Some((id, slot)) = ids else { return };
        let (held, process) = (holder.held.clone(), holder.process);
        let holding = Holding { held, slot, process, expired: holder.expired, led: holder.led, ruled: false, tell };
        self.state().holds.insert(id.clone(), holding);
        let all = self.clone();
        tokio::spawn(async move {
            loop {
                let done = tokio::select! {
                    // Neither is given up half way but with the holder itself.
                    expired = holder.expires() => expired.map(|()| all.expired(&id, process)),
                    Some(word) = told.recv() => holder.tell(&word).await,
                };
                if done.is_err() {
                    return all.released(&id, process);
                }
            }
        });
    }

    fn expired(&self, id: &ContainerId, process: ProcessId) {
        if let Some(holding) = self.state().holds.get_mut(id).filter(|holding| holding.process == process) {
            holding.expired = true;
            tracing::warn!(
                container = id.short(),
                "its ports were held for {} s, and nobody got them: connections are closed now",
                self.0.settings.hold.as_secs()
            );
        }
        self.notify();
    }

    /// The holder has ended: what led to it leads there no longer.
    fn released(&self, id: &ContainerId, process: ProcessId) {
        let mut state = self.state();
        if state.holds.get(id).is_some_and(|holding| holding.process == process) {
            state.holds.remove(id);
            drop(state);
            self.after_ends();
        }
    }

    /// Who keeps the ports of a container's slot on the host. Blocks.
    #[must_use]
    pub fn keepers(&self, id: &ContainerId) -> Vec<ProcessId> {
        let (others, mut keepers) = {
            let state = self.state();
            let Some(slot) = state.leases.0.get(id).map(|lease| lease.spec.slot.clone()) else { return Vec::new() };
            let others: Vec<Lease> =
                state.leases.of_slot(&slot).filter(|(other, _)| *other != id).map(|(_, lease)| lease.clone()).collect();
            let holders = state.holds.values().filter(|holding| holding.slot == slot);
            (others, holders.map(|holding| holding.process).collect::<Vec<_>>())
        };
        keepers.extend(others.iter().flat_map(self::keepers));
        keepers
    }
}

impl State {
    /// The rules lead to all of them.
    fn rely_on_holders(&mut self) {
        self.holds.values_mut().for_each(|holding| holding.ruled = true);
    }

    /// Who holds the ports of a slot, where they do not lead to anybody yet.
    pub(super) fn held(&self, slot: &Slot) -> Option<&Holding> {
        let turn = self.leases.turns().get(slot).and_then(|id| self.leases.0.get(*id)).map(|lease| lease.attached.turn);
        self.holds.values().find(|holding| holding.slot == *slot && holding.waits(turn))
    }

    /// Whether a container is started beside another one of its slot that has the ports, or while they are held.
    pub(super) fn beside(&self, id: &ContainerId, slot: &Slot) -> bool {
        self.held(slot).is_some() || self.leases.turns().get(slot).is_some_and(|other| *other != id)
    }

    /// The ports that are kept on the host for a slot: of those who run, or whose ports are held.
    pub(super) fn kept_for(&self, slot: &Slot) -> Vec<ports::Place> {
        let keeps = |(id, lease): &(&ContainerId, &Lease)| lease.life != Life::Ended || self.holds.contains_key(*id);
        let kept = self.leases.of_slot(slot).filter(keeps);
        kept.flat_map(|(_, lease)| lease.attached.published.iter().map(ports::place)).collect()
    }

    /// Where published ports lead.
    pub(super) fn led(&self) -> Vec<(Published, Vec<IpAddr>)> {
        let mut led = Vec::new();
        let turns = self.leases.turns();
        for holding in self.holds.values() {
            let turn = turns.get(&holding.slot).map(|id| self.leases.0[*id].attached.turn);
            // First: of two that are the same the first one counts.
            let ports = holding.held.ports.iter().filter(|_| holding.waits(turn));
            led.extend(ports.map(|port| (port.published(), vec![port.at.ip()])));
        }
        for id in turns.values() {
            let attached = &self.leases.0[*id].attached;
            let to = ports::leads_to(attached);
            led.extend(attached.published.iter().map(|port| (port.clone(), to.clone())));
        }
        led
    }

    /// Who runs beside the one of its slot that has the ports, and whose ports are held.
    pub(super) fn turned(&self) -> (BTreeSet<ContainerId>, BTreeSet<ContainerId>) {
        let turns = self.leases.turns();
        let beside = self.leases.alive().filter(|(id, lease)| {
            lease.attached.turn == Turn::Standby || turns.get(&lease.spec.slot).is_some_and(|mine| mine != id)
        });
        let beside: BTreeSet<ContainerId> = beside.map(|(id, _)| id.clone()).collect();
        let turn = |slot: &Slot| turns.get(slot).map(|id| self.leases.0[*id].attached.turn);
        let held = self
            .holds
            .iter()
            .filter(|(id, holding)| holding.ruled && holding.waits(turn(&holding.slot)) && !beside.contains(*id));
        let held = held.map(|(id, _)| id.clone()).collect();
        (beside, held)
    }

    /// Of what was held for too long, in words.
    pub(super) fn expired_holds(&self, limit: Duration) -> Vec<String> {
        let expired = self.holds.values().filter(|holding| holding.expired && !holding.led);
        let words = expired.map(|Holding { slot, .. }| {
            format!("the ports of {slot} were held for {} s while its container is replaced, which is as long as connections wait: they are closed until another container has the ports", limit.as_secs())
        });
        words.collect()
    }
}

impl Holding {
    /// Whether what comes waits here. `turn`: that of who has the ports of the slot.
    fn waits(&self, turn: Option<Turn>) -> bool {
        !self.led && turn.is_none_or(|turn| turn <= Turn::Number(self.held.turn))
    }
}

/// Who is known by name: of each slot the one whose turn it is.
pub(super) fn named(leases: &Leases) -> BTreeSet<ContainerId> {
    let turns: BTreeMap<&Slot, &ContainerId> = leases.turns();
    turns.into_values().cloned().collect()
}

/// The processes that keep a container's ports: its follower, and who carries them. Blocks.
fn keepers(lease: &Lease) -> Vec<ProcessId> {
    let Life::Running(init) = lease.life else { return Vec::new() };
    let mut keepers: Vec<ProcessId> = namespace::keeper(init).into_iter().collect();
    if lease.attached.published.iter().any(ports::is_carried) {
        keepers.extend(forward::carriers(&ports::leads_to(&lease.attached)));
    }
    keepers
}

/// Whether the packet filter leads it.
fn is_led(port: &Published) -> bool {
    port.protocol == Protocol::Tcp && !ports::is_carried(port)
}

fn of_family(port: &Published, address: IpAddr) -> bool {
    let loopback = port.exposure == Exposure::Loopback && port.address.is_none();
    let asked = port.address.map(|address| address.is_ipv6()).or(loopback.then_some(false));
    asked.is_none_or(|ipv6| ipv6 == address.is_ipv6())
}

fn listen_at(address: IpAddr) -> io::Result<std::os::fd::OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
    bind(&socket, &SocketAddr::new(address, 0))?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}
