//! What other tables drop that ours let through. Pure: the listing of all rules comes in.

use std::fmt;

use serde_json::Value;

use crate::network::ruleset::Table;

/// A chain of somebody else that drops what is forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barrier {
    /// Whose it seems to be.
    pub owner: Owner,
    /// The table's family.
    pub family: String,
    /// The table's name.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The bridge that nothing lets through, or the beginning of its name with a `*`.
    pub bridge: String,
}

/// Who makes chains that drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Docker sets the policy of FORWARD.
    Docker,
    /// ufw.
    Ufw,
    /// firewalld.
    Firewalld,
    /// Rules of iptables.
    Iptables,
    /// Any other table.
    Other,
}

impl fmt::Display for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, family, table, chain, bridge } = self;
        let iptables = if family == "ip6" { "ip6tables" } else { "iptables" };
        let plus = bridge.replace('*', "+");
        write!(f, "containers of {bridge} reach nothing outside: ")?;
        match owner {
            Owner::Docker => write!(
                f,
                "Docker drops what is forwarded (chain {chain}); let it pass: {iptables} -I DOCKER-USER -i '{plus}' -j ACCEPT; {iptables} -I DOCKER-USER -o '{plus}' -j ACCEPT"
            ),
            Owner::Ufw => write!(
                f,
                "ufw drops what is forwarded; let it pass: ufw route allow in on '{plus}'; ufw route allow out on '{plus}'"
            ),
            Owner::Firewalld => write!(
                f,
                "firewalld rejects what is forwarded; let it pass: firewall-cmd --permanent --zone=trusted --add-interface='{plus}' && firewall-cmd --reload"
            ),
            Owner::Iptables => write!(
                f,
                "the chain {chain} of {iptables} drops what is forwarded; let it pass: {iptables} -I {chain} -i '{plus}' -j ACCEPT; {iptables} -I {chain} -o '{plus}' -j ACCEPT"
            ),
            Owner::Other => write!(
                f,
                "the chain {chain} of the table {family} {table} drops what is forwarded; let it pass: nft insert rule {family} {table} {chain} iifname '\"{bridge}\"' accept; nft insert rule {family} {table} {chain} oifname '\"{bridge}\"' accept"
            ),
        }
    }
}

