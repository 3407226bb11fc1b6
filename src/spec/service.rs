//! One service of the file.

use super::check::path;
use super::keys::SERVICE;
use super::network::{self, Definitions, Places};
use super::node::{Key, Node};
use super::process::flag;
use super::project::Reader;
use super::scope::Scope;
use super::{
    data, effects, environment, files, hash, health, hooks, isolation, names, policy, process, resources, schedule,
    taking,
};
use crate::model::{ContainerName, Hold, ImageReference, Platform, PullPolicy, Service, ServiceName, SpecHash};

/// Reads a service. `None`: it is not part of the project, or an error was told.
pub(super) fn read(
    name: &Key,
    body: &Node,
    key: &str,
    networks: &Definitions,
    volumes: &data::Definitions,
    files: &mut files::Definitions,
    reader: &mut Reader<'_, '_>,
) -> Option<(Service, Places, data::Places)> {
    let parsed = ServiceName::parse(&name.text);
    if let Err(error) = &parsed {
        reader.report.error(name.at, key, error.to_string());
    }
    if reader.chosen.leaves_out(body).is_some() {
        return None;
    }
    let mut holds = effects::holds(body, &SERVICE, key, reader.report);
    let image = image(name, body, key, &mut holds, reader);
    let pull = policy::pull(body, key, reader).unwrap_or_else(|| {
        holds.extend(pull_by_building(body, key, reader));
        PullPolicy::Missing
    });
    let replicas = policy::replicas(body, key, reader);
    let mut scope = Scope::new(body, key, name.at, reader);
    let (network, places) = network::read(replicas, networks, &mut scope);
    let (names, resources) = (names::read(&mut scope), resources::read(&mut scope));
    let everywhere = scope.reader.on_unhealthy;
    let health = health::read(everywhere, &mut scope);
    let mut isolation = isolation::read(&network, &mut scope);
    let data = parsed.as_ref().map(|name| data::read(name, &isolation.tmpfs, volumes, &mut scope)).unwrap_or_default();
    isolation.tmpfs.extend(data.tmpfs);
    let mounts = data.mounts.iter().map(|mount| mount.target.as_str());
    let taken = mounts.chain(isolation.tmpfs.iter().map(|tmpfs| tmpfs.target.as_str())).collect();
    let files = files::read(&taken, files, &mut scope);
    files::warn_of_literals(&mut scope);
    let taking = taking::read(pull, image.as_ref(), &mut scope);
    let schedule = schedule::read(replicas, &mut scope);
    let hooks = hooks::read(&mut scope);
    let found = scope.finish();
    holds.extend(found.holds);
    let mut service = Service {
        name: parsed.ok()?,
        image,
        platform: platform(body, key, reader),
        pull,
        replicas,
        container_name: container_name(body, key, replicas, &mut holds, reader),
        process: process::read(body, key, reader),
        hostname: hostname(body, key, reader),
        labels: environment::labels(body, "labels"),
        annotations: environment::labels(body, "annotations"),
        restart: policy::restart(body, key, reader),
        pace: policy::pace(body, key, reader),
        stop: policy::stop(body, key, reader),
        health,
        network,
        read_only: flag(body, "read_only"),
        hold_port: body.given("x-longshore").is_some_and(|own| flag(own, "hold_port")),
        mounts: data.mounts,
        required_mounts: data.required,
        // When all services are read.
        depends: Vec::new(),
        schedule,
        hooks,
        files,
        names,
        isolation,
        resources,
        pinned: None,
        taking,
        loosenings: found.loosenings,
        wishes: found.wishes,
        // Said below, with what stands beside the services.
        suspended: false,
        holds,
        // Taken below, over all of the above.
        hash: SpecHash::of(b""),
    };
    mode(body, key, reader);
    service.hash = hash::of(&service);
    Some((service, places, data.places))
}

/// `suspend` of the `x-longshore` in here.
pub(super) fn suspended(node: &Node) -> Option<bool> {
    node.given("x-longshore")?.given("suspend")?.truth()
}

