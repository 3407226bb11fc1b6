//! Which container is joined to what: its addresses and ports are its own for as long as it exists.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{Attached, ContainerId, ContainerSpec, NetworkId, ProcessId, Published, Slot, Turn};

/// What one container has.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) spec: Arc<ContainerSpec>,
    pub(super) attached: Attached,
    pub(super) life: Life,
}

/// How far its holder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// It does not run. It keeps what it has until another one of its slot takes it over.
    Ended,
    /// It is about to run.
    Starting,
    /// It runs, with this init.
    Running(ProcessId),
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Leases(pub(super) BTreeMap<ContainerId, Lease>);

impl Leases {
    /// The addresses in a network that this container cannot have: those of all others, but for one of its own slot that has ended.
    pub(super) fn used(&self, network: &NetworkId, spec: &ContainerSpec) -> BTreeSet<IpAddr> {
        let others = self.0.iter().filter(|(id, lease)| **id != spec.id && !lease.yields(&spec.slot));
        others.flat_map(|(_, lease)| lease.addresses(network)).collect()
    }

    /// The addresses in a network that this container had, or one of its slot that has ended.
    pub(super) fn preferred(&self, network: &NetworkId, spec: &ContainerSpec) -> Vec<IpAddr> {
        let own = self.0.get(&spec.id).into_iter().flat_map(|lease| lease.addresses(network));
        let slot = self.0.iter().filter(|(id, lease)| **id != spec.id && lease.yields(&spec.slot));
        own.chain(slot.flat_map(|(_, lease)| lease.addresses(network))).collect()
    }

    /// Addresses that are had by nobody who runs, to be taken back where a network is full.
    pub(super) fn idle(&self, network: &NetworkId) -> BTreeSet<IpAddr> {
        let ended = self.0.values().filter(|lease| lease.life == Life::Ended);
        ended.flat_map(|lease| lease.addresses(network)).collect()
    }

    /// The host's ports that this container, or another one of its slot, has or had. They are handed over if need be.
    pub(super) fn previous_ports(&self, spec: &ContainerSpec) -> Vec<Published> {
        let own = self.0.get(&spec.id).into_iter();
        let slot = self.of_slot(&spec.slot).filter(|(id, _)| **id != spec.id).map(|(_, lease)| lease);
        own.chain(slot).flat_map(|lease| lease.attached.published.iter().cloned()).collect()
    }

    /// Containers that run, or are about to, and have links or ports.
    pub(super) fn alive(&self) -> impl Iterator<Item = (&ContainerId, &Lease)> {
        self.0.iter().filter(|(_, lease)| lease.life != Life::Ended)
    }

    /// For each slot, of those that run or are about to: who has its ports and names. None has them where all are on standby.
    pub(super) fn turns(&self) -> BTreeMap<&Slot, &ContainerId> {
        let mut turns: BTreeMap<&Slot, (Turn, &ContainerId)> = BTreeMap::new();
        for (id, lease) in self.alive().filter(|(_, lease)| lease.attached.turn != Turn::Standby) {
            let mine = (lease.attached.turn, id);
            turns.entry(&lease.spec.slot).and_modify(|best| *best = mine.max(*best)).or_insert(mine);
        }
        turns.into_iter().map(|(slot, (_, id))| (slot, id)).collect()
    }

    /// Those of a slot.
    pub(super) fn of_slot(&self, slot: &Slot) -> impl Iterator<Item = (&ContainerId, &Lease)> {
        self.0.iter().filter(move |(_, lease)| lease.spec.slot == *slot)
    }

    /// The turn of who gets the ports of a slot next.
    pub(super) fn next_turn(&self, slot: &Slot) -> Turn {
        let numbers = self.of_slot(slot).filter_map(|(_, lease)| match lease.attached.turn {
            Turn::Standby => None,
            Turn::Number(number) => Some(number),
        });
        Turn::Number(numbers.max().map_or(0, |number| number.saturating_add(1)))
    }

    /// Whether somebody who runs, or is about to, is joined to the network.
    pub(super) fn joined(&self, network: &NetworkId) -> Option<&ContainerSpec> {
        let joined = |lease: &&Lease| lease.attached.links.iter().any(|link| link.network == *network);
        self.alive().map(|(_, lease)| lease).find(joined).map(|lease| &*lease.spec)
    }
}

impl Lease {
    fn addresses(&self, network: &NetworkId) -> impl Iterator<Item = IpAddr> {
        let links = self.attached.links.iter().filter(move |link| link.network == *network);
        links.flat_map(|link| link.addresses.iter().map(|cidr| cidr.address))
    }

    /// Whether it gives way to a container of this slot.
    fn yields(&self, slot: &Slot) -> bool {
        self.life == Life::Ended && self.spec.slot == *slot
    }
}
