//! `sysctls`: kernel parameters that a namespace of the container has for itself. Others are the host's, and refused.

use std::collections::BTreeMap;

use super::environment::{Pair, pairs};
use super::scope::Scope;
use crate::model::{Ipc, NetworkMode};

const KEY: &str = "sysctls";
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

pub(super) fn read(network: &NetworkMode, ipc: Ipc, scope: &mut Scope<'_, '_, '_>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let Some(node) = scope.given(KEY) else { return all };
    for Pair { name, value, at } in pairs(node) {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            scope.error(at, KEY, format!("the kernel parameter {name:?} has no value"), "write NAME=value");
            continue;
        };
        if value.chars().any(|c| c.is_control() && c != '\t') {
            let message = format!("the value of the kernel parameter {name:?} holds a control character");
            scope.error(at, KEY, message, "write it on one line");
            continue;
        }
        let refused = match dotted(&name) {
            None => Err((format!("{name:?} is not a kernel parameter"), "write it as in net.core.somaxconn")),
            Some(name) => allowed(&name, network, ipc).map(|()| name),
        };
        match refused {
            Ok(name) => drop(all.insert(name, value)),
            Err((message, hint)) => scope.error(at, KEY, message, hint),
        }
    }
    all
}

/// As sysctl(8): where the first separator is a slash, slashes separate and dots belong to the names.
fn dotted(name: &str) -> Option<String> {
    let slashes = name.find(['.', '/']).is_some_and(|at| name[at..].starts_with('/'));
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let name: String = if slashes { name.chars().map(swap).collect() } else { name.to_owned() };
    // A slash stands for a dot in a file's name: a part of slashes alone would be a way up.
    let part = |part: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'/');
        part.bytes().all(good) && part.bytes().any(|b| b != b'/')
    };
    (name.contains('.') && name.split('.').all(part)).then_some(name)
}

/// runc's rules.
fn allowed(name: &str, network: &NetworkMode, ipc: Ipc) -> Result<(), (String, &'static str)> {
    if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        return match ipc {
            Ipc::Private | Ipc::None => Ok(()),
            Ipc::Host => {
                Err((format!("{name:?} would change the host, whose IPC namespace is used"), "set it on the host"))
            }
        };
    }
    if name.starts_with("net.") {
        return match network {
            NetworkMode::None | NetworkMode::Networks(_) => Ok(()),
            NetworkMode::Service(_) | NetworkMode::Container(_) => {
                Err((format!("{name:?} would be set for the container whose network it shares"), "set it there"))
            }
            NetworkMode::Host => {
                Err((format!("{name:?} would change the host, whose network is used"), "set it on the host"))
            }
        };
    }
    let hint = match name {
        "kernel.hostname" => "write `hostname:` instead",
        "kernel.domainname" => "write `domainname:` instead",
        _ => {
            "a container has net.*, fs.mqueue.*, kernel.sem, kernel.msg* and kernel.shm* for itself; set others on the host"
        }
    };
    Err((format!("{name:?} is the host's, not the container's"), hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_both_spellings_and_lead_nowhere_else() {
        for (name, read) in [
            ("net.core.somaxconn", Some("net.core.somaxconn")),
            ("net/core/somaxconn", Some("net.core.somaxconn")),
            ("net.ipv4.conf.eth0/100.forwarding", Some("net.ipv4.conf.eth0/100.forwarding")),
            ("net/ipv4/conf/eth0.100/forwarding", Some("net.ipv4.conf.eth0/100.forwarding")),
            ("net.//.kernel.panic", None),
            ("net/../kernel/panic", None),
            ("net..core", None),
            ("net", None),
            ("", None),
            ("net.a b", None),
        ] {
            assert_eq!(dotted(name).as_deref(), read, "{name}");
        }
    }

    #[test]
    fn only_what_the_container_has_for_itself_may_be_set() {
        let ok = |name: &str, network, ipc| allowed(name, network, ipc).is_ok();
        for name in
            ["net.ipv4.ip_forward", "kernel.sem", "kernel.shm_rmid_forced", "kernel.msgmax", "fs.mqueue.msg_max"]
        {
            assert!(ok(name, &NetworkMode::None, Ipc::Private), "{name}");
            assert!(!ok(name, &NetworkMode::Host, Ipc::Host), "{name}");
        }
        assert!(ok("net.ipv4.ip_forward", &NetworkMode::None, Ipc::Host));
        assert!(ok("kernel.sem", &NetworkMode::Host, Ipc::None));
        for name in ["kernel.panic", "vm.overcommit_memory", "fs.file-max", "kernel.hostname", "kernel.shm", "netx.a"] {
            assert!(!ok(name, &NetworkMode::None, Ipc::Private), "{name}");
        }
    }
}
