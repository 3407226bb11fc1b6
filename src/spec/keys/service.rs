//! The keys of a service (compose-spec, "Services top-level element").

use super::Effect::{Acts, Holds, Inside, Nothing, Warns};
use super::parts::{
    BLKIO, BUILD, CREDENTIAL_SPEC, DEPENDS_ON, DEVELOP, DEVICES, ENV_FILES, EXTENDS, GPUS, HEALTHCHECK, HOOKS, LOGGING,
    MOUNTED_FILES, PORTS, PROVIDER, SERVICE_MODELS, SERVICE_NETWORKS, ULIMITS, VOLUMES,
};
use super::{DEPLOY, LONGSHORE, OPTIONS, PAIRS, Shape, TEXT_OR_TEXTS, TEXTS, Table, rule};

const ISOLATION: &str =
    "it changes what the container may do or see, and the service must not run with less or more than it asks for";
const SECRET: &str = "the service would run without files that it needs";
const MISSING: &str = "a part of the service is written elsewhere, and it must not run without that part";

const COMMAND: Shape = TEXT_OR_TEXTS;
const WORD_OR_FLAG: Shape = Shape::Either(&[Shape::Text, Shape::Flag]);

pub(in crate::spec) static SERVICE: Table = Table {
    name: "service",
    rules: &[
        // What acts.
        rule("image", Shape::Text, Acts, "The image, by tag or digest."),
        rule("platform", Shape::Text, Acts, "Which platform of the image: os/architecture[/variant]."),
        rule("command", COMMAND, Acts, "Replaces the image's command; text is split into words as a shell does."),
        rule("entrypoint", COMMAND, Acts, "Replaces the image's entrypoint; the image's command is then not used."),
        rule("environment", PAIRS, Acts, "Variables; a name without value takes it from the `.env` file."),
        rule("env_file", ENV_FILES, Acts, "Files with variables; their content is part of the service."),
        rule("working_dir", Shape::Text, Acts, "Replaces the image's working directory; absolute."),
        rule("user", Shape::Text, Acts, "Replaces the image's user: name or number, and after a colon the group."),
        rule("hostname", Shape::Text, Acts, "The container's host name."),
        rule("labels", PAIRS, Acts, "Labels of the container."),
        rule("annotations", PAIRS, Acts, "Annotations of the container, handed to the runtime."),
        rule("container_name", Shape::Text, Acts, "The container's name; only for a service with one container."),
        rule("restart", WORD_OR_FLAG, Acts, "no, always, unless-stopped, on-failure or on-failure:N."),
        rule("stop_signal", Shape::Text, Acts, "The signal that asks it to end."),
        rule("stop_grace_period", Shape::Duration, Acts, "How long it may take to end before it is killed."),
        rule("network_mode", WORD_OR_FLAG, Acts, "none, host, bridge, service:NAME or container:NAME."),
        rule("scale", Shape::Whole, Acts, "How many containers."),
        rule("deploy", Shape::Object(&DEPLOY), Inside, "How the service is deployed."),
        rule(
            "pull_policy",
            Shape::Text,
            Acts,
            "always, never, missing, if_not_present, daily, weekly, every_<duration>.",
        ),
        rule("pull_refresh_after", Shape::Text, Acts, "The interval of `pull_policy: refresh`."),
        rule("read_only", Shape::Flag, Acts, "Mount the container's root read-only."),
        rule("tty", Shape::Flag, Acts, "Allocate a terminal."),
        rule("stdin_open", Shape::Flag, Acts, "Keep standard input open."),
        rule("init", Shape::Flag, Acts, "Run a small init that forwards signals and reaps."),
        rule("x-longshore", Shape::Object(&LONGSHORE), Inside, "What Compose has no key for."),
        // Looked at by hand.
        rule(
            "profiles",
            TEXTS,
            Acts,
            "A service with profiles is part of the project only while one of them is chosen.",
        ),
        rule("build", Shape::Either(&[Shape::Text, Shape::Object(&BUILD)]), Acts, "Images are pulled, not built."),
        rule("depends_on", DEPENDS_ON, Acts, "Services that come first, and how far they have to be."),
        // Networks.
        rule("ports", PORTS, Acts, "Ports of the host that lead to the container: [[ADDRESS:][HOST]:]PORT[/udp]."),
        rule("networks", SERVICE_NETWORKS, Acts, "Networks to join; the project's default network without it."),
        rule("links", TEXTS, Acts, "Services of the project, by another name: SERVICE[:ALIAS]."),
        rule("external_links", TEXTS, Acts, "Containers of other projects on the same network: CONTAINER[:ALIAS]."),
        rule("mac_address", Shape::Text, Acts, "The MAC address of its first link."),
        rule("expose", TEXTS, Acts, "Ports for other services, told to who asks for SRV records; all are open anyway."),
        rule("dns", TEXT_OR_TEXTS, Acts, "Name servers."),
        rule("dns_opt", TEXTS, Acts, "Resolver options."),
        rule("dns_search", TEXT_OR_TEXTS, Acts, "Search domains."),
        rule("domainname", Shape::Text, Acts, "The container's domain name."),
        rule(
            "extra_hosts",
            Shape::Either(&[Shape::Map(&TEXT_OR_TEXTS), TEXTS]),
            Acts,
            "Names for addresses, in /etc/hosts; an address may be `host-gateway`.",
        ),
        // Data.
        rule(
            "volumes",
            VOLUMES,
            Acts,
            "Volumes and files of the host: [SOURCE:]TARGET[:OPTIONS], or the long form; `~` is /root.",
        ),
        rule("volumes_from", TEXTS, Acts, "The mounts of other services too: SERVICE[:ro]."),
        rule("tmpfs", TEXT_OR_TEXTS, Acts, "Folders in memory: path[:options]."),
        rule("configs", MOUNTED_FILES, Acts, "Configs that it sees as files: NAME, which is /NAME, or the long form."),
        rule(
            "secrets",
            MOUNTED_FILES,
            Acts,
            "Secrets that it sees as files: NAME, which is /run/secrets/NAME, or the long form.",
        ),
        rule("shm_size", Shape::Size, Acts, "The size of /dev/shm; 64 MiB without it."),
        rule(
            "storage_opt",
            OPTIONS,
            Acts,
            "`size`: what the container's root may take. No quotas of file systems are used yet: a service with it is held.",
        ),
        // Isolation.
        rule("privileged", Shape::Flag, Acts, "All capabilities and devices, no seccomp, nothing masked."),
        rule("cap_add", TEXTS, Acts, "Capabilities to add."),
        rule("cap_drop", TEXTS, Acts, "Capabilities to drop."),
        rule(
            "security_opt",
            TEXTS,
            Acts,
            "no-new-privileges[:true|false], seccomp=unconfined|FILE, apparmor=…, label=…, systempaths=unconfined.",
        ),
        rule("group_add", TEXTS, Acts, "More groups of the user."),
        rule("userns_mode", Shape::Text, Acts, "`host`, or `auto[:size=N]`: a range of ids of its own."),
        rule("pid", Shape::Scalar, Acts, "The PID namespace: private or host."),
        rule("ipc", Shape::Text, Acts, "The IPC namespace: private, shareable, none or host."),
        rule("uts", Shape::Text, Acts, "The UTS namespace: private or host."),
        rule("cgroup", Shape::Word(&["host", "private"]), Acts, "The cgroup namespace: private or host."),
        rule("cgroup_parent", Shape::Text, Acts, "The cgroup above the container's: absolute, or below Longshore's."),
        rule("isolation", Shape::Text, Acts, "`default`; others are of Windows."),
        rule("runtime", Shape::Text, Acts, "The OCI runtime, by its name in the daemon's configuration."),
        rule("sysctls", PAIRS, Acts, "Kernel parameters that the container has for itself."),
        rule("ulimits", ULIMITS, Acts, "Resource limits of the process; -1 is unlimited."),
        rule("credential_spec", Shape::Object(&CREDENTIAL_SPEC), Holds(SECRET, &[]), "A managed service account."),
        rule("use_api_socket", Shape::Flag, Holds(ISOLATION, &[]), "The engine's API socket inside the container."),
        // Devices.
        rule("devices", DEVICES, Acts, "Devices of the host: source[:target[:rwm]], or names of CDI devices."),
        rule("device_cgroup_rules", TEXTS, Acts, "Devices that may be used, by number: `c 1:3 rwm`."),
        rule("gpus", GPUS, Acts, "GPUs, through CDI files."),
        rule("models", SERVICE_MODELS, Holds(MISSING, &[]), "AI models."),
        // Resources.
        rule("mem_limit", Shape::Size, Acts, "Memory limit, from 6m."),
        rule("memswap_limit", Shape::Size, Acts, "Limit of memory and swap together; -1 is unlimited."),
        rule("mem_reservation", Shape::Size, Acts, "Memory that is kept from reclaim."),
        rule("mem_swappiness", Shape::Whole, Acts, "Swappiness, 0 to 100."),
        rule("cpus", Shape::Number, Acts, "CPU limit, in CPUs."),
        rule("cpu_count", Shape::Whole, Nothing, "For Windows; `cpus` limits CPU time."),
        rule("cpu_percent", Shape::Whole, Nothing, "For Windows; `cpus` limits CPU time."),
        rule("cpu_shares", Shape::Number, Acts, "CPU weight, 2 to 262144; 1024 is usual."),
        rule("cpu_quota", Shape::Number, Acts, "CPU time in each `cpu_period`, in microseconds."),
        rule("cpu_period", Shape::Number, Acts, "The period of `cpu_quota`, in microseconds."),
        rule("cpu_rt_runtime", Shape::Text, Acts, "Real-time CPU time in each period."),
        rule("cpu_rt_period", Shape::Text, Acts, "The period of `cpu_rt_runtime`."),
        rule("cpuset", Shape::Text, Acts, "Which CPUs: 0-3,5."),
        rule("blkio_config", Shape::Object(&BLKIO), Acts, "Weights and limits of block I/O."),
        rule("pids_limit", Shape::Whole, Acts, "How many processes; 4096 without it, -1 is unlimited."),
        rule("oom_kill_disable", Shape::Flag, Acts, "Protect it from the OOM killer."),
        rule("oom_score_adj", Shape::Whole, Acts, "OOM preference, -1000 to 1000."),
        // Lifecycle.
        rule("healthcheck", Shape::Object(&HEALTHCHECK), Acts, "How its health is checked; over what its image says."),
        rule("logging", Shape::Object(&LOGGING), Warns("output goes to Longshore's own log files"), "The log driver."),
        rule("post_start", HOOKS, Acts, "Commands in the container, after each start."),
        rule("pre_stop", HOOKS, Acts, "Commands in the container, before each stop."),
        rule("attach", Shape::Flag, Warns("output is always kept in the logs"), "Whether `up` shows its output."),
        rule("label_file", TEXT_OR_TEXTS, Warns("labels are taken from `labels` only"), "Files with labels."),
        rule("develop", Shape::Object(&DEVELOP), Warns("it is for development by `watch`"), "Rules for development."),
        rule("extends", EXTENDS, Holds(MISSING, &[]), "A service to start from."),
        rule("provider", Shape::Object(&PROVIDER), Holds(MISSING, &[]), "A program that provides the service."),
    ],
};
