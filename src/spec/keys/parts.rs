//! The maps and lists inside a service. Where the specification knows a short and a long form, both are here.

use super::{IDMAP, ON_CHANGE, OPTIONS, PAIRS, Shape, TEXT_OR_TEXTS, TEXTS, Table, part};

pub(super) const ENV_FILES: Shape =
    Shape::Either(&[Shape::Text, Shape::List(&Shape::Either(&[Shape::Text, Shape::Object(&ENV_FILE)]))]);

static ENV_FILE: Table = Table {
    name: "env_file",
    rules: &[part("path", Shape::Text), part("required", Shape::Flag), part("format", Shape::Text)],
};

pub(super) const PORTS: Shape = Shape::List(&Shape::Either(&[Shape::Text, Shape::Object(&PORT)]));

static PORT: Table = Table {
    name: "port",
    rules: &[
        part("name", Shape::Text),
        part("mode", Shape::Text),
        part("host_ip", Shape::Text),
        part("target", Shape::Text),
        part("published", Shape::Text),
        part("protocol", Shape::Text),
        part("app_protocol", Shape::Text),
    ],
};

pub(super) const VOLUMES: Shape = Shape::List(&Shape::Either(&[Shape::Text, Shape::Object(&MOUNT)]));

static MOUNT: Table = Table {
    name: "mount",
    rules: &[
        part("type", Shape::Word(&["bind", "volume", "tmpfs", "cluster", "npipe", "image"])),
        part("source", Shape::Text),
        part("target", Shape::Text),
        part("read_only", Shape::Flag),
        part("consistency", Shape::Text),
        part("bind", Shape::Object(&MOUNT_BIND)),
        part("volume", Shape::Object(&MOUNT_VOLUME)),
        part("tmpfs", Shape::Object(&MOUNT_TMPFS)),
        part("image", Shape::Object(&MOUNT_IMAGE)),
        part("x-longshore", Shape::Object(&MOUNT_LONGSHORE)),
    ],
};

static MOUNT_LONGSHORE: Table = Table { name: "mount_x-longshore", rules: &[part("idmap", Shape::Object(&IDMAP))] };

static MOUNT_BIND: Table = Table {
    name: "mount_bind",
    rules: &[
        part("propagation", Shape::Text),
        part("create_host_path", Shape::Flag),
        part("recursive", Shape::Word(&["enabled", "disabled", "writable", "readonly"])),
        part("selinux", Shape::Text),
    ],
};

static MOUNT_VOLUME: Table = Table {
    name: "mount_volume",
    rules: &[part("labels", PAIRS), part("nocopy", Shape::Flag), part("subpath", Shape::Text)],
};

static MOUNT_TMPFS: Table =
    Table { name: "mount_tmpfs", rules: &[part("size", Shape::Size), part("mode", Shape::Text)] };

static MOUNT_IMAGE: Table = Table { name: "mount_image", rules: &[part("subpath", Shape::Text)] };

pub(super) const SERVICE_NETWORKS: Shape = Shape::Either(&[TEXTS, Shape::Map(&Shape::Object(&SERVICE_NETWORK))]);

static SERVICE_NETWORK: Table = Table {
    name: "service_network",
    rules: &[
        part("aliases", TEXTS),
        part("interface_name", Shape::Text),
        part("ipv4_address", Shape::Text),
        part("ipv6_address", Shape::Text),
        part("link_local_ips", TEXTS),
        part("mac_address", Shape::Text),
        part("driver_opts", OPTIONS),
        part("priority", Shape::Number),
        part("gw_priority", Shape::Number),
    ],
};

pub(super) const MOUNTED_FILES: Shape = Shape::List(&Shape::Either(&[Shape::Text, Shape::Object(&MOUNTED_FILE)]));

static MOUNTED_FILE: Table = Table {
    name: "mounted_file",
    rules: &[
        part("source", Shape::Text),
        part("target", Shape::Text),
        part("uid", Shape::Text),
        part("gid", Shape::Text),
        part("mode", Shape::Text),
        part("x-longshore", Shape::Object(&MOUNTED_FILE_LONGSHORE)),
    ],
};

static MOUNTED_FILE_LONGSHORE: Table =
    Table { name: "mounted_file_x-longshore", rules: &[part("on_change", ON_CHANGE)] };

pub(super) const DEPENDS_ON: Shape = Shape::Either(&[TEXTS, Shape::Map(&Shape::Object(&DEPENDENCY))]);

static DEPENDENCY: Table = Table {
    name: "dependency",
    rules: &[
        part("condition", Shape::Word(&["service_started", "service_healthy", "service_completed_successfully"])),
        part("restart", Shape::Flag),
        part("required", Shape::Flag),
    ],
};

pub(super) static HEALTHCHECK: Table = Table {
    name: "healthcheck",
    rules: &[
        part("disable", Shape::Flag),
        part("test", TEXT_OR_TEXTS),
        part("interval", Shape::Duration),
        part("timeout", Shape::Duration),
        part("retries", Shape::Whole),
        part("start_period", Shape::Duration),
        part("start_interval", Shape::Duration),
    ],
};

