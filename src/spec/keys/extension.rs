//! The keys of `x-longshore`, beside the services for all of them or inside one.

use super::Effect::{Acts, Warns};
use super::parts::DEPENDS_ON;
use super::{Rule, Shape, TEXTS, Table, part, rule};

const fn later(name: &'static str, means: &'static str, about: &'static str) -> Rule {
    rule(name, Shape::Anything, Warns(means), about)
}

/// Owners of mounted files.
pub(super) static IDMAP: Table =
    Table { name: "idmap", rules: &[part("uid", Shape::Whole), part("gid", Shape::Whole)] };

/// What a changed file does.
pub(super) const ON_CHANGE: Shape =
    Shape::Either(&[Shape::Word(&["recreate", "restart", "update"]), Shape::Object(&ON_CHANGE_SIGNAL)]);

static ON_CHANGE_SIGNAL: Table = Table { name: "on_change", rules: &[part("signal", Shape::Text)] };

static RESTART_PACE: Table = Table {
    name: "restart",
    rules: &[
        part("delay", Shape::Duration),
        part("factor", Shape::Number),
        part("max_delay", Shape::Duration),
        part("reset_after", Shape::Duration),
    ],
};

/// A connection instead of a command.
static PROBE: Table = Table {
    name: "probe",
    rules: &[
        part("http", Shape::Object(&HTTP_PROBE)),
        part("tcp", Shape::Object(&TCP_PROBE)),
        part("grpc", Shape::Object(&GRPC_PROBE)),
    ],
};

static HTTP_PROBE: Table = Table {
    name: "http_probe",
    rules: &[
        part("port", Shape::Whole),
        part("path", Shape::Text),
        part("scheme", Shape::Word(&["http", "https"])),
        part("status", Shape::Text),
    ],
};

static TCP_PROBE: Table = Table { name: "tcp_probe", rules: &[part("port", Shape::Whole)] };

static GRPC_PROBE: Table =
    Table { name: "grpc_probe", rules: &[part("port", Shape::Whole), part("service", Shape::Text)] };

/// Which newer images are taken.
static UPDATE: Table = Table {
    name: "update",
    rules: &[part("policy", Shape::Text), part("window", Shape::Text), part("interval", Shape::Duration)],
};

static SCHEDULE: Table = Table {
    name: "schedule",
    rules: &[
        part("cron", Shape::Text),
        part("timezone", Shape::Text),
        part("overlap", Shape::Word(&["skip", "queue", "replace"])),
        part("missed", Shape::Word(&["skip", "run-once"])),
        part("missed_within", Shape::Duration),
        part("history", Shape::Whole),
        part("timeout", Shape::Duration),
    ],
};

pub(in crate::spec) static LONGSHORE: Table = Table {
    name: "x-longshore",
    rules: &[
        rule("suspend", Shape::Flag, Acts, "`true`: its containers are stopped, and none is started."),
        rule(
            "schedule",
            Shape::Either(&[Shape::Text, Shape::Object(&SCHEDULE)]),
            Acts,
            "Run it at set times only: `\"0 3 * * *\"`, `@daily`, `@every 10m`, or `{cron, timezone, overlap: skip, missed: run-once, missed_within: 1h, history: 10, timeout}`.",
        ),
        rule(
            "require_mount",
            Shape::Either(&[Shape::Flag, Shape::Text, TEXTS]),
            Acts,
            "Paths of the host that must be mount points before it is started; `true`: the source of each bind mount.",
        ),
        rule(
            "idmap",
            Shape::Object(&IDMAP),
            Acts,
            "`{uid, gid}`: whose files on the host are the container's user's, in all its volumes and bind mounts.",
        ),
        rule("profiles", TEXTS, Acts, "Beside all services: profiles that are chosen for this file; `*` is all."),
        rule("depends_on", DEPENDS_ON, Acts, "Services of other projects that come first: PROJECT/SERVICE."),
        later("hold_port", "ports are closed while a container is replaced", "Keep ports open over an update."),
        rule(
            "on_change",
            ON_CHANGE,
            Acts,
            "What a changed config or secret does: `recreate` (as without it), `restart`, `update` or `{signal: HUP}`.",
        ),
        rule(
            "restart",
            Shape::Object(&RESTART_PACE),
            Acts,
            "How restarts are spaced: `{delay: 100ms, factor: 2, max_delay: 60s, reset_after: 10s}` as without it; before `deploy.restart_policy`.",
        ),
        rule(
            "on_unhealthy",
            Shape::Word(&["restart", "stop", "none"]),
            Acts,
            "What is done when it is unhealthy: `restart` (as without it where `restart` is always or unless-stopped), `stop` or `none`.",
        ),
        rule(
            "probe",
            Shape::Object(&PROBE),
            Acts,
            "A health check without a program in the image: `http: {port, path, scheme, status}`, `tcp: {port}` or `grpc: {port, service}`.",
        ),
        rule(
            "update",
            Shape::Either(&[Shape::Word(&["digest"]), Shape::Object(&UPDATE)]),
            Acts,
            "Which new images are taken by themselves, and when: `digest`, or `{policy: digest or a range of versions such as \"~1.4\", window: \"mon-fri 02:00-05:00\", interval: 1h}`.",
        ),
        rule(
            "keep_generations",
            Shape::Whole,
            Acts,
            "How many generations are kept to go back to; without it as many as the daemon's configuration says.",
        ),
    ],
};
