//! The rules for networks: which are needed, and when one is made, put right or removed.
//!
//! A network is made as soon as a service in force joins it, and goes when none does and nothing that runs is on it. One that is
//! defined anew is another one: the old one goes once its containers have moved. Where the two cannot be at once, they leave first.

use std::collections::{BTreeMap, BTreeSet};

use super::order::Order;
use super::{Desired, Facts, Planner, Stopped, Upkeep, WaitingOn, hand, unmet};
use crate::model::{
    Action, Cidr, Driver, Join, Key, Location, Network, NetworkId, NetworkName, NetworkPlace, ObservedContainer,
    Problem, Project, ProjectName, Service, ServiceName, Severity, Slot, SpecHash,
};

/// Networks by their names outside: of several definitions that of the first project.
pub(super) type Defined<'a> = BTreeMap<&'a NetworkName, (NetworkId, &'a Network)>;

/// What the files say of networks, and who is on them.
pub(super) struct Networks<'a> {
    defined: Defined<'a>,
    /// What services in force join.
    needed: BTreeMap<NetworkId, &'a Network>,
    /// What something that runs, or is being started, is on.
    occupied: BTreeSet<NetworkId>,
    /// What containers are on, or would be again, of which nothing is changed for now.
    pinned: BTreeSet<NetworkId>,
    /// What a container that is kept as it is needs to be started again.
    pub(super) asked: BTreeMap<NetworkId, &'a Network>,
}

pub(super) fn defined(desired: &Desired) -> Defined<'_> {
    let mut defined = Defined::new();
    for network in desired.projects.values().flat_map(|project| project.networks.values()) {
        defined.entry(&network.name).or_insert_with(|| (NetworkId::derive(network), network));
    }
    defined
}

/// The services that cannot join what they name: a network that nobody defines, or that another file defines otherwise. Each with
/// what mends it.
#[must_use]
pub fn unjoined(desired: &Desired) -> BTreeMap<(ProjectName, ServiceName), Vec<Problem>> {
    let defined = defined(desired);
    let mut unjoined = BTreeMap::new();
    for project in desired.projects.values() {
        for service in project.services.values() {
            let problem = |join| unjoined_network(desired, &defined, project, service, join);
            let problems: Vec<Problem> = joins(service).iter().filter_map(problem).collect();
            if !problems.is_empty() {
                unjoined.insert((project.name.clone(), service.name.clone()), problems);
            }
        }
    }
    unjoined
}

fn unjoined_network(
    desired: &Desired,
    defined: &Defined<'_>,
    project: &Project,
    service: &Service,
    join: &Join,
) -> Option<Problem> {
    let name = &join.network;
    let (location, message, hint) = match obstacle(defined, project, join)? {
        Obstacle::Undefined => (
            Location::whole(project.file.clone()),
            format!("network {name} is external and no state file defines it"),
            format!("define it in one: networks: {{{name}: {{name: {name}}}}}"),
        ),
        Obstacle::Otherwise(own) => {
            let owner = desired.projects.values().find(|p| p.networks.contains_key(name))?;
            let (first, second) = (owner.file.display(), project.file.display());
            (
                own.location.clone(),
                format!(
                    "network {name} is defined by {first} and, otherwise, by {second}; that of {first} is in force"
                ),
                format!(
                    "define it in one of them, and say `external: true` in the other; or give it another `name` in {second}"
                ),
            )
        }
    };
    let key = format!("services.{}.networks", service.name);
    Some(Problem::new(Severity::Held, location, message).with_key(key).with_hint(hint))
}

/// Why a join cannot be.
enum Obstacle<'a> {
    Undefined,
    /// The project's own definition is not the one in force.
    Otherwise(&'a Network),
}

