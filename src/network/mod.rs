//! Networks: bridges and links, addresses, the packet filter, published ports and names.
//!
//! ```text
//! DATA/networks/ID.json     what a network was made from, and its subnets
//! ls-XXXXXXXXXX             its bridge, with the alias `longshore INSTANCE ID`
//! lvXXXXXXXXXXX             a container's port of it; the other end is in the container's network namespace
//! RUN/hold/ID               where the process is spoken to that holds a container's ports, see [`hold`]
//! inet longshore_INSTANCE   our table of the packet filter; the same name in the family bridge
//! ```
//! A container's network namespace belongs to its shim, which makes the links in it (see [`link`]): they end with it. What a
//! container was joined to is recorded with the container; these records are the leases of addresses and ports.
//!
//! What others change is seen by events of the kernel ([`watch`]) and a look now and then, shown by [`Networks::observe`], and put
//! right when the planner says so.

pub mod addresses;
mod attach;
pub mod bridge;
pub mod conntrack;
pub mod dns;
pub mod forward;
mod handover;
pub mod hold;
mod leases;
pub mod link;
mod look;
mod make;
pub mod namespace;
pub mod netlink;
pub mod nft;
pub mod ports;
mod record;
mod rules;
pub mod ruleset;
pub mod sysctl;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch as changes;

use crate::model::{
    Ability, Attached, Cidr, ContainerId, ContainerSpec, Exposure, NetworkId, ObservedNetwork, ProcessId,
};
use leases::{Lease, Leases, Life};
use record::{Made, Records};

pub use attach::AttachError;
pub use handover::HandOverError;
pub use make::{MakeError, RemoveError};
pub use rules::GuardError;

/// What is configured.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the records lie.
    pub data_dir: PathBuf,
    /// Where what lasts as long as the machine runs is found again.
    pub run_dir: PathBuf,
    /// The program of our roles.
    pub exe: PathBuf,
    /// Which daemon of this machine: eight hex digits.
    pub instance: String,
    /// Where subnets come from.
    pub pools: addresses::Pools,
    /// On which address ports are published whose file names none.
    pub publish_ip: Option<IpAddr>,
    /// Who reaches published ports.
    pub exposure: Exposure,
    /// What containers do not reach.
    pub blocked: Vec<Cidr>,
    /// Where the API is served by TCP: containers do not reach it.
    pub api: Option<SocketAddr>,
    /// What `host-gateway` means; none: the gateway of the container's first network.
    pub host_gateway: Option<IpAddr>,
    /// So long new connections wait while a container is replaced whose ports are held.
    pub hold: Duration,
}

/// The networks of a data directory. Cheap to clone; every clone is the same.
#[derive(Clone)]
pub struct Networks(Arc<Inner>);

struct Inner {
    settings: Settings,
    records: Records,
    resolver: dns::Resolver,
    state: Mutex<State>,
    /// One container chooses its addresses and ports at a time: that may take a moment, for which the state is not locked.
    choosing: Mutex<()>,
    /// One change of bridges at a time.
    making: tokio::sync::Mutex<()>,
    /// Whose turn it is, is told by one at a time.
    settling: tokio::sync::Mutex<()>,
    rules: rules::Applying,
    changed: changes::Sender<u64>,
}

#[derive(Default)]
struct State {
    made: BTreeMap<NetworkId, Made>,
    /// Of those that were made: what is wrong with them.
    broken: BTreeMap<NetworkId, String>,
    leases: Leases,
    /// Containers that run and lack something.
    lost: BTreeMap<ContainerId, String>,
    /// Why the rules are to be put right.
    firewall: Option<String>,
    /// Other tables that drop what is for our networks.
    blocked_by: Option<String>,
    /// Why there is no packet filter.
    filterless: Option<String>,
    /// Networks whose addresses somebody else has, too, by now.
    clashes: Vec<String>,
    /// Whose ports are held, or were until what waited is served.
    holds: BTreeMap<ContainerId, handover::Holding>,
    /// Whose names are answered now.
    served: BTreeMap<ContainerId, ProcessId>,
}

/// A container that was found, and what it is joined to.
pub struct Holder {
    /// What it is.
    pub spec: ContainerSpec,
    /// What it got at its last start.
    pub attached: Attached,
    /// Its init, where it runs.
    pub init: Option<ProcessId>,
}

/// What is seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The networks.
    pub networks: BTreeMap<NetworkId, ObservedNetwork>,
    /// Containers that run and lack a link, and what is wrong.
    pub lost: BTreeMap<ContainerId, String>,
    /// Containers that run beside the one of their slot that has its ports.
    pub standby: BTreeSet<ContainerId>,
    /// Containers to whose ports new connections wait until another one of their slot has them.
    pub held: BTreeSet<ContainerId>,
    /// Why the rules must be put right.
    pub firewall: Option<String>,
}

