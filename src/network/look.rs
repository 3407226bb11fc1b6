//! A look at what others may have changed: after events of the kernel, and now and then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::addresses::{self, Taken};
use super::leases::{Lease, Life};
use super::netlink::{Snapshot, Socket};
use super::watch::Watch;
use super::{Networks, State, bridge, ports, rules, sysctl};
use crate::model::{ContainerId, Driver, Link, NetworkId, Published};

/// Events come in storms; so long they are gathered.
const GATHER: Duration = Duration::from_millis(100);
/// Without events it is looked so often.
const PERIOD: Duration = Duration::from_secs(30);
/// So often where a process carries ports: no event tells that it has ended.
const PERIOD_CARRIED: Duration = Duration::from_secs(5);

impl Networks {
    /// Looks for as long as the daemon lives.
    pub(super) fn watch(&self) {
        let all = self.clone();
        tokio::spawn(async move {
            let mut watch = match Watch::open() {
                Ok(watch) => Some(watch),
                Err(error) => {
                    tracing::warn!(%error, "changes of networks are not told by the kernel; they are looked for every {} s", PERIOD.as_secs());
                    None
                }
            };
            let mut looked = Instant::now();
            loop {
                let rules = all.event(watch.as_mut()).await || looked.elapsed() >= PERIOD;
                if rules {
                    looked = Instant::now();
                    all.find_filter().await;
                }
                if all.state().made.is_empty() {
                    continue;
                }
                let looking = all.clone();
                if super::blocking(move || looking.look_now()).await.is_ok() && rules {
                    all.look_at_rules().await;
                }
            }
        });
    }

    /// Waits for an event or the period; whether the rules are known to have changed.
    async fn event(&self, watch: Option<&mut Watch>) -> bool {
        // Also of who is about to run: nothing tells of the moment when it does.
        let carried = self.state().leases.alive().any(|(_, l)| l.attached.published.iter().any(ports::is_carried));
        let period = if carried { PERIOD_CARRIED } else { PERIOD };
        let Some(watch) = watch else {
            tokio::time::sleep(period).await;
            return false;
        };
        let Ok(seen) = tokio::time::timeout(period, watch.changed()).await else { return false };
        tokio::time::sleep(GATHER).await;
        match seen {
            Ok(seen) => seen.rules,
            Err(error) => {
                tracing::debug!(%error, "events of networks cannot be read");
                tokio::time::sleep(Duration::from_secs(1)).await;
                true
            }
        }
    }

