//! The keys of `x-longshore`, beside the services for all of them or inside one.

use super::Effect::{Acts, Holds, Warns};
use super::parts::DEPENDS_ON;
use super::{Rule, Shape, TEXTS, Table, part, rule};

const fn later(name: &'static str, means: &'static str, about: &'static str) -> Rule {
    rule(name, Shape::Anything, Warns(means), about)
}

const fn held(name: &'static str, why: &'static str, about: &'static str) -> Rule {
    rule(name, Shape::Anything, Holds(why, &[]), about)
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
        held("suspend", "the service asks not to be run", "Do not run it."),
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
        rule("depends_on", DEPENDS_ON, Acts, "Services of other projects that come first: PROJECT/SERVICE."),
        later("hold_port", "ports are closed while a container is replaced", "Keep ports open over an update."),
        rule(
            "on_change",
            ON_CHANGE,
            Acts,
            "What a changed config or secret does: `recreate` (as without it), `restart`, `update` or `{signal: HUP}`.",
        ),
        later("on_unhealthy", "its health is not checked", "What is done when it is unhealthy."),
        later("probe", "its health is not checked", "A health check without a program in the image."),
        rule(
            "restart",
            Shape::Object(&RESTART_PACE),
            Acts,
            "How restarts are spaced: `{delay: 100ms, factor: 2, max_delay: 60s, reset_after: 10s}` as without it; before `deploy.restart_policy`.",
        ),
        later("update", "new images are found by `pull_policy` only", "Which new images are taken, and when."),
    ],
};
