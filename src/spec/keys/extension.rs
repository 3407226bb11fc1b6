//! The keys of `x-longshore`, beside the services for all of them or inside one.

use super::Effect::{Acts, Holds, Warns};
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

pub(in crate::spec) static LONGSHORE: Table = Table {
    name: "x-longshore",
    rules: &[
        rule("suspend", Shape::Flag, Acts, "`true`: its containers are stopped, and none is started."),
        held("schedule", "the service asks to be run at set times only", "When to run it."),
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
        later("depends_on", "services are started in no order", "Services of other projects that come first."),
        later("hold_port", "ports are closed while a container is replaced", "Keep ports open over an update."),
        rule(
            "on_change",
            ON_CHANGE,
            Acts,
            "What a changed config or secret does: `recreate` (as without it), `restart`, `update` or `{signal: HUP}`.",
        ),
        later("on_unhealthy", "its health is not checked", "What is done when it is unhealthy."),
        later("probe", "its health is not checked", "A health check without a program in the image."),
        later("restart", "the delay grows from 100 ms to 60 s", "How restarts are spaced."),
        later("update", "new images are found by `pull_policy` only", "Which new images are taken, and when."),
    ],
};