/// Why there can be no networks at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The records.
    #[error("the records of networks in {} cannot be read", path.display())]
    Records {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Networks {
    /// Reads the records, takes over what is there and begins to watch. Within a tokio runtime. Gives notes for the log.
    pub async fn open(settings: Settings, holders: Vec<Holder>) -> Result<(Self, Vec<String>), OpenError> {
        let fail = |source| OpenError::Records { path: settings.data_dir.join("networks"), source };
        let (records, made, mut notes) = Records::open(&settings.data_dir).map_err(fail)?;
        let (nft, filterless) = match nft::Nft::find().await {
            Ok(nft) => (Some(nft), None),
            Err(error) => (None, Some(crate::model::sentence(&error))),
        };
        let mut state = State { made, filterless, ..State::default() };
        for Holder { spec, attached, init } in holders {
            if attached.links.is_empty() && attached.published.is_empty() {
                continue;
            }
            let life = init.map_or(Life::Ended, Life::Running);
            state.leases.0.insert(spec.id.clone(), Lease { spec: Arc::new(spec), attached, life });
        }
        if !state.made.is_empty() {
            state.firewall = Some("the daemon was started: the rules are put in force".to_owned());
        }
        let (changed, _) = changes::channel(0);
        let resolver = dns::Resolver::new(dns::Settings::default());
        let all = Self(Arc::new(Inner {
            settings,
            records,
            resolver,
            state: Mutex::new(state),
            choosing: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            settling: tokio::sync::Mutex::default(),
            rules: rules::Applying::new(nft),
            changed,
        }));
        notes.extend(all.sweep());
        all.look_now();
        if let Err(error) = all.adopt_holders().await {
            notes.push(format!("{error}"));
        }
        all.answer_names();
        let none = all.state().made.is_empty();
        if none && let Err(error) = all.enforce().await {
            notes.push(format!("{error}"));
        }
        all.watch();
        Ok((all, notes))
    }

    /// What is, as it was seen last. Cheap.
    #[must_use]
    pub fn observe(&self) -> Seen {
        let state = self.state();
        let networks = state.made.iter().map(|(id, made)| {
            let seen = ObservedNetwork {
                network: made.network.clone(),
                subnets: made.pools.iter().map(|pool| pool.subnet).collect(),
                gateways: made.pools.iter().filter_map(|pool| pool.gateway).collect(),
                interface: self.0.interface(id, made),
                broken: state.broken.get(id).cloned(),
            };
            (id.clone(), seen)
        });
        let networks = networks.collect();
        let (standby, held) = state.turned();
        Seen { networks, lost: state.lost.clone(), standby, held, firewall: state.firewall.clone() }
    }

    /// What is configured.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Counts what changed in [`Self::observe`].
    #[must_use]
    pub fn changed(&self) -> changes::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// What this machine lacks for networks, and why.
    #[must_use]
    pub fn lacks(&self) -> BTreeMap<Ability, String> {
        let mut lacks = BTreeMap::new();
        if let Some(why) = self.state().filterless.clone() {
            lacks.insert(Ability::Networks, why);
        }
        if !std::path::Path::new("/proc/sys/net/ipv6").exists() {
            lacks.insert(Ability::Ipv6, "the kernel has no IPv6, or it is switched off (ipv6.disable=1)".to_owned());
        }
        lacks
    }

    /// What the owner should know and nothing can be done about from here.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let state = self.state();
        let mut notes = state.expired_holds(self.0.settings.hold);
        notes.extend(state.blocked_by.iter().chain(&state.clashes).cloned());
        notes
    }

    fn notify(&self) {
        self.0.changed.send_modify(|count| *count += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Maps are whole whatever panicked.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The interface that stands for a network on the host.
    fn interface(&self, id: &NetworkId, made: &Made) -> Option<String> {
        use crate::model::Driver;
        match &made.network.driver {
            Driver::Bridge => Some(made.network.bridge.clone().unwrap_or_else(|| self.own_name("ls-", &[id.as_str()]))),
            Driver::Macvlan { parent, .. } | Driver::Ipvlan { parent, .. } => {
                Some(parent.clone().unwrap_or_else(|| self.own_name("ls-", &[id.as_str()])))
            }
        }
    }

    /// The name of the host's end of a container's link.
    fn port(&self, container: &ContainerId, network: &NetworkId) -> String {
        self.own_name("lv", &[container.as_str(), network.as_str()])
    }

    /// A name for an interface: 13 characters of the 15 that there may be.
    fn own_name(&self, prefix: &str, parts: &[&str]) -> String {
        let parts: Vec<&[u8]> =
            std::iter::once(self.settings.instance.as_bytes()).chain(parts.iter().map(|p| p.as_bytes())).collect();
        addresses::interface(prefix, 13 - prefix.len(), &parts)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}
