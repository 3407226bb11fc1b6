//! The keys of a service (compose-spec, "Services top-level element").

use super::Effect::{Acts, Holds, Inside, Warns};
use super::parts::{
    BLKIO, BUILD, CREDENTIAL_SPEC, DEPENDS_ON, DEVELOP, DEVICES, ENV_FILES, EXTENDS, GPUS, HEALTHCHECK, HOOKS, LOGGING,
    MOUNTED_FILES, PORTS, PROVIDER, SERVICE_MODELS, SERVICE_NETWORKS, ULIMITS, VOLUMES,
};
use super::{DEPLOY, LONGSHORE, OPTIONS, PAIRS, Shape, TEXT_OR_TEXTS, TEXTS, Table, rule};

const ISOLATION: &str =
    "it changes what the container may do or see, and the service must not run with less or more than it asks for";
const LIMIT: &str = "it limits what the container may use, and without the limit the service could starve the machine";
const NETWORK: &str = "the service would not be reachable, or not reach others, as it asks";
const DATA: &str = "without it the service would keep its data in the container, where an update removes it";
const SECRET: &str = "the service would run without files that it needs";
const DEVICE: &str = "the service would run without devices that it needs";
const MISSING: &str = "a part of the service is written elsewhere, and it must not run without that part";

/// How Compose writes "without limit".
const UNLIMITED: &[&str] = &["0", "-1"];

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
        rule("network_mode", WORD_OR_FLAG, Acts, "`none` or `host`; other modes are not supported yet."),
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
        rule("profiles", TEXTS, Acts, "A service with profiles is not part of the project unless one is chosen."),
        rule("build", Shape::Either(&[Shape::Text, Shape::Object(&BUILD)]), Acts, "Images are pulled, not built."),
        rule("depends_on", DEPENDS_ON, Warns("services are started in no order"), "Services that come first."),
        // Networks.
        rule("ports", PORTS, Holds(NETWORK, &[]), "Published ports."),
        rule("networks", SERVICE_NETWORKS, Holds(NETWORK, &[]), "Networks."),
        rule("links", TEXTS, Holds(NETWORK, &[]), "Links to services of the project."),
        rule("external_links", TEXTS, Holds(NETWORK, &[]), "Links to containers outside the project."),
        rule("mac_address", Shape::Text, Holds(NETWORK, &[]), "The container's MAC address."),
        rule(
            "expose",
            TEXTS,
            Warns("containers that share a network can reach all ports of each other"),
            "Ports for other services.",
        ),
        rule("dns", TEXT_OR_TEXTS, Warns("the image's or the host's resolver is used"), "Name servers."),
        rule("dns_opt", TEXTS, Warns("the resolver's defaults are used"), "Resolver options."),
        rule("dns_search", TEXT_OR_TEXTS, Warns("no search domain is set"), "Search domains."),
        rule("domainname", Shape::Text, Warns("no domain name is set"), "The container's domain name."),
        rule(
            "extra_hosts",
            Shape::Either(&[Shape::Map(&TEXT_OR_TEXTS), TEXTS]),
            Warns("the names are not added to /etc/hosts"),
            "Names for addresses.",
        ),
        // Data.
        rule("volumes", VOLUMES, Holds(DATA, &[]), "Volumes and bind mounts."),
        rule("volumes_from", TEXTS, Holds(DATA, &[]), "Volumes of another service."),
        rule("tmpfs", TEXT_OR_TEXTS, Holds(DATA, &[]), "Folders in memory."),
        rule("configs", MOUNTED_FILES, Holds(SECRET, &[]), "Configuration files."),
        rule("secrets", MOUNTED_FILES, Holds(SECRET, &[]), "Secret files."),
        rule("shm_size", Shape::Size, Warns("/dev/shm has 64 MiB"), "The size of /dev/shm."),
        rule("storage_opt", OPTIONS, Holds(LIMIT, &[]), "Options of the container's root."),
        // Isolation.
        rule("privileged", Shape::Flag, Holds(ISOLATION, &[]), "All capabilities and devices."),
        rule("cap_add", TEXTS, Holds(ISOLATION, &[]), "Capabilities to add."),
        rule("cap_drop", TEXTS, Holds(ISOLATION, &[]), "Capabilities to drop."),
        rule("security_opt", TEXTS, Holds(ISOLATION, &[]), "Profiles and labels."),
        rule("group_add", TEXTS, Holds(ISOLATION, &[]), "More groups of the user."),
        rule("userns_mode", Shape::Text, Holds(ISOLATION, &[]), "The user namespace."),
        rule("pid", Shape::Scalar, Holds(ISOLATION, &["private"]), "The PID namespace."),
        rule("ipc", Shape::Text, Holds(ISOLATION, &["private"]), "The IPC namespace."),
        rule("uts", Shape::Text, Holds(ISOLATION, &["private"]), "The UTS namespace."),
        rule("cgroup", Shape::Word(&["host", "private"]), Holds(ISOLATION, &["private"]), "The cgroup namespace."),
        rule("cgroup_parent", Shape::Text, Holds(LIMIT, &[]), "The cgroup above the container's."),
        rule("isolation", Shape::Text, Holds(ISOLATION, &["default"]), "The isolation technology."),
        rule("runtime", Shape::Text, Holds(ISOLATION, &[]), "The OCI runtime."),
        rule("sysctls", PAIRS, Holds(ISOLATION, &[]), "Kernel parameters."),
        rule("ulimits", ULIMITS, Holds(LIMIT, &[]), "Resource limits of the process."),
        rule("credential_spec", Shape::Object(&CREDENTIAL_SPEC), Holds(SECRET, &[]), "A managed service account."),
        rule("use_api_socket", Shape::Flag, Holds(ISOLATION, &[]), "The engine's API socket inside the container."),
        // Devices.
        rule("devices", DEVICES, Holds(DEVICE, &[]), "Devices."),
        rule("device_cgroup_rules", TEXTS, Holds(DEVICE, &[]), "Rules for devices."),
        rule("gpus", GPUS, Holds(DEVICE, &[]), "GPUs."),
        rule("models", SERVICE_MODELS, Holds(MISSING, &[]), "AI models."),
        // Resources.
        rule("mem_limit", Shape::Size, Holds(LIMIT, UNLIMITED), "Memory limit."),
        rule("memswap_limit", Shape::Size, Holds(LIMIT, UNLIMITED), "Limit of memory and swap."),
        rule("mem_reservation", Shape::Size, Warns("memory is not reserved"), "Memory reservation."),
        rule("mem_swappiness", Shape::Whole, Warns("the kernel's default is used"), "Swappiness."),
        rule("cpus", Shape::Number, Holds(LIMIT, UNLIMITED), "CPU limit."),
        rule("cpu_count", Shape::Whole, Holds(LIMIT, UNLIMITED), "Usable CPUs."),
        rule("cpu_percent", Shape::Whole, Holds(LIMIT, UNLIMITED), "Usable share of the CPUs."),
        rule("cpu_shares", Shape::Number, Warns("all containers weigh the same"), "CPU weight."),
        rule("cpu_quota", Shape::Number, Holds(LIMIT, UNLIMITED), "CPU quota."),
        rule("cpu_period", Shape::Number, Holds(LIMIT, UNLIMITED), "CPU period."),
        rule("cpu_rt_runtime", Shape::Text, Holds(LIMIT, UNLIMITED), "Real-time CPU time."),
        rule("cpu_rt_period", Shape::Text, Holds(LIMIT, UNLIMITED), "Real-time CPU period."),
        rule("cpuset", Shape::Text, Holds(LIMIT, &[]), "Which CPUs."),
        rule("blkio_config", Shape::Object(&BLKIO), Holds(LIMIT, &[]), "Limits of block I/O."),
        rule("pids_limit", Shape::Whole, Holds(LIMIT, UNLIMITED), "How many processes."),
        rule(
            "oom_kill_disable",
            Shape::Flag,
            Warns("the kernel may end it when memory is short"),
            "Protect it from the OOM killer.",
        ),
        rule("oom_score_adj", Shape::Whole, Warns("the kernel's default is used"), "OOM preference."),
        // Lifecycle.
        rule(
            "healthcheck",
            Shape::Object(&HEALTHCHECK),
            Warns("its health is not checked"),
            "How its health is checked.",
        ),
        rule("logging", Shape::Object(&LOGGING), Warns("output goes to Longshore's own log files"), "The log driver."),
        rule("post_start", HOOKS, Warns("the hook is not run"), "Commands after the start."),
        rule("pre_stop", HOOKS, Warns("the hook is not run"), "Commands before the stop."),
        rule("attach", Shape::Flag, Warns("output is always kept in the logs"), "Whether `up` shows its output."),
        rule("label_file", TEXT_OR_TEXTS, Warns("labels are taken from `labels` only"), "Files with labels."),
        rule("develop", Shape::Object(&DEVELOP), Warns("it is for development by `watch`"), "Rules for development."),
        rule("extends", EXTENDS, Holds(MISSING, &[]), "A service to start from."),
        rule("provider", Shape::Object(&PROVIDER), Holds(MISSING, &[]), "A program that provides the service."),
    ],
};
