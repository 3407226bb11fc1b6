//! The hash that says whether a container still is what its file asks for.
//!
//! It is taken over the model, not over the text: comments, the order of keys, anchors, quotes and the form (list or map,
//! words or list) cannot change it, and the content of an env file does, since the environment is resolved by then.
//!
//! Left out is what a running container can be given without being made again: `replicas`, `pull_policy`, `restart`,
//! `stop_*`, `labels`, `resources`, `healthcheck` and what follows from it, `post_start`, `pre_stop`, what is said of networks beside the
//! services, and what is only told of a service: holds,
//! loosenings, wishes, `expose`; nor what it waits for (`depends_on`, `require_mount`) or how a volume that it names is defined. A setting that has its default is not written into the canonical text, so that a key that
//! later versions learn does not make every container again on their first start.

mod files;
mod isolation;
mod mounts;
mod network;

use crate::model::{Service, SpecHash};

/// The hash of a service whose other fields are complete.
#[must_use]
pub fn of(service: &Service) -> SpecHash {
    SpecHash::of(&canonical(service))
}

/// Lines of `key` and values, each value preceded by its length so that no two services give the same text.
fn canonical(service: &Service) -> Vec<u8> {
    let mut text = Canonical(b"longshore service 1\n".to_vec());
    let process = &service.process;
    text.option("image", service.image.as_ref().map(ToString::to_string).as_deref());
    text.option("platform", service.platform.as_ref().map(ToString::to_string).as_deref());
    text.option("container_name", service.container_name.as_ref().map(|name| name.as_str()));
    text.option("hostname", service.hostname.as_deref());
    text.list("entrypoint", process.entrypoint.as_deref());
    text.list("command", process.command.as_deref());
    let mut environment: Vec<_> = process.environment.iter().collect();
    environment.sort_by(|a, b| a.name.cmp(&b.name));
    for variable in environment {
        match &variable.value {
            Some(value) => text.line("environment", &[&variable.name, value]),
            None => text.line("environment", &[&variable.name]),
        }
    }
    text.option("working_dir", process.working_dir.as_deref());
    text.option("user", process.user.as_deref());
    text.flag("tty", process.tty);
    text.flag("stdin_open", process.stdin_open);
    text.flag("init", process.init);
    text.flag("read_only", service.read_only);
    for (name, value) in &service.annotations {
        text.line("annotations", &[name, value]);
    }
    network::mode(&service.network, &mut text);
    mounts::mounts(&service.name, &service.mounts, &mut text);
    files::files(&service.files, &mut text);
    isolation::isolation(&service.isolation, &mut text);
    isolation::names(&service.names, &mut text);
    text.0
}

struct Canonical(Vec<u8>);

