//! The keys of the file, and of its networks, volumes, configs, secrets and models.

use super::Effect::{Acts, Inside, Nothing, Part, Warns};
use super::{LONGSHORE, OPTIONS, PAIRS, Rule, SERVICE, Shape, TEXT_OR_TEXTS, TEXTS, Table, part, rule};

pub(in crate::spec) static FILE: Table = Table {
    name: "file",
    rules: &[
        rule("version", Shape::Scalar, Nothing, "Accepted and ignored, as the specification asks."),
        rule("name", Shape::Text, Acts, "The project's name; without it the file's or folder's name."),
        rule("services", Shape::Map(&Shape::Object(&SERVICE)), Acts, "The services, by name."),
        rule("include", INCLUDE, Acts, "Other Compose files; not supported yet."),
        rule(
            "networks",
            Shape::Map(&Shape::Object(&NETWORK)),
            Acts,
            "Networks, by name; one is made where a service uses it or where it has a `name` of its own.",
        ),
        rule(
            "volumes",
            Shape::Map(&Shape::Object(&VOLUME)),
            Acts,
            "Volumes, by name; one is made where a service uses it.",
        ),
        rule(
            "configs",
            Shape::Map(&Shape::Object(&CONFIG)),
            Acts,
            "Configs, by name: from `file`, `content` or `environment` (a variable of `.env`).",
        ),
        rule(
            "secrets",
            Shape::Map(&Shape::Object(&SECRET)),
            Acts,
            "Secrets, by name: from `file` (also encrypted, NAME.age), `environment` (a variable of `.env`), or `external`.",
        ),
        rule("models", Shape::Map(&Shape::Object(&MODEL)), Warns("no model is loaded"), "AI models, by name."),
        rule("x-longshore", Shape::Object(&LONGSHORE), Inside, "What Compose has no key for, for all services."),
    ],
};

const INCLUDE: Shape = Shape::List(&Shape::Either(&[Shape::Text, Shape::Object(&INCLUDED)]));

static INCLUDED: Table = Table {
    name: "include",
    rules: &[part("path", TEXT_OR_TEXTS), part("env_file", TEXT_OR_TEXTS), part("project_directory", Shape::Text)],
};

/// `external: true`, or the old form with a name inside.
const EXTERNAL: Shape = Shape::Either(&[Shape::Flag, Shape::Object(&EXTERNAL_NAME)]);

static EXTERNAL_NAME: Table = Table { name: "external", rules: &[part("name", Shape::Text)] };

const NAME: Rule = rule("name", Shape::Text, Part, "Its name outside the project.");

static NETWORK: Table = Table {
    name: "network",
    rules: &[
        NAME,
        part("driver", Shape::Text),
        part("driver_opts", OPTIONS),
        part("ipam", Shape::Object(&IPAM)),
        part("external", EXTERNAL),
        part("internal", Shape::Flag),
        part("enable_ipv4", Shape::Flag),
        part("enable_ipv6", Shape::Flag),
        part("attachable", Shape::Flag),
        part("labels", PAIRS),
    ],
};

static IPAM: Table = Table {
    name: "ipam",
    rules: &[
        part("driver", Shape::Text),
        part("config", Shape::List(&Shape::Object(&IPAM_POOL))),
        part("options", OPTIONS),
    ],
};

static IPAM_POOL: Table = Table {
    name: "ipam_config",
    rules: &[
        part("subnet", Shape::Text),
        part("ip_range", Shape::Text),
        part("gateway", Shape::Text),
        part("aux_addresses", OPTIONS),
    ],
};

static VOLUME: Table = Table {
    name: "volume",
    rules: &[
        NAME,
        part("driver", Shape::Text),
        part("driver_opts", OPTIONS),
        part("external", EXTERNAL),
        part("labels", PAIRS),
    ],
};

static CONFIG: Table = Table {
    name: "config",
    rules: &[
        NAME,
        part("content", Shape::Text),
        part("environment", Shape::Text),
        part("file", Shape::Text),
        part("external", EXTERNAL),
        part("labels", PAIRS),
        part("template_driver", Shape::Text),
    ],
};

static SECRET: Table = Table {
    name: "secret",
    rules: &[
        NAME,
        part("environment", Shape::Text),
        part("file", Shape::Text),
        part("external", EXTERNAL),
        part("labels", PAIRS),
        part("driver", Shape::Text),
        part("driver_opts", OPTIONS),
        part("template_driver", Shape::Text),
    ],
};

static MODEL: Table = Table {
    name: "model",
    rules: &[NAME, part("model", Shape::Text), part("context_size", Shape::Whole), part("runtime_flags", TEXTS)],
};
