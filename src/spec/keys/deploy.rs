//! The keys of `services.*.deploy` (compose-spec, "Compose Deploy Specification").

use super::Effect::{Acts, Holds, Inside, Warns};
use super::parts::DEVICE_REQUEST;
use super::{PAIRS, Shape, TEXTS, Table, part, rule};

const DEVICE: &str = "the service would run without devices that it needs";

pub(in crate::spec) static DEPLOY: Table = Table {
    name: "deploy",
    rules: &[
        rule("replicas", Shape::Whole, Acts, "How many containers."),
        rule("restart_policy", Shape::Object(&RESTART_POLICY), Inside, "When a container that ended is started again."),
        rule("mode", Shape::Text, Acts, "replicated; other modes are not supported yet."),
        rule("endpoint_mode", Shape::Text, Warns("there is one host"), "How clients find the service."),
        rule(
            "labels",
            PAIRS,
            Warns("they are labels of a service in a cluster; `labels` sets those of its containers"),
            "Labels of the service.",
        ),
        rule("placement", Shape::Object(&PLACEMENT), Warns("there is one host"), "On which node."),
        rule(
            "update_config",
            Shape::Object(&ROLLOUT),
            Warns("all containers of the service are replaced at once"),
            "How it is updated.",
        ),
        rule(
            "rollback_config",
            Shape::Object(&ROLLOUT),
            Warns("it is not rolled back by itself"),
            "How it is rolled back.",
        ),
        rule("resources", Shape::Object(&RESOURCES), Inside, "Limits and reservations."),
    ],
};

pub(in crate::spec) static RESTART_POLICY: Table = Table {
    name: "restart_policy",
    rules: &[
        rule("condition", Shape::Text, Acts, "none, on-failure or any."),
        rule("max_attempts", Shape::Whole, Acts, "How often, with `on-failure`."),
        rule(
            "delay",
            Shape::Duration,
            Acts,
            "The time between attempts, the same each time; without it the delay grows from 100 ms to 60 s.",
        ),
        rule("window", Shape::Duration, Acts, "When a start counts as good; without it after 10 s."),
    ],
};

static PLACEMENT: Table = Table {
    name: "placement",
    rules: &[
        part("constraints", TEXTS),
        part("preferences", Shape::List(&Shape::Object(&PREFERENCE))),
        part("max_replicas_per_node", Shape::Whole),
    ],
};

static PREFERENCE: Table = Table { name: "preference", rules: &[part("spread", Shape::Text)] };

static ROLLOUT: Table = Table {
    name: "update_config",
    rules: &[
        part("parallelism", Shape::Whole),
        part("delay", Shape::Duration),
        part("failure_action", Shape::Text),
        part("monitor", Shape::Duration),
        part("max_failure_ratio", Shape::Number),
        part("order", Shape::Word(&["start-first", "stop-first"])),
    ],
};

static RESOURCES: Table = Table {
    name: "resources",
    rules: &[
        rule("limits", Shape::Object(&LIMITS), Inside, "What it may use at most."),
        rule("reservations", Shape::Object(&RESERVATIONS), Inside, "What is kept for it."),
    ],
};

static LIMITS: Table = Table {
    name: "limits",
    rules: &[
        rule("cpus", Shape::Number, Acts, "CPU limit, in CPUs."),
        rule("memory", Shape::Size, Acts, "Memory limit, from 6m."),
        rule("pids", Shape::Whole, Acts, "How many processes; 4096 without it."),
    ],
};

static RESERVATIONS: Table = Table {
    name: "reservations",
    rules: &[
        rule("cpus", Shape::Number, Warns("CPUs are not reserved"), "CPU reservation."),
        rule("memory", Shape::Size, Acts, "Memory that is kept from reclaim."),
        rule("devices", Shape::List(&Shape::Object(&DEVICE_REQUEST)), Acts, "Devices, through CDI files."),
        rule("generic_resources", Shape::List(&Shape::Object(&GENERIC)), Holds(DEVICE, &[]), "Named resources."),
    ],
};

static GENERIC: Table =
    Table { name: "generic_resource", rules: &[part("discrete_resource_spec", Shape::Object(&DISCRETE))] };

static DISCRETE: Table =
    Table { name: "discrete_resource_spec", rules: &[part("kind", Shape::Text), part("value", Shape::Number)] };