pub(super) static LOGGING: Table =
    Table { name: "logging", rules: &[part("driver", Shape::Text), part("options", OPTIONS)] };

pub(super) static BUILD: Table = Table {
    name: "build",
    rules: &[
        part("context", Shape::Text),
        part("dockerfile", Shape::Text),
        part("dockerfile_inline", Shape::Text),
        part("entitlements", TEXTS),
        part("args", PAIRS),
        part("ssh", Shape::Either(&[Shape::Flag, Shape::Text, PAIRS])),
        part("labels", PAIRS),
        part("cache_from", TEXTS),
        part("cache_to", TEXTS),
        part("no_cache", Shape::Flag),
        part("additional_contexts", PAIRS),
        part("network", Shape::Text),
        part("provenance", Shape::Either(&[Shape::Flag, Shape::Text])),
        part("sbom", Shape::Either(&[Shape::Flag, Shape::Text])),
        part("pull", Shape::Flag),
        part("target", Shape::Text),
        part("shm_size", Shape::Size),
        part("extra_hosts", Shape::Either(&[Shape::Map(&TEXT_OR_TEXTS), TEXTS])),
        part("isolation", Shape::Text),
        part("privileged", Shape::Flag),
        part("secrets", MOUNTED_FILES),
        part("tags", TEXTS),
        part("ulimits", ULIMITS),
        part("platforms", TEXTS),
    ],
};

pub(super) const ULIMITS: Shape = Shape::Map(&Shape::Either(&[Shape::Whole, Shape::Object(&ULIMIT)]));

static ULIMIT: Table = Table { name: "ulimit", rules: &[part("soft", Shape::Whole), part("hard", Shape::Whole)] };

pub(super) static BLKIO: Table = Table {
    name: "blkio_config",
    rules: &[
        part("device_read_bps", RATES),
        part("device_read_iops", RATES),
        part("device_write_bps", RATES),
        part("device_write_iops", RATES),
        part("weight", Shape::Whole),
        part("weight_device", Shape::List(&Shape::Object(&BLKIO_WEIGHT))),
    ],
};

const RATES: Shape = Shape::List(&Shape::Object(&BLKIO_RATE));

static BLKIO_RATE: Table = Table { name: "blkio_rate", rules: &[part("path", Shape::Text), part("rate", Shape::Size)] };

static BLKIO_WEIGHT: Table =
    Table { name: "blkio_weight", rules: &[part("path", Shape::Text), part("weight", Shape::Whole)] };

pub(super) const DEVICES: Shape = Shape::List(&Shape::Either(&[Shape::Text, Shape::Object(&DEVICE)]));

static DEVICE: Table = Table {
    name: "device",
    rules: &[part("source", Shape::Text), part("target", Shape::Text), part("permissions", Shape::Text)],
};

pub(super) const GPUS: Shape = Shape::Either(&[Shape::Word(&["all"]), Shape::List(&Shape::Object(&DEVICE_REQUEST))]);

pub(super) static DEVICE_REQUEST: Table = Table {
    name: "device_request",
    rules: &[
        part("capabilities", TEXTS),
        part("count", Shape::Text),
        part("device_ids", TEXTS),
        part("driver", Shape::Text),
        part("options", PAIRS),
    ],
};

pub(super) const HOOKS: Shape = Shape::List(&Shape::Object(&HOOK));

static HOOK: Table = Table {
    name: "hook",
    rules: &[
        part("command", TEXT_OR_TEXTS),
        part("user", Shape::Text),
        part("privileged", Shape::Flag),
        part("working_dir", Shape::Text),
        part("environment", PAIRS),
    ],
};

pub(super) static CREDENTIAL_SPEC: Table = Table {
    name: "credential_spec",
    rules: &[part("config", Shape::Text), part("file", Shape::Text), part("registry", Shape::Text)],
};

pub(super) const EXTENDS: Shape = Shape::Either(&[Shape::Text, Shape::Object(&EXTENDED)]);

static EXTENDED: Table = Table { name: "extends", rules: &[part("service", Shape::Text), part("file", Shape::Text)] };

pub(super) static PROVIDER: Table =
    Table { name: "provider", rules: &[part("type", Shape::Text), part("options", Shape::Map(&Shape::Anything))] };

pub(super) const SERVICE_MODELS: Shape = Shape::Either(&[TEXTS, Shape::Map(&Shape::Object(&SERVICE_MODEL))]);

static SERVICE_MODEL: Table =
    Table { name: "service_model", rules: &[part("endpoint_var", Shape::Text), part("model_var", Shape::Text)] };

pub(super) static DEVELOP: Table =
    Table { name: "develop", rules: &[part("watch", Shape::List(&Shape::Object(&WATCH)))] };

static WATCH: Table = Table {
    name: "watch",
    rules: &[
        part("path", Shape::Text),
        part("action", Shape::Text),
        part("target", Shape::Text),
        part("ignore", TEXT_OR_TEXTS),
        part("include", TEXT_OR_TEXTS),
        part("exec", Shape::Object(&HOOK)),
        part("initial_sync", Shape::Flag),
    ],
};