/// The first one that drops what comes from or goes to one of these bridges.
pub(super) fn barrier(listing: &Value, ours: &[&Table], bridges: &[String]) -> Option<Barrier> {
    let objects = || listing["nftables"].as_array().into_iter().flatten();
    let chains = objects().filter_map(|object| object.get("chain"));
    for chain in chains.clone() {
        let (family, table) = (text(chain, "family"), text(chain, "table"));
        let place = |other: &Value| text(other, "family") == family && text(other, "table") == table;
        if text(chain, "hook") != "forward"
            || text(chain, "type") != "filter"
            || !["ip", "ip6", "inet"].contains(&family)
            || ours.iter().any(|table_of_ours| table_of_ours.family == family && table_of_ours.name == table)
        {
            continue;
        }
        let rules: Vec<&Value> = objects().filter_map(|o| o.get("rule")).filter(|rule| place(rule)).collect();
        let last = rules.iter().rfind(|rule| rule["chain"] == chain["name"]);
        if text(chain, "policy") != "drop" && !last.is_some_and(|rule| drops_all(rule)) {
            continue;
        }
        let missing = bridges.iter().find(|bridge| {
            !["iifname", "oifname"].iter().all(|key| rules.iter().any(|rule| lets_through(rule, key, bridge)))
        });
        let Some(bridge) = missing else { continue };
        let named = |name: &str| chains.clone().any(|other| place(other) && text(other, "name").contains(name));
        let owner = match (table, text(chain, "name")) {
            ("firewalld", _) => Owner::Firewalld,
            ("filter", "FORWARD") if named("DOCKER-USER") => Owner::Docker,
            ("filter", "FORWARD") if named("ufw") => Owner::Ufw,
            ("filter", "FORWARD") => Owner::Iptables,
            _ => Owner::Other,
        };
        return Some(Barrier {
            owner,
            family: family.to_owned(),
            table: table.to_owned(),
            chain: text(chain, "name").to_owned(),
            bridge: if bridge.starts_with("ls-") { "ls-*".into() } else { bridge.clone() },
        });
    }
    None
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn expressions(rule: &Value) -> impl Iterator<Item = &Value> {
    rule["expr"].as_array().into_iter().flatten()
}

/// Without a condition.
fn drops_all(rule: &Value) -> bool {
    let has = |expression: &Value, words: &[&str]| words.iter().any(|word| expression.get(word).is_some());
    expressions(rule).all(|e| has(e, &["counter", "log", "drop", "reject"]))
        && expressions(rule).any(|e| has(e, &["drop", "reject"]))
}

/// It looks at the bridge's name, and does not drop.
fn lets_through(rule: &Value, key: &str, bridge: &str) -> bool {
    let names = |value: &Value| value.as_str().is_some_and(|name| covers(name, bridge));
    let looks = expressions(rule).filter_map(|e| e.get("match")).any(|looked| {
        looked["op"] == "=="
            && looked["left"]["meta"]["key"] == key
            && (names(&looked["right"]) || looked["right"]["set"].as_array().is_some_and(|set| set.iter().any(names)))
    });
    looks && expressions(rule).any(|e| ["accept", "jump", "goto"].iter().any(|word| e.get(word).is_some()))
}

fn covers(name: &str, bridge: &str) -> bool {
    name.strip_suffix('*').map_or(name == bridge, |start| bridge.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn chain(table: &str, name: &str, policy: &str) -> Value {
        json!({ "chain": { "family": "ip", "table": table, "name": name, "type": "filter", "hook": "forward", "policy": policy } })
    }

    fn rule(table: &str, name: &str, expr: &Value) -> Value {
        json!({ "rule": { "family": "ip", "table": table, "chain": name, "expr": expr } })
    }

    fn look(objects: &[Value]) -> Option<Owner> {
        barrier(&json!({ "nftables": objects }), &[], &["ls-abc".to_owned()]).map(|barrier| barrier.owner)
    }

    #[test]
    fn a_chain_that_drops_is_found_and_one_that_lets_us_through_is_not() {
        let user = json!({ "chain": { "family": "ip", "table": "filter", "name": "DOCKER-USER" } });
        let docker = [chain("filter", "FORWARD", "drop"), user];
        assert_eq!(look(&docker), Some(Owner::Docker));
        let pass = |key: &str, name: &str| json!([{ "match": { "op": "==", "left": { "meta": { "key": key } }, "right": name } }, { "counter": { "packets": 1, "bytes": 1 } }, { "accept": null }]);
        let one = [&docker[..], &[rule("filter", "DOCKER-USER", &pass("iifname", "ls-*"))]].concat();
        assert_eq!(look(&one), Some(Owner::Docker), "one direction is not enough");
        let both = [&one[..], &[rule("filter", "DOCKER-USER", &pass("oifname", "ls-abc"))]].concat();
        assert_eq!(look(&both), None);
        let other = [&one[..], &[rule("filter", "DOCKER-USER", &pass("oifname", "docker0"))]].concat();
        assert_eq!(look(&other), Some(Owner::Docker));
        assert_eq!(look(&[chain("filter", "FORWARD", "accept")]), None);
        let reject = rule("firewalld", "filter_FORWARD", &json!([{ "reject": { "type": "icmpx" } }]));
        assert_eq!(look(&[chain("firewalld", "filter_FORWARD", "accept"), reject]), Some(Owner::Firewalld));
        let some = json!([{ "match": { "op": "==", "left": { "meta": { "key": "iifname" } }, "right": "eth0" } }, { "drop": null }]);
        assert_eq!(look(&[chain("mine", "f", "accept"), rule("mine", "f", &some)]), None, "only what comes from eth0");
    }
}
