//! What a service may do and see: namespaces, capabilities, groups, and what else makes it more or less confined.

use super::nearest::nearest;
use super::scope::Scope;
use super::source_text::Span;
use super::{devices, limits, security, size, sysctls, tmpfs};
use crate::model::{Ability, Capability, CapabilitySet, Ipc, Isolation, Namespace, NetworkMode, UserNamespace};

/// As many ids as a user namespace of its own has where the file gives no number: up to `nobody`.
const IDS: u32 = 65_536;

pub(super) fn read(network: &NetworkMode, scope: &mut Scope<'_, '_, '_>) -> Isolation {
    if *network == NetworkMode::Host {
        let key = if scope.given("network_mode").is_some() { "network_mode" } else { "networks" };
        scope.loosen(scope.place(key), key, "it uses the host's network: interfaces, ports and abstract sockets");
    }
    let security = security::read(scope);
    let (devices, mut requests) = devices::devices(scope);
    requests.extend(devices::requests(scope));
    let ipc = ipc(scope);
    isolation_technology(scope);
    Isolation {
        privileged: privileged(scope),
        cap_add: added(scope),
        cap_drop: capabilities("cap_drop", scope).into_iter().fold(CapabilitySet::NONE, |all, (one, _)| all.union(one)),
        no_new_privileges: security.no_new_privileges,
        seccomp: security.seccomp,
        apparmor: security.apparmor,
        labels: security.labels,
        unmasked: security.unmasked,
        pid: pid(scope),
        ipc,
        uts: uts(scope),
        cgroup: cgroup(scope),
        user: user_namespace(scope),
        groups: groups(scope),
        sysctls: sysctls::read(network, ipc, scope),
        limits: limits::read(scope),
        devices,
        device_rules: devices::rules(scope),
        requests,
        tmpfs: tmpfs::read(scope),
        shm_bytes: shm_bytes(scope),
        root_bytes: root_bytes(scope),
        oom_score: oom_score(scope),
        cgroup_parent: cgroup_parent(scope),
        runtime: runtime(scope),
    }
}

fn privileged(scope: &mut Scope<'_, '_, '_>) -> bool {
    let privileged = scope.flag("privileged");
    if privileged {
        let what = "it is privileged: all capabilities and devices, no seccomp, nothing of /proc and /sys masked";
        scope.loosen(scope.place("privileged"), "privileged", what);
    }
    privileged
}

/// `cap_add`. What every container has anyway widens nothing.
fn added(scope: &mut Scope<'_, '_, '_>) -> CapabilitySet {
    let added = capabilities("cap_add", scope);
    for (one, at) in &added {
        let wider = one.minus(CapabilitySet::STRICT);
        if *one == CapabilitySet::ALL {
            scope.loosen(*at, "cap_add", "it has all capabilities");
        } else if let Some(capability) = wider.iter().next() {
            scope.loosen(*at, "cap_add", format!("it has the capability {}", capability.name()));
        }
    }
    added.into_iter().fold(CapabilitySet::NONE, |all, (one, _)| all.union(one))
}

fn capabilities(key: &str, scope: &mut Scope<'_, '_, '_>) -> Vec<(CapabilitySet, Span)> {
    let mut all = Vec::new();
    for (text, at) in scope.texts(key) {
        if text.eq_ignore_ascii_case("ALL") {
            all.push((CapabilitySet::ALL, at));
        } else if let Some(one) = Capability::parse(text) {
            all.push((CapabilitySet::NONE.with(one), at));
        } else {
            scope.error(at, key, format!("{text:?} is not a capability"), &meant(text));
        }
    }
    all
}