fn obstacle<'a>(defined: &Defined<'_>, project: &'a Project, join: &Join) -> Option<Obstacle<'a>> {
    let Some((id, network)) = defined.get(&join.network) else { return Some(Obstacle::Undefined) };
    let own = project.networks.get(&join.network)?;
    (!std::ptr::eq(own, *network) && NetworkId::derive(own) != *id).then_some(Obstacle::Otherwise(own))
}

fn joins(service: &Service) -> &[Join] {
    service.network.membership().map_or(&[], |membership| &membership.joins)
}

/// What a service that the file gives may do.
pub(super) enum Standing<'a> {
    /// It is in force.
    InForce,
    /// Its owner wants that nothing of it runs.
    Stopped(Stopped),
    /// A key of it holds it, or the machine, or a network that is defined otherwise elsewhere.
    Held,
    /// It joins a network that nobody defines.
    NoNetwork(&'a NetworkName),
}

pub(super) fn standing<'a>(
    facts: &Facts<'_>,
    (defined, order): (&Defined<'_>, &Order<'_>),
    project: &Project,
    service: &'a Service,
) -> Standing<'a> {
    if let Some(by) = hand::stopped(facts, project, service) {
        return Standing::Stopped(by);
    }
    if order.circular(&project.name, &service.name)
        || !service.holds.is_empty()
        || service.image.is_none()
        || unmet::holds(service, &facts.observed.lacks)
    {
        return Standing::Held;
    }
    for join in joins(service) {
        match obstacle(defined, project, join) {
            Some(Obstacle::Undefined) => return Standing::NoNetwork(&join.network),
            Some(Obstacle::Otherwise(_)) => return Standing::Held,
            None => {}
        }
    }
    Standing::InForce
}

impl<'a> Networks<'a> {
    pub(super) fn of(facts: &Facts<'a>, order: &Order<'a>) -> Self {
        let mut networks = Self {
            defined: defined(facts.desired),
            needed: BTreeMap::new(),
            occupied: BTreeSet::new(),
            pinned: BTreeSet::new(),
            asked: BTreeMap::new(),
        };
        networks.note_needed(facts, order);
        // Which places are filled by what: asked for each container.
        let made = facts.observed.containers.values().map(|c| (&c.spec.slot, &c.spec.service.hash)).collect();
        for container in facts.observed.containers.values() {
            networks.note_container(facts, order, container, &made);
        }
        for action in facts.under_way.values() {
            if let Action::Start { network: NetworkPlace::Networks(ids), .. } = action {
                networks.occupied.extend(ids.iter().cloned());
            }
        }
        networks
    }

    fn note_needed(&mut self, facts: &Facts<'a>, order: &Order<'a>) {
        for project in facts.desired.projects.values() {
            let services = project.services.values().filter(|service| service.replicas > 0);
            for service in services {
                if !matches!(standing(facts, (&self.defined, order), project, service), Standing::InForce) {
                    continue;
                }
                let known = joins(service).iter().filter_map(|join| self.defined.get(&join.network));
                self.needed.extend(known.map(|(id, network)| (id.clone(), *network)));
            }
        }
        // What is asked for once needs them too, also where no replica is wanted.
        for asked in facts.memory.tasks.values().filter(|asked| asked.over.is_none()) {
            let known = joins(&asked.service).iter().filter_map(|join| self.defined.get(&join.network));
            self.needed.extend(known.map(|(id, network)| (id.clone(), *network)));
        }
    }

