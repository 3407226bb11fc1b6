//! The rules in force: made from what is, applied together for all who wait.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::ruleset::{Endpoint, RuledNetwork, Rules};
use super::{Networks, State, nft, ruleset, sysctl};
use crate::model::{Driver, Link, Published, sentence};

/// Why the rules are not in force.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the rules of the packet filter are not in force: {0}")]
pub struct GuardError(pub(super) String);

/// Who wants rules waits here; whoever is first applies them for all.
#[derive(Debug, Default)]
pub(super) struct Applying {
    wanted: AtomicU64,
    applied: tokio::sync::Mutex<u64>,
}

impl Applying {
    /// Why the rules in force are not those that were applied last; none while some are being applied.
    pub(super) async fn drift(&self, nft: &nft::Nft) -> Option<String> {
        let _one = self.applied.lock().await;
        nft.check().await
    }
}

/// Our table's name, in each family.
pub(super) fn table(instance: &str) -> String {
    format!("longshore_{instance}")
}

impl Networks {
    /// Puts the rules in force for what is now; done when they are. Many who ask at once are served by one transaction.
    pub(super) async fn enforce(&self) -> Result<(), GuardError> {
        let mine = self.0.rules.wanted.fetch_add(1, Ordering::SeqCst) + 1;
        let mut applied = self.0.rules.applied.lock().await;
        if *applied >= mine {
            return Ok(());
        }
        let now = self.0.rules.wanted.load(Ordering::SeqCst);
        self.apply().await?;
        *applied = now;
        Ok(())
    }

    /// For the planner: puts right what others changed.
    pub async fn guard(&self) -> Result<(), GuardError> {
        let (any, ipv6) = self.families();
        let set = super::blocking(move || if any { sysctl::forward(ipv6) } else { Ok(()) }).await;
        set.and_then(|set| set).map_err(|error| GuardError(error.to_string()))?;
        self.enforce().await?;
        self.state().firewall = None;
        self.notify();
        Ok(())
    }

    /// Whether there is any network, and any with IPv6.
    pub(super) fn families(&self) -> (bool, bool) {
        let state = self.state();
        let ipv6 = |made: &super::Made| made.network.ipv6 && made.network.driver == Driver::Bridge;
        (!state.made.is_empty(), state.made.values().any(ipv6))
    }

    async fn apply(&self) -> Result<(), GuardError> {
        let nft: &nft::Nft = self.0.nft.as_ref().map_err(|why| GuardError(why.clone()))?;
        let rules = self.rules();
        let done = match rules {
            Some(rules) => nft.apply(&ruleset::json(&rules)).await,
            None => nft.remove().await,
        };
        done.map_err(|error| GuardError(sentence(&error)))
    }

    /// The rules for what is now; none where there is no network.
    fn rules(&self) -> Option<Rules> {
        let state = self.state();
        let networks: Vec<RuledNetwork> = self.ruled(&state);
        if networks.is_empty() {
            return None;
        }
        let (mut endpoints, mut published) = (Vec::new(), Vec::new());
        for (_, lease) in state.leases.alive() {
            for link in &lease.attached.links {
                if let (Link::Bridge { bridge, port }, Some(mac)) = (&link.link, link.mac) {
                    endpoints.push(Endpoint {
                        port: port.clone(),
                        interface: bridge.clone(),
                        mac,
                        addresses: link.addresses.iter().map(|cidr| cidr.address).collect(),
                    });
                }
            }
            let to = reached_at(&lease.attached);
            published.extend(lease.attached.published.iter().map(|port: &Published| (port.clone(), to.clone())));
        }
        let settings = &self.0.settings;
        Some(Rules {
            table: table(&settings.instance),
            networks,
            endpoints,
            published,
            blocked: settings.blocked.clone(),
            api: settings.api,
        })
    }

    fn ruled(&self, state: &State) -> Vec<RuledNetwork> {
        let bridges = state.made.iter().filter(|(_, made)| made.network.driver == Driver::Bridge);
        let ruled = bridges.filter_map(|(id, made)| {
            Some(RuledNetwork {
                interface: self.0.interface(id, made)?,
                subnets: made.pools.iter().map(|pool| pool.subnet).collect(),
                gateways: made.pools.iter().filter_map(|pool| pool.gateway).collect(),
                internal: made.network.internal,
                masquerade: !made.network.internal,
            })
        });
        ruled.collect()
    }
}

/// Where published ports lead: the addresses of the first link that is not internal, and has a bridge.
fn reached_at(attached: &crate::model::Attached) -> Vec<IpAddr> {
    let bridged = |link: &&crate::model::Attachment| matches!(link.link, Link::Bridge { .. }) && !link.internal;
    // The one with the way out comes first: answers take that way.
    let way_out = attached.links.iter().filter(bridged).max_by_key(|link| !link.gateways.is_empty());
    let Some(link) = way_out else { return Vec::new() };
    link.ipv4().map(IpAddr::V4).into_iter().chain(link.ipv6().map(IpAddr::V6)).collect()
}