fn meant(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let word = lower.strip_prefix("cap_").unwrap_or(&lower);
    let names: Vec<String> = Capability::names().iter().map(|name| name.to_ascii_lowercase()).collect();
    match nearest(word, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{}`?", near.to_ascii_uppercase()),
        None => "write a name of capabilities(7), such as NET_ADMIN, or ALL".to_owned(),
    }
}

/// A namespace that is joined with another container's.
const JOINED: [&str; 2] = ["service:", "container:"];

/// Whether the value joins a namespace of another container, which holds the service.
fn joins(key: &str, text: &str, at: Span, scope: &mut Scope<'_, '_, '_>) -> bool {
    let joins = JOINED.iter().any(|prefix| text.starts_with(prefix));
    if joins {
        let why =
            "a namespace cannot be shared with another container, and alone the service would not see what it needs";
        scope.hold(at, key, why, &format!("remove `{key}`, or run both programs in one service"));
    }
    joins
}

fn pid(scope: &mut Scope<'_, '_, '_>) -> Namespace {
    let Some((text, at)) = scope.word("pid") else { return Namespace::Private };
    match text {
        "private" => return Namespace::Private,
        "host" => {
            scope.loosen(at, "pid", "it sees the processes of the host (pid: host)");
            return Namespace::Host;
        }
        _ if joins("pid", text, at, scope) => {}
        _ => scope.error(at, "pid", format!("{text:?} is not a PID mode"), "write `host`, or remove the key"),
    }
    Namespace::Private
}

fn ipc(scope: &mut Scope<'_, '_, '_>) -> Ipc {
    let Some((text, at)) = scope.word("ipc") else { return Ipc::Private };
    match text {
        "private" | "shareable" => return Ipc::Private,
        "none" => return Ipc::None,
        "host" => {
            scope.loosen(at, "ipc", "it shares the host's IPC objects and /dev/shm (ipc: host)");
            return Ipc::Host;
        }
        _ if joins("ipc", text, at, scope) => {}
        _ => {
            scope.error(
                at,
                "ipc",
                format!("{text:?} is not an IPC mode"),
                "it may be private, shareable, none or host",
            );
        }
    }
    Ipc::Private
}

/// With the host's UTS namespace a name of its own would rename the host.
fn uts(scope: &mut Scope<'_, '_, '_>) -> Namespace {
    let Some((text, at)) = scope.word("uts") else { return Namespace::Private };
    match text {
        "private" => Namespace::Private,
        "host" => {
            for key in ["hostname", "domainname"] {
                if let Some((_, at)) = scope.word(key) {
                    scope.error(at, key, format!("`{key}` and `uts: host` exclude each other"), "remove one of them");
                }
            }
            scope.loosen(
                at,
                "uts",
                "it shares the host's name and may change it where its capabilities allow (uts: host)",
            );
            Namespace::Host
        }
        _ => {
            scope.error(at, "uts", format!("{text:?} is not a UTS mode"), "write `host`, or remove the key");
            Namespace::Private
        }
    }
}

fn cgroup(scope: &mut Scope<'_, '_, '_>) -> Namespace {
    let Some(("host", at)) = scope.word("cgroup") else { return Namespace::Private };
    scope.loosen(at, "cgroup", "it sees the host's tree of cgroups (cgroup: host)");
    Namespace::Host
}

fn user_namespace(scope: &mut Scope<'_, '_, '_>) -> UserNamespace {
    let Some((text, at)) = scope.word("userns_mode") else { return UserNamespace::Host };
    let size = match text.split_once(':') {
        None if text == "host" => return UserNamespace::Host,
        None if text == "auto" => Some(IDS),
        Some(("auto", options)) => options.strip_prefix("size=").and_then(|size| size.parse::<u32>().ok()),
        None | Some(_) => None,
    };
    match size.filter(|size| *size > 0) {
        Some(size) => {
            scope.wish("userns_mode", Ability::UserNamespace);
            UserNamespace::Auto { size }
        }
        None => {
            let hint = "write `host` (the host's users), `auto` or `auto:size=65536` (a range of ids of its own)";
            scope.error(at, "userns_mode", format!("{text:?} is not a user namespace mode"), hint);
            UserNamespace::Host
        }
    }
}

/// Names or numbers, looked up inside the image.
fn groups(scope: &mut Scope<'_, '_, '_>) -> Vec<String> {
    let mut groups = Vec::new();
    for (text, at) in scope.texts("group_add") {
        if !super::process::is_user_or_group(text) {
            scope.error(at, "group_add", format!("{text:?} is not a group"), "write a name or a number");
        } else if !groups.iter().any(|known| known == text) {
            groups.push(text.to_owned());
        }
    }
    groups
}

fn shm_bytes(scope: &mut Scope<'_, '_, '_>) -> Option<u64> {
    let (text, at) = scope.word("shm_size")?;
    let bytes = size::bytes(text).and_then(|bytes| u64::try_from(bytes).ok());
    if bytes.is_none() {
        scope.error(at, "shm_size", format!("`shm_size` is {text}: expected a size from 0"), "write 64m or 1g");
    }
    bytes.filter(|bytes| *bytes > 0)
}

/// `storage_opt`: of the options of Docker's drivers, the one that a directory can have.
fn root_bytes(scope: &mut Scope<'_, '_, '_>) -> Option<u64> {
    let mut found = None;
    for (name, node) in scope.given("storage_opt")?.entries() {
        let text = node.text().unwrap_or_default();
        match (name.text.as_str(), size::bytes(text)) {
            ("size", Some(bytes)) if bytes >= 0 => found = u64::try_from(bytes).ok().filter(|bytes| *bytes > 0),
            ("size", _) => {
                scope.error(node.at, "storage_opt.size", format!("{text:?} is not a size"), "write 10g");
            }
            (other, _) => {
                let message = format!("the storage option {other:?} is not known");
                scope.error(name.at, "storage_opt", message, "the only one is `size`");
            }
        }
    }
    if found.is_some() {
        scope.wish("storage_opt.size", Ability::RootQuota);
    }
    found
}

fn oom_score(scope: &mut Scope<'_, '_, '_>) -> Option<i16> {
    let score = scope.whole("oom_score_adj", -1000..=1000).and_then(|score| i16::try_from(score).ok())?;
    if score < 0 {
        let what = format!("the kernel ends others before it when memory is short (oom_score_adj: {score})");
        scope.loosen(scope.place("oom_score_adj"), "oom_score_adj", what);
    }
    (score != 0).then_some(score)
}

/// Absolute, or below ours; never a way up.
fn cgroup_parent(scope: &mut Scope<'_, '_, '_>) -> Option<String> {
    let (text, at) = scope.word("cgroup_parent")?;
    let trimmed = text.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(text);
    let absolute = trimmed.starts_with('/');
    let part = |part: &str| {
        let good = |b: u8| b.is_ascii_graphic() && b != b'\\';
        !matches!(part, "" | "." | "..") && part.bytes().all(good) && part.len() < 256
    };
    if !trimmed.strip_prefix('/').unwrap_or(trimmed).split('/').all(part) {
        let hint = "write a name (below Longshore's own cgroup), or a path from the root of the tree such as /batch";
        scope.error(at, "cgroup_parent", format!("{text:?} is not a cgroup"), hint);
        return None;
    }
    if absolute {
        let what = format!("its cgroup is below {trimmed}, outside Longshore's own");
        scope.loosen(at, "cgroup_parent", what);
    }
    Some(trimmed.to_owned())
}

fn runtime(scope: &mut Scope<'_, '_, '_>) -> Option<String> {
    let (text, at) = scope.word("runtime")?;
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if !text.bytes().all(good) {
        let hint = "it is a name that the daemon's configuration gives to a program";
        scope.error(at, "runtime", format!("{text:?} is not the name of a runtime"), hint);
    }
    Some(text.to_owned())
}

/// Others are Windows'.
fn isolation_technology(scope: &mut Scope<'_, '_, '_>) {
    let Some((text, at)) = scope.word("isolation").filter(|(text, _)| *text != "default") else { return };
    if matches!(text, "process" | "hyperv") {
        let why = "it is an isolation of Windows, and the service must not run with another one than it asks for";
        scope.hold(at, "isolation", why, "write `isolation: default`, or remove the key");
    } else {
        scope.error(at, "isolation", format!("{text:?} is not an isolation technology"), "write `default`");
    }
}