fn image(
    name: &Key,
    body: &Node,
    key: &str,
    holds: &mut Vec<Hold>,
    reader: &mut Reader<'_, '_>,
) -> Option<ImageReference> {
    let build = body.entry("build").filter(|(_, node)| !node.is_null());
    let Some(node) = body.given("image") else {
        if let Some((at, _)) = build {
            let message = effects::unsupported(&path(key, "build"), "the service needs an `image` that can be pulled");
            holds.push(effects::hold(
                reader.report,
                at.at,
                &path(key, "build"),
                &message,
                "build the image, push it to a registry and name it by `image`",
            ));
        } else if body.given("extends").is_none() && body.given("provider").is_none() {
            let message = format!("the service {:?} has no image", name.text);
            reader.report.error(name.at, key, message).hint("write `image:` below it");
        }
        return None;
    };
    if let Some((at, _)) = build {
        effects::warn(reader.report, at.at, &path(key, "build"), "the image is pulled, not built");
    }
    match ImageReference::parse_in(node.text().unwrap_or_default(), reader.default_registry) {
        Ok(image) => Some(image),
        Err(error) => {
            let filled_in = reader.report.source.line(node.at.line).is_some_and(|line| line.contains('$'));
            let noted = reader.report.error(node.at, &path(key, "image"), error.to_string());
            if filled_in {
                noted.hint("its variables come from the `.env` file beside the state file; is one of them not set?");
            }
            None
        }
    }
}

fn pull_by_building(body: &Node, key: &str, reader: &Reader<'_, '_>) -> Option<Hold> {
    let (at, _) = body.entry("pull_policy")?;
    let key = path(key, "pull_policy");
    let message = effects::unsupported(&key, "the service needs an `image` that can be pulled");
    Some(effects::hold(reader.report, at.at, &key, &message, "write another `pull_policy`"))
}

fn platform(body: &Node, key: &str, reader: &mut Reader<'_, '_>) -> Option<Platform> {
    let node = body.given("platform")?;
    let text = node.text().filter(|text| !text.is_empty())?;
    let part = |part: &&str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    };
    let parts: Vec<&str> = text.split('/').collect();
    match parts.as_slice() {
        [os, architecture, rest @ ..] if rest.len() < 2 && parts.iter().all(part) => {
            let architecture = match architecture.to_ascii_lowercase().as_str() {
                "x86_64" | "x86-64" => "amd64".to_owned(),
                "aarch64" => "arm64".to_owned(),
                other => other.to_owned(),
            };
            let variant = rest.first().map(|variant| variant.to_ascii_lowercase());
            Some(Platform { os: os.to_ascii_lowercase(), architecture, variant })
        }
        _ => {
            let message = format!("{text:?} is not a platform");
            reader.report.error(node.at, &path(key, "platform"), message).hint("write linux/amd64 or linux/arm/v7");
            None
        }
    }
}

fn container_name(
    body: &Node,
    key: &str,
    replicas: u32,
    holds: &mut Vec<Hold>,
    reader: &mut Reader<'_, '_>,
) -> Option<ContainerName> {
    let node = body.given("container_name")?;
    let text = node.text().filter(|text| !text.is_empty())?;
    let key = path(key, "container_name");
    match ContainerName::parse(text) {
        Err(error) => {
            reader.report.error(node.at, &key, error.to_string());
            None
        }
        Ok(name) => {
            if replicas > 1 {
                let message = format!("{replicas} containers cannot all be named {text:?}");
                holds.push(effects::hold(
                    reader.report,
                    node.at,
                    &key,
                    &message,
                    "remove `container_name`, or run one container",
                ));
            }
            Some(name)
        }
    }
}

/// RFC 1123, and what the kernel takes.
fn hostname(body: &Node, key: &str, reader: &mut Reader<'_, '_>) -> Option<String> {
    let node = body.given("hostname")?;
    let text = node.text().filter(|text| !text.is_empty())?;
    if !names::is_host_name(text) {
        let message = format!("{text:?} is not a host name");
        let hint = "use up to 63 letters, digits, '-' and '.'; no part may begin or end with '-'";
        reader.report.error(node.at, &path(key, "hostname"), message).hint(hint);
    }
    Some(text.to_owned())
}

/// On one host `global` is one container, which is what `replicated` gives too.
fn mode(body: &Node, key: &str, reader: &mut Reader<'_, '_>) {
    let Some((at, node)) = body.given("deploy").and_then(|deploy| deploy.entry("mode")) else { return };
    if !matches!(node.text(), None | Some("" | "replicated" | "global")) {
        effects::warn(reader.report, at.at, &format!("{key}.deploy.mode"), "the service is run as `replicated`");
    }
}