impl Canonical {
    fn line(&mut self, key: &str, values: &[&str]) {
        self.0.extend(key.as_bytes());
        for value in values {
            self.0.extend(format!(" {}:", value.len()).as_bytes());
            self.0.extend(value.as_bytes());
        }
        self.0.push(b'\n');
    }
    fn option(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.line(key, &[value]);
        }
    }
    /// An empty list is not the same as none.
    fn list(&mut self, key: &str, values: Option<&[String]>) {
        if let Some(values) = values {
            self.line(key, &values.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
    /// One line for each, none for an empty list.
    fn each(&mut self, key: &str, values: &[String]) {
        values.iter().for_each(|value| self.line(key, &[value]));
    }
    fn number(&mut self, key: &str, value: Option<impl ToString>) {
        self.option(key, value.map(|value| value.to_string()).as_deref());
    }
    fn flag(&mut self, key: &str, value: bool) {
        if value {
            self.line(key, &[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::spec::samples::{hash, hash_with};

    const PLAIN: &str =
        "services:\n  a:\n    image: busybox\n    network_mode: none\n    environment: {X: '1', Y: '2'}\n";

    #[test]
    fn what_is_only_written_differently_is_the_same() {
        for same in [
            "# note\nservices:\n  a: # note\n    network_mode: none\n    image: 'busybox'\n    environment: {Y: 2, X: 1}\n",
            "services: {a: {image: docker.io/library/busybox:latest, network_mode: none, environment: [X=1, Y=2]}}",
            "x-e: &e {X: '1', Y: '2'}\nservices:\n  a:\n    image: busybox\n    network_mode: none\n    environment:\n      <<: *e\n",
        ] {
            assert_eq!(hash(same), hash(PLAIN), "{same}");
        }
        for line in [
            "restart: always",
            "scale: 3",
            "pull_policy: always",
            "stop_signal: INT",
            "stop_grace_period: 1s",
            "tty: false",
            "deploy: {replicas: 2}",
            "labels: {a: b}",
            "healthcheck: {test: a, interval: 5s}",
            "x-longshore: {hold_port: true}",
            "x-longshore: {probe: {tcp: {port: 1}}, on_unhealthy: stop}",
            "mem_limit: 64m",
            "cpus: 0.5",
            "pids_limit: 100",
            "blkio_config: {weight: 300}",
            "deploy: {resources: {limits: {memory: 64m}, reservations: {memory: 32m}}}",
            "privileged: false",
            "cap_add: []",
            "ipc: shareable",
            "pid: private",
            "userns_mode: host",
            "security_opt: [seccomp=builtin]",
            "shm_size: 0",
            "oom_score_adj: 0",
            "isolation: default",
        ] {
            assert_eq!(hash(&format!("{PLAIN}    {line}\n")), hash(PLAIN), "{line}");
        }
    }

    #[test]
    fn what_makes_another_container_differs_from_all_others() {
        let mut seen = vec![hash(PLAIN)];
        for line in [
            "command: []",
            "command: [a, b]",
            "command: ['a b']",
            "entrypoint: [a, b]",
            "user: a",
            "working_dir: /a",
            "hostname: a",
            "container_name: a",
            "tty: true",
            "init: true",
            "stdin_open: true",
            "read_only: true",
            "annotations: {a: b}",
            "platform: linux/arm64",
            "privileged: true",
            "cap_add: [NET_ADMIN]",
            "cap_add: [ALL]",
            "cap_drop: [NET_ADMIN]",
            "cap_drop: [ALL]",
            "security_opt: [no-new-privileges]",
            "security_opt: [no-new-privileges=false]",
            "security_opt: [seccomp=unconfined]",
            "security_opt: [apparmor=unconfined]",
            "security_opt: [label=disable]",
            "security_opt: ['label=type:a_t']",
            "security_opt: [systempaths=unconfined]",
            "pid: host",
            "uts: host",
            "cgroup: host",
            "ipc: host",
            "ipc: none",
            "userns_mode: auto",
            "userns_mode: 'auto:size=1000'",
            "group_add: [a]",
            "group_add: [a, b]",
            "sysctls: {net.core.somaxconn: 1024}",
            "ulimits: {nofile: 1024}",
            "ulimits: {nofile: {soft: 1024, hard: -1}}",
            "devices: [/dev/fuse]",
            "devices: ['/dev/fuse:/dev/fuse:r']",
            "devices: [vendor.com/class=fuse]",
            "device_cgroup_rules: ['c 1:3 rwm']",
            "device_cgroup_rules: ['c 1:* rwm']",
            "gpus: all",
            "gpus: [{count: 1}]",
            "gpus: [{device_ids: ['1']}]",
            "deploy: {resources: {reservations: {devices: [{capabilities: [tpu]}]}}}",
            "tmpfs: /run",
            "tmpfs: '/run:size=1m'",
            "shm_size: 1m",
            "storage_opt: {size: 1g}",
            "oom_score_adj: 1",
            "cgroup_parent: a",
            "runtime: a",
            "domainname: a",
            "extra_hosts: [a=10.0.0.1]",
            "dns: 10.0.0.1",
            "dns_search: a",
            "dns_opt: [a]",
        ] {
            let hash = hash(&format!("{PLAIN}    {line}\n"));
            assert!(!seen.contains(&hash), "{line}");
            seen.push(hash);
        }
        assert!(!seen.contains(&hash(&PLAIN.replace("none", "host"))));
        assert!(!seen.contains(&hash(&PLAIN.replace("'2'", "'3'"))));
    }

    #[test]
    fn the_content_of_files_counts() {
        let text = "services: {a: {image: b, network_mode: none, env_file: a.env, hostname: v$V}}";
        let one = hash_with(text, &[("a.env", "A=1"), (".env", "V=1")]);
        assert_eq!(one, hash_with(text, &[("a.env", "# note\nA=1\n"), (".env", "V=1\nUNUSED=1")]));
        assert_ne!(one, hash_with(text, &[("a.env", "A=2"), (".env", "V=1")]));
        assert_ne!(one, hash_with(text, &[("a.env", "A=1"), (".env", "V=2")]));
        let text = "services: {a: {image: b, network_mode: none, security_opt: ['seccomp:a.json']}}";
        assert_ne!(hash_with(text, &[("a.json", "{}")]), hash_with(text, &[("a.json", "{\"a\": 1}")]));
    }

    /// Containers of before keep their hash: what later versions learned is not written where nobody asks for it.
    #[test]
    fn the_canonical_text_of_before_is_that_of_today() {
        let service = crate::spec::samples::service("command: [a, b]\nuser: c\nnetwork_mode: host");
        let text = String::from_utf8(super::canonical(&service)).unwrap();
        let lines = [
            "longshore service 1",
            "image 32:docker.io/library/busybox:latest",
            "command 1:a 1:b",
            "user 1:c",
            "network_mode 4:host",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), lines);
    }
}