    fn note_container(
        &mut self,
        facts: &Facts<'a>,
        order: &Order<'a>,
        container: &'a ObservedContainer,
        made: &BTreeSet<(&Slot, &SpecHash)>,
    ) {
        let attached = attached_to(facts, container);
        let slot = &container.spec.slot;
        let alive = container.state.alive();
        if alive {
            self.occupied.extend(attached.iter().cloned());
        }
        let Some(project) = facts.desired.projects.get(&slot.project) else {
            if facts.desired.kept.contains(&slot.project) {
                self.pinned.extend(attached);
            }
            return;
        };
        let Some(service) = project.services.get(&slot.service) else { return };
        if matches!(standing(facts, (&self.defined, order), project, service), Standing::InForce) {
            // What a successor is still to be made for stays, and runs again if it ends.
            let surplus = slot.number > service.replicas;
            // So does what ran at its time: the next run joins what the file says then.
            let task = container.spec.purpose.task().is_some();
            let over = (service.schedule.is_some() || task) && !alive;
            if surplus || over || (!task && made.contains(&(slot, &service.hash))) {
                return;
            }
        }
        let again = joins(&container.spec.service).iter().filter_map(|join| self.of_join(facts, container, join));
        let again: Vec<NetworkId> = again.map(|(id, _)| id).collect();
        self.pinned.extend(again);
        if alive {
            self.pinned.extend(attached);
        }
    }

    /// The network that a container joins under this name: as the files define it, else the one that it was on.
    pub(super) fn of_join(
        &self,
        facts: &Facts<'a>,
        container: &ObservedContainer,
        join: &Join,
    ) -> Option<(NetworkId, &'a Network)> {
        if let Some((id, network)) = self.defined.get(&join.network) {
            return Some((id.clone(), network));
        }
        let attached = facts.observed.attached.get(&container.spec.id)?;
        let link = attached.links.iter().find(|link| link.name == join.network)?;
        let observed = facts.observed.networks.get(&link.network)?;
        Some((link.network.clone(), &observed.network))
    }

    pub(super) fn defined(&self) -> &Defined<'a> {
        &self.defined
    }

    /// A network that is here, or being made, that is no longer needed, and that this one cannot be beside.
    pub(super) fn in_the_way(&self, facts: &Facts<'_>, id: &NetworkId, network: &Network) -> Option<NetworkId> {
        let unneeded = |other: &NetworkId| other != id && !self.needed.contains_key(other);
        let here = facts.observed.networks.iter().map(|(other, old)| (other.clone(), &old.network, &old.subnets[..]));
        let making = facts.under_way.values().filter_map(|action| match action {
            Action::MakeNetwork { network } => Some((NetworkId::derive(network), &**network, &[][..])),
            _ => None,
        });
        let mut others = here.chain(making).filter(|(other, ..)| unneeded(other));
        others.find(|(_, old, subnets)| exclude(old, subnets, network)).map(|(other, ..)| other)
    }

    /// Whether a container is on a network that no service joins any more.
    pub(super) fn leaves(&self, facts: &Facts<'_>, container: &ObservedContainer) -> bool {
        attached_to(facts, container).iter().any(|id| !self.needed.contains_key(id))
    }

    /// Whether a network goes as soon as the containers that are to move have moved.
    pub(super) fn yields(&self, id: &NetworkId) -> bool {
        !self.pinned.contains(id)
    }
}

/// The networks that a container is on; where its record is lost, those that have the names of what it joined.
fn attached_to(facts: &Facts<'_>, container: &ObservedContainer) -> BTreeSet<NetworkId> {
    if let Some(attached) = facts.observed.attached.get(&container.spec.id) {
        return attached.links.iter().map(|link| link.network.clone()).collect();
    }
    let named = |network: &NetworkName| joins(&container.spec.service).iter().any(|join| join.network == *network);
    let known = facts.observed.networks.iter().filter(|(_, observed)| named(&observed.network.name));
    known.map(|(id, _)| id.clone()).collect()
}

/// Whether a network cannot be made while the other one is there: the same bridge, subnets that overlap, or one wire used in two ways.
fn exclude(old: &Network, subnets: &[Cidr], new: &Network) -> bool {
    let bridge = new.bridge.is_some() && new.bridge == old.bridge;
    let asked = old.pools.iter().map(|pool| pool.subnet);
    let has: Vec<Cidr> = asked.chain(subnets.iter().copied()).collect();
    let subnet = new.pools.iter().any(|pool| has.iter().any(|subnet| subnet.overlaps(pool.subnet)));
    let wire = parent(new).is_some() && parent(new) == parent(old) && new.driver != old.driver;
    bridge || subnet || wire
}

