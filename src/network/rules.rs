//! The rules in force: made from what is, applied together for all who wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::conntrack::{self, Wrong};
use super::nft::Nft;
use super::ruleset::{Endpoint, RuledNetwork, Rules};
use super::sysctl::{self, SysctlError};
use super::{Networks, State};
use crate::model::{Driver, Link, sentence};

/// Why the rules are not in force.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the rules of the packet filter are not in force: {0}")]
pub struct GuardError(pub(super) String);

/// Who wants rules waits here; whoever is first applies them for all.
#[derive(Debug, Default)]
pub(super) struct Applying {
    wanted: AtomicU64,
    filter: tokio::sync::Mutex<Filter>,
}

#[derive(Debug, Default)]
struct Filter {
    nft: Option<Nft>,
    /// Up to whose wish it is as it should be.
    applied: u64,
    /// Which flows have another translation than they give.
    wrong: Wrong,
    /// When the rules of others were read last, at which generation, and what they drop that ours let through.
    others: Option<(Instant, Option<u32>, Option<String>)>,
    /// Nothing of ours is in force, for certain.
    clear: bool,
    /// Whose wish failed last, and why: so did those that waited with it.
    failed: Option<(u64, GuardError)>,
}

/// The rules of others are not read more often: what they drop is only told.
const OTHERS: Duration = Duration::from_secs(5);

/// What a look at the rules shows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// How they differ from what was put in force.
    pub(super) drift: Option<String>,
    /// What others drop that ours let through.
    pub(super) blocked_by: Option<String>,
}

impl Applying {
    pub(super) fn new(nft: Option<Nft>) -> Self {
        let filter = tokio::sync::Mutex::new(Filter { nft, ..Filter::default() });
        Self { wanted: AtomicU64::new(0), filter }
    }

    pub(super) async fn look(&self, bridges: &[String]) -> Look {
        let mut filter = self.filter.lock().await;
        let Filter { nft: Some(nft), others, .. } = &mut *filter else { return Look::default() };
        let drift = match nft.check().await {
            Ok(drift) => drift.map(|drift| drift.to_string()),
            Err(error) => Some(sentence(&error)),
        };
        let blocked_by = match others {
            Some((at, _, seen)) if at.elapsed() < OTHERS => seen.clone(),
            Some((_, generation, seen)) if generation.is_some() && *generation == Nft::generation() => seen.clone(),
            _ => {
                let generation = Nft::generation();
                // Only a hint: without it everything works as well.
                let seen = nft.blocked_by(bridges).await.ok().flatten().map(|barrier| barrier.to_string());
                *others = Some((Instant::now(), generation, seen.clone()));
                seen
            }
        };
        Look { drift, blocked_by }
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
        let mut filter = self.0.rules.filter.lock().await;
        if filter.applied >= mine {
            return Ok(());
        }
        if let Some((_, error)) = filter.failed.as_ref().filter(|(at, _)| *at >= mine) {
            return Err(error.clone());
        }
        let now = self.0.rules.wanted.load(Ordering::SeqCst);
        match self.apply(&mut filter).await {
            Ok(()) => filter.applied = now,
            Err(error) => {
                filter.failed = Some((now, error.clone()));
                return Err(error);
            }
        }
        Ok(())
    }

    /// For the planner: puts right what others changed.
    pub async fn guard(&self) -> Result<(), GuardError> {
        let (any, ipv6) = self.families();
        if any {
            forward(ipv6).map_err(|error| GuardError(sentence(&error)))?;
        }
        self.enforce().await?;
        // While rules were missing flows began without them.
        forget(self.0.rules.filter.lock().await.wrong.clone());
        self.state().firewall = None;
        self.notify();
        Ok(())
    }

    /// Looks for the packet filter again, where there was none: it may have been installed.
    pub(super) async fn find_filter(&self) {
        let mut filter = self.0.rules.filter.lock().await;
        if filter.nft.is_some() {
            return;
        }
        let found = Nft::find().await;
        let why = found.as_ref().err().map(|error| sentence(error));
        filter.nft = found.ok();
        drop(filter);
        let changed = std::mem::replace(&mut self.state().filterless, why.clone()) != why;
        if changed {
            self.notify();
        }
    }

    /// Whether there is any bridge, and any with IPv6.
    fn families(&self) -> (bool, bool) {
        let state = self.state();
        let bridges = || state.made.values().filter(|made| made.network.driver == Driver::Bridge);
        (bridges().next().is_some(), bridges().any(|made| made.network.ipv6))
    }

    async fn apply(&self, filter: &mut Filter) -> Result<(), GuardError> {
        let rules = self.rules();
        if rules.is_none() && filter.clear {
            return Ok(());
        }
        let Some(nft) = &mut filter.nft else {
            // Without networks nobody misses it.
            return match rules {
                Some(_) => Err(GuardError(self.state().filterless.clone().unwrap_or_default())),
                None => Ok(()),
            };
        };
        let done = match &rules {
            Some(rules) => nft.apply(&rules.transaction(nft.families())).await,
            None => nft.remove(&table(&self.0.settings.instance)).await,
        };
        filter.clear = false;
        done.map_err(|error| GuardError(sentence(&error)))?;
        filter.clear = rules.is_none();
        let wrong = Wrong::by(&rules.unwrap_or_default(), &filter.wrong);
        if wrong.published != filter.wrong.published {
            // Who asked before the port led anywhere would never be led there.
            forget(wrong.clone());
        }
        filter.wrong = wrong;
        Ok(())
    }

    /// The rules for what is now; none where there is no network.
    fn rules(&self) -> Option<Rules> {
        let state = self.state();
        let networks: Vec<RuledNetwork> = self.ruled(&state);
        if networks.is_empty() {
            return None;
        }
        let mut endpoints = Vec::new();
        for (_, lease) in state.leases.alive() {
            for link in &lease.attached.links {
                if let (Link::Bridge { port, .. }, Some(mac)) = (&link.link, link.mac) {
                    endpoints.push(Endpoint {
                        port: port.clone(),
                        mac,
                        addresses: link.addresses.iter().map(|cidr| cidr.address).collect(),
                    });
                }
            }
        }
        let settings = &self.0.settings;
        Some(Rules {
            table: table(&settings.instance),
            networks,
            endpoints,
            published: state.led(),
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
                internal: made.network.internal,
                masquerade: !made.network.internal,
            })
        });
        ruled.collect()
    }
}

/// Nobody waits for it.
fn forget(wrong: Wrong) {
    tokio::task::spawn_blocking(move || match conntrack::forget(&wrong) {
        Ok(0) => {}
        Ok(count) => tracing::debug!(count, "flows of UDP that went past the rules are forgotten"),
        Err(error) => tracing::debug!(%error, "flows of UDP that went past the rules cannot be forgotten"),
    });
}

/// Lets this machine hand on what it gets.
pub(super) fn forward(ipv6: bool) -> Result<(), SysctlError> {
    sysctl::forward_ipv4()?;
    if ipv6 { sysctl::forward_ipv6() } else { Ok(()) }
}
