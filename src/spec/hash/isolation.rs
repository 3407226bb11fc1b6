//! `isolation` and `names` as lines of the canonical text. Whoever adds a field is made to say here how it is written.

use super::Canonical;
use crate::model::{
    DeviceKind, DeviceRequest, DeviceRule, Ipc, Isolation, Names, Namespace, Seccomp, UserNamespace, Which,
};

pub(super) fn isolation(isolation: &Isolation, text: &mut Canonical) {
    let Isolation {
        privileged,
        cap_add,
        cap_drop,
        no_new_privileges,
        seccomp,
        apparmor,
        labels,
        unmasked,
        pid,
        ipc,
        uts,
        cgroup,
        user,
        groups,
        sysctls,
        limits,
        devices,
        device_rules,
        requests,
        tmpfs,
        shm_bytes,
        root_bytes,
        oom_score,
        cgroup_parent,
        runtime,
    } = isolation;
    text.flag("privileged", *privileged);
    for (key, set) in [("cap_add", cap_add), ("cap_drop", cap_drop)] {
        for capability in set.iter() {
            text.line(key, &[&capability.name()]);
        }
    }
    text.option("no_new_privileges", no_new_privileges.map(|on| if on { "true" } else { "false" }));
    match seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => text.line("seccomp", &["unconfined"]),
        Seccomp::Profile(profile) => text.line("seccomp", &["profile", profile]),
    }
    text.option("apparmor", apparmor.as_deref());
    text.each("label", labels);
    text.flag("unmasked", *unmasked);
    for (key, namespace) in [("pid", pid), ("uts", uts), ("cgroup", cgroup)] {
        match namespace {
            Namespace::Private => {}
            Namespace::Host => text.line(key, &["host"]),
        }
    }
    match ipc {
        Ipc::Private => {}
        Ipc::None => text.line("ipc", &["none"]),
        Ipc::Host => text.line("ipc", &["host"]),
    }
    match user {
        UserNamespace::Host => {}
        UserNamespace::Auto { size } => text.line("userns_mode", &["auto", &size.to_string()]),
    }
    text.each("group_add", groups);
    for (name, value) in sysctls {
        text.line("sysctls", &[name, value]);
    }
    for (limit, range) in limits {
        text.line("ulimits", &[limit.name(), &range.soft.to_string(), &range.hard.to_string()]);
    }
    for device in devices {
        text.line("devices", &[&device.source, &device.target, &device.access.text()]);
    }
    device_rules.iter().for_each(|rule| device_rule(rule, text));
    requests.iter().for_each(|request| device_request(request, text));
    for folder in tmpfs {
        text.line("tmpfs", &[&folder.target, &folder.options.join(",")]);
    }
    text.number("shm_size", *shm_bytes);
    text.number("storage_opt.size", *root_bytes);
    text.number("oom_score_adj", *oom_score);
    text.option("cgroup_parent", cgroup_parent.as_deref());
    text.option("runtime", runtime.as_deref());
}

fn device_rule(rule: &DeviceRule, text: &mut Canonical) {
    let kind = match rule.kind {
        DeviceKind::All => "a",
        DeviceKind::Block => "b",
        DeviceKind::Character => "c",
    };
    let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
    text.line("device_cgroup_rules", &[kind, &number(rule.major), &number(rule.minor), &rule.access.text()]);
}

fn device_request(request: &DeviceRequest, text: &mut Canonical) {
    let mut values = vec![request.driver.as_str()];
    let count;
    match &request.which {
        Which::All => values.push("all"),
        Which::Count(number) => {
            count = number.to_string();
            values.extend(["count", &count]);
        }
        Which::Ids(ids) => {
            values.push("ids");
            values.extend(ids.iter().map(String::as_str));
        }
    }
    values.push("capabilities");
    values.extend(request.capabilities.iter().map(String::as_str));
    text.line("device_request", &values);
}

pub(super) fn names(names: &Names, text: &mut Canonical) {
    let Names { domain, hosts, servers, search, options } = names;
    text.option("domainname", domain.as_deref());
    for (name, address) in hosts {
        text.line("extra_hosts", &[name, address]);
    }
    text.each("dns", servers);
    text.each("dns_search", search);
    text.each("dns_opt", options);
}