fn parent(network: &Network) -> Option<&str> {
    match &network.driver {
        Driver::Bridge => None,
        Driver::Macvlan { parent, .. } | Driver::Ipvlan { parent, .. } => parent.as_deref(),
    }
}

/// Whether a container can be put on it now.
pub(super) fn up(facts: &Facts<'_>, id: &NetworkId) -> bool {
    let whole = facts.observed.networks.get(id).is_some_and(|observed| observed.broken.is_none());
    let going = matches!(facts.under_way.get(&Key::Network(id.clone())), Some(Action::RemoveNetwork { .. }));
    whole && !going
}

/// Why a network is not up, and when it is looked at again.
pub(super) fn waits_for(
    planner: &Planner<'_>,
    id: &NetworkId,
    network: &Network,
) -> (WaitingOn, Option<super::Timestamp>) {
    let facts = planner.facts;
    let here = facts.observed.networks.contains_key(id);
    let after = planner.networks.in_the_way(facts, id, network).filter(|_| !here);
    let make = Action::MakeNetwork { network: Box::new(network.clone()) };
    let until = facts.memory.failure(&make).map(|failure| failure.retry_at).filter(|at| *at > facts.now);
    (WaitingOn::Network { id: id.clone(), name: network.name.clone(), after }, until)
}

/// Makes, repairs and removes, after the slots said what they need.
pub(super) fn plan(planner: &mut Planner<'_>) {
    for (action, reason) in makes(planner).into_iter().chain(removals(planner)).chain(guard(planner)) {
        if let Err(blocked) = planner.attempt(None, action.clone(), reason)
            && let (on, Some(until)) = *blocked
        {
            planner.plan.wake(until);
            planner.plan.upkeep.push(Upkeep { action, on, until });
        }
    }
}

fn makes(planner: &Planner<'_>) -> Vec<(Action, String)> {
    let (facts, networks) = (planner.facts, &planner.networks);
    let mut wanted = networks.needed.clone();
    wanted.extend(networks.asked.iter().map(|(id, network)| (id.clone(), *network)));
    // What runs keeps the network that it is on, whatever the files say by now.
    let used = networks.occupied.iter().filter_map(|id| Some((id.clone(), &facts.observed.networks.get(id)?.network)));
    wanted.extend(used);
    let mut makes = Vec::new();
    for (id, network) in wanted {
        let observed = facts.observed.networks.get(&id);
        let reason = match observed.map(|observed| &observed.broken) {
            Some(None) => continue,
            Some(Some(why)) => why.clone(),
            None if networks.in_the_way(facts, &id, network).is_some() => continue,
            None => format!("a service joins network {}", network.name),
        };
        makes.push((Action::MakeNetwork { network: Box::new(network.clone()) }, reason));
    }
    makes
}

fn removals(planner: &Planner<'_>) -> Vec<(Action, String)> {
    let (facts, networks) = (planner.facts, &planner.networks);
    let kept = |id: &NetworkId| {
        let wanted = networks.needed.contains_key(id) || networks.asked.contains_key(id);
        wanted || networks.occupied.contains(id) || networks.pinned.contains(id)
    };
    let gone = facts.observed.networks.iter().filter(|(id, _)| !kept(id));
    gone.map(|(id, observed)| {
        let name = &observed.network.name;
        let reason = match networks.defined.get(name) {
            Some((present, _)) if present != id => format!("network {name} is defined anew"),
            Some(_) | None => "no service joins it any more".to_owned(),
        };
        (Action::RemoveNetwork { id: id.clone() }, reason)
    })
    .collect()
}

fn guard(planner: &Planner<'_>) -> Option<(Action, String)> {
    planner.facts.observed.firewall.clone().map(|why| (Action::Guard, why))
}
