//! Names that a container is known by and knows: `domainname`, `extra_hosts`, `dns`, `dns_search`, `dns_opt`.

use std::net::IpAddr;

use super::node::Value;
use super::scope::Scope;
use super::source_text::Span;
use crate::model::Names;

/// Docker's word for the address at which a container reaches the host.
const GATEWAY: &str = "host-gateway";

pub(super) fn read(scope: &mut Scope<'_, '_, '_>) -> Names {
    Names {
        domain: domain(scope),
        hosts: hosts(scope),
        servers: servers(scope),
        search: search(scope),
        options: options(scope),
    }
}

/// RFC 1123, and what the kernel takes.
pub(super) fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        !label.is_empty() && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 63 && text.split('.').all(label)
}

fn domain(scope: &mut Scope<'_, '_, '_>) -> Option<String> {
    let (text, at) = scope.word("domainname")?;
    if !is_host_name(text) {
        let hint = "use up to 63 letters, digits, '-' and '.'; no part may begin or end with '-'";
        scope.error(at, "domainname", format!("{text:?} is not a domain name"), hint);
    }
    Some(text.to_owned())
}

/// A list of `name=address` or `name:address`, or a map of a name to one address or several.
fn hosts(scope: &mut Scope<'_, '_, '_>) -> Vec<(String, String)> {
    let mut hosts = Vec::new();
    let Some(node) = scope.given("extra_hosts") else { return hosts };
    for item in node.items() {
        let text = item.text().unwrap_or_default();
        match text.split_once('=').or_else(|| text.split_once(':')) {
            Some((name, address)) => hosts.extend(host(name, address, item.at, scope)),
            None => scope.error(item.at, "extra_hosts", format!("{text:?} is no name with an address"), HOST_HINT),
        }
    }
    for (name, value) in node.entries() {
        let addresses =
            if let Value::List(items) = &value.value { items.as_slice() } else { std::slice::from_ref(value) };
        for address in addresses {
            hosts.extend(host(&name.text, address.text().unwrap_or_default(), address.at, scope));
        }
    }
    hosts
}

const HOST_HINT: &str = "write NAME=ADDRESS; the address may be `host-gateway`";

fn host(name: &str, address: &str, at: Span, scope: &mut Scope<'_, '_, '_>) -> Option<(String, String)> {
    let (name, address) = (name.trim(), address.trim());
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 253 || !name.bytes().all(good) {
        scope.error(at, "extra_hosts", format!("{name:?} is not a host name"), HOST_HINT);
        return None;
    }
    if address == GATEWAY {
        return Some((name.to_owned(), GATEWAY.to_owned()));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    match bare.parse::<IpAddr>() {
        Ok(address) => Some((name.to_owned(), address.to_string())),
        Err(_) => {
            scope.error(at, "extra_hosts", format!("{address:?} is not an address"), HOST_HINT);
            None
        }
    }
}

fn servers(scope: &mut Scope<'_, '_, '_>) -> Vec<String> {
    let mut servers = Vec::new();
    for (text, at) in scope.texts("dns") {
        match text.parse::<IpAddr>() {
            Ok(address) => servers.push(address.to_string()),
            Err(_) => {
                scope.error(at, "dns", format!("{text:?} is not an address"), "write the address of a name server");
            }
        }
    }
    servers
}

/// A dot alone means that no domain is searched.
fn search(scope: &mut Scope<'_, '_, '_>) -> Vec<String> {
    let mut domains = Vec::new();
    for (text, at) in scope.texts("dns_search") {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if text.len() > 253 || !text.bytes().all(good) || text.contains("..") {
            scope.error(
                at,
                "dns_search",
                format!("{text:?} is not a domain name"),
                "write example.com, or `.` for none",
            );
        }
        domains.push(text.to_owned());
    }
    domains
}

/// resolv.conf(5): words such as `ndots:2`.
fn options(scope: &mut Scope<'_, '_, '_>) -> Vec<String> {
    let mut options = Vec::new();
    for (text, at) in scope.texts("dns_opt") {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b':' | b'.');
        if !text.bytes().all(good) {
            scope.error(
                at,
                "dns_opt",
                format!("{text:?} is not an option of the resolver"),
                "write one such as ndots:2",
            );
        }
        options.push(text.to_owned());
    }
    options
}
