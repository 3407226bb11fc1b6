//! The words of libnftables-json(5).

use std::net::IpAddr;

use serde_json::{Value, json};

use super::Table;
use crate::model::{Cidr, Protocol};

/// A table in the making: the commands that replace it.
pub(super) struct Draft {
    table: Table,
    commands: Vec<Value>,
}

/// Where a chain is called.
#[derive(Clone, Copy)]
pub(super) struct Hook {
    /// `filter` or `nat`.
    pub(super) kind: &'static str,
    /// Which.
    pub(super) hook: &'static str,
    /// The lower, the earlier.
    pub(super) priority: i32,
}

impl Draft {
    /// The table, empty: whatever was in it is gone.
    pub(super) fn new(family: &'static str, name: &str) -> Self {
        let table = Table { family, name: name.to_owned() };
        let named = json!({ "family": family, "name": name });
        let commands = vec![
            json!({ "add": { "table": &named } }),
            json!({ "delete": { "table": &named } }),
            json!({ "add": { "table": &named } }),
        ];
        Self { table, commands }
    }

    pub(super) fn done(self) -> (Table, Vec<Value>) {
        (self.table, self.commands)
    }

    /// Single values, or tuples of them.
    pub(super) fn set(&mut self, name: &str, kind: &Value, elements: Vec<Value>) {
        self.add_set("set", name, json!({ "type": kind }), elements);
    }

    /// Prefixes, or tuples with one, of which no two overlap.
    pub(super) fn intervals(&mut self, name: &str, kind: &Value, elements: Vec<Value>) {
        self.add_set("set", name, json!({ "type": kind, "flags": ["interval"] }), elements);
    }

    pub(super) fn map(&mut self, name: &str, kind: &Value, to: &str, elements: Vec<Value>) {
        self.add_set("map", name, json!({ "type": kind, "map": to }), elements);
    }

    fn add_set(&mut self, object: &str, name: &str, mut value: Value, elements: Vec<Value>) {
        value["family"] = self.table.family.into();
        value["table"] = self.table.name.as_str().into();
        value["name"] = name.into();
        if !elements.is_empty() {
            value["elem"] = elements.into();
        }
        self.commands.push(json!({ "add": { object: value } }));
    }

    pub(super) fn chain(&mut self, name: &str, hook: Hook, rules: Vec<Vec<Value>>) {
        let (family, table) = (self.table.family, self.table.name.as_str());
        let Hook { kind, hook, priority } = hook;
        self.commands.push(json!({ "add": { "chain": {
            "family": family, "table": table, "name": name,
            "type": kind, "hook": hook, "prio": priority, "policy": "accept"
        } } }));
        self.rules(name, rules);
    }

    /// A chain that others jump to, for `of`: that and the jump, for [`by`].
    pub(super) fn branch(&mut self, what: &str, of: &str, rules: Vec<Vec<Value>>) -> (String, Value) {
        let name = format!("{what}_{of}");
        let (family, table) = (self.table.family, self.table.name.as_str());
        self.commands.push(json!({ "add": { "chain": { "family": family, "table": table, "name": name } } }));
        self.rules(&name, rules);
        (of.to_owned(), json!({ "jump": { "target": name } }))
    }

    fn rules(&mut self, chain: &str, rules: Vec<Vec<Value>>) {
        let (family, table) = (self.table.family, self.table.name.as_str());
        self.commands.extend(rules.into_iter().map(
            |rule| json!({ "add": { "rule": { "family": family, "table": table, "chain": chain, "expr": rule } } }),
        ));
    }
}

/// Each value of `key` has its own verdict; the others have none.
pub(super) fn by(key: &Value, verdicts: &[(String, Value)]) -> Value {
    json!({ "vmap": { "key": key, "data": { "set": verdicts } } })
}

/// Back to where the branch was taken.
pub(super) fn leave_branch() -> Value {
    json!({ "return": null })
}

pub(super) fn meta(key: &str) -> Value {
    json!({ "meta": { "key": key } })
}

pub(super) fn field(protocol: &str, field: &str) -> Value {
    json!({ "payload": { "protocol": protocol, "field": field } })
}

pub(super) fn tuple<const N: usize>(parts: [Value; N]) -> Value {
    json!({ "concat": Vec::from(parts) })
}

pub(super) fn is(left: &Value, right: impl Into<Value>) -> Value {
    json!({ "match": { "op": "==", "left": left, "right": right.into() } })
}

pub(super) fn not(left: &Value, right: impl Into<Value>) -> Value {
    json!({ "match": { "op": "!=", "left": left, "right": right.into() } })
}

/// Of what conntrack knows: any of these.
pub(super) fn tracked(key: &str, any: &Value) -> Value {
    json!({ "match": { "op": "in", "left": { "ct": { "key": key } }, "right": any } })
}

pub(super) fn one_of(values: &Value) -> Value {
    json!({ "set": values })
}

pub(super) fn accept() -> Value {
    json!({ "accept": null })
}

pub(super) fn drop() -> Value {
    json!({ "drop": null })
}

pub(super) fn prefix(cidr: Cidr) -> Value {
    let network = cidr.network();
    let whole = if network.address.is_ipv4() { 32 } else { 128 };
    if network.prefix == whole {
        return network.address.to_string().into();
    }
    json!({ "prefix": { "addr": network.address.to_string(), "len": network.prefix } })
}

pub(super) fn address(address: IpAddr) -> Value {
    address.to_string().into()
}

/// By its number: names are looked up in `/etc/protocols`, which not every host has.
pub(super) const fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}