    /// Looks at bridges and links. Blocks.
    pub(super) fn look_now(&self) {
        let seen = Socket::open().map_err(|error| error.to_string());
        let seen = seen.and_then(|socket| socket.snapshot().map_err(|error| error.to_string()));
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) => return tracing::debug!(error, "networks cannot be looked at"),
        };
        let mut uncarried = self.carried();
        uncarried.retain(|_, carried| {
            *carried = ports::unheld(carried);
            !carried.is_empty()
        });
        let mut state = self.state();
        let broken: BTreeMap<NetworkId, String> = state
            .made
            .iter()
            .filter_map(|(id, made)| {
                let wrong = match &made.network.driver {
                    Driver::Bridge => bridge_wrong(&self.0.bridge(id, made), &seen),
                    Driver::Macvlan { .. } | Driver::Ipvlan { .. } => {
                        let name = self.0.interface(id, made)?;
                        seen.link(&name).is_none().then(|| format!("the interface {name} is gone"))
                    }
                };
                Some((id.clone(), wrong?))
            })
            .collect();
        let lost = lost(&state, &uncarried, |bridge, port| {
            bridge::port_fault(port, bridge, &seen).map(|fault| format!("its port {port} {fault}"))
        });
        let clashes = self.clashes(&state, &seen);
        let changed = broken != state.broken || lost != state.lost || clashes != state.clashes;
        state.clashes = clashes;
        state.broken = broken;
        state.lost = lost;
        drop(state);
        if changed {
            self.notify();
        }
    }

    /// Networks whose addresses the host reaches by another way, too: a VPN that came up later.
    fn clashes(&self, state: &State, seen: &Snapshot) -> Vec<String> {
        let bridges = || state.made.iter().filter(|(_, made)| made.network.driver == Driver::Bridge);
        let ours: Vec<String> = bridges().filter_map(|(id, made)| self.0.interface(id, made)).collect();
        let taken = addresses::on_host(seen, |link| ours.contains(&link.name));
        let of = |made: &super::Made| {
            let pools = made.pools.iter();
            let clash = pools
                .flat_map(|pool| taken.iter().filter(|taken| taken.cidr.overlaps(pool.subnet)).map(move |t| (pool, t)));
            let words = clash.map(|(pool, taken)| {
                let (name, subnet, Taken { cidr, what }) = (&made.network.name, pool.subnet, taken);
                format!("network {name} has {subnet}, and so has {what} ({cidr}): one of them does not reach the other; another subnet is taken once no container uses the network")
            });
            words.collect::<Vec<_>>()
        };
        bridges().flat_map(|(_, made)| of(made)).collect()
    }

    /// The ports that processes carry, of containers that run.
    fn carried(&self) -> BTreeMap<ContainerId, Vec<Published>> {
        let state = self.state();
        let running = state.leases.0.iter().filter(|(_, lease)| matches!(lease.life, Life::Running(_)));
        let carried = running.map(|(id, lease)| {
            let ports = lease.attached.published.iter().filter(|published| ports::is_carried(published));
            (id.clone(), ports.cloned().collect::<Vec<_>>())
        });
        carried.filter(|(_, ports)| !ports.is_empty()).collect()
    }

    /// Looks whether the rules are in force as they were made.
    pub(super) async fn look_at_rules(&self) {
        let bridges = {
            let state = self.state();
            state.made.iter().filter_map(|(id, made)| self.0.interface(id, made)).collect::<Vec<_>>()
        };
        let rules::Look { drift, blocked_by } = self.0.rules.look(&bridges).await;
        let mut state = self.state();
        if drift.is_some() {
            state.firewall = drift;
        }
        let changed = state.firewall.is_some() || state.blocked_by != blocked_by;
        state.blocked_by = blocked_by;
        drop(state);
        if changed {
            self.notify();
        }
    }
}

/// What is wrong with a bridge and what goes with it, in words.
fn bridge_wrong(spec: &bridge::BridgeSpec, seen: &Snapshot) -> Option<String> {
    let fault = bridge::faults(spec, seen).first().map(|fault| format!("its bridge {} {fault}", spec.name));
    let forwarding = sysctl::Forwarding::look();
    let off = |what: &str| Some(format!("{what} was switched off"));
    fault.or_else(|| match () {
        () if !forwarding.ipv4 => off("net.ipv4.ip_forward"),
        () if spec.ipv6 && forwarding.ipv6 == Some(false) => off("net.ipv6.conf.all.forwarding"),
        () if !sysctl::routes_localnet(&spec.name) => off(&format!("net.ipv4.conf.{}.route_localnet", spec.name)),
        () if spec.ipv6 && !sysctl::has_ipv6(&spec.name) => off(&format!("IPv6 of {}", spec.name)),
        () => None,
    })
}

/// Containers that run with a link that is not on its bridge, or with a port that nobody carries. What is wrong inside a container cannot
/// be seen from here, and is kept.
fn lost(
    state: &State,
    uncarried: &BTreeMap<ContainerId, Vec<Published>>,
    wrong: impl Fn(&str, &str) -> Option<String>,
) -> BTreeMap<ContainerId, String> {
    let each = state.leases.0.iter().filter_map(|(id, lease)| {
        let Lease { attached, life: Life::Running(_), .. } = lease else { return None };
        let wrong = attached.links.iter().find_map(|link| match &link.link {
            Link::Bridge { bridge, port } => wrong(bridge, port),
            Link::Macvlan { .. } | Link::Ipvlan { .. } => None,
        });
        let uncarried = || {
            let port = uncarried.get(id)?.first()?;
            Some(format!("its port {} is not carried any more", ports::name(port)))
        };
        let unserved =
            || (!state.served.contains_key(id) && !attached.links.is_empty()).then(|| state.lost.get(id).cloned());
        Some((id.clone(), wrong.or_else(uncarried).or_else(|| unserved().flatten())?))
    });
    each.collect()
}
