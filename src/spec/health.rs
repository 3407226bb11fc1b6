//! `healthcheck`, and `probe` and `on_unhealthy` of `x-longshore`: how health is checked, and what follows from it.

use super::check::path;
use super::duration::{self, Units};
use super::nearest::nearest;
use super::node::{Node, Value};
use super::project::Reader;
use super::scope::Scope;
use crate::model::{HealthCheck, HealthPolicy, HealthTest, OnUnhealthy, Probe};

const EXTENSION: &str = "x-longshore";
const REACTIONS: [&str; 3] = ["restart", "stop", "none"];
const PROBES: &str = "write one of http: {port: 80, path: /}, tcp: {port: 80}, grpc: {port: 50051}";
/// What a browser would go on with.
const GOOD_STATUS: (u16, u16) = (200, 399);

/// What the file says beside its services, for all of them.
pub(super) fn everywhere(root: &Node, reader: &mut Reader<'_, '_>) -> Option<OnUnhealthy> {
    let (_, body) = root.entry(EXTENSION)?;
    if let Some((at, node)) = body.entry("probe")
        && !node.is_null()
    {
        let message = "a probe is of one service: what answers differs from service to service";
        reader.report.error(at.at, &path(EXTENSION, "probe"), message).hint("write it in `x-longshore` of the service");
    }
    on_unhealthy(body.given("on_unhealthy")?, &path(EXTENSION, "on_unhealthy"), reader)
}

pub(super) fn read(everywhere: Option<OnUnhealthy>, scope: &mut Scope<'_, '_, '_>) -> HealthPolicy {
    let key = "x-longshore.on_unhealthy";
    let own = scope.given(key).map(|node| (node, scope.full(key)));
    let own = own.and_then(|(node, key)| on_unhealthy(node, &key, scope.reader));
    HealthPolicy { check: check(scope), on_unhealthy: own.or(everywhere) }
}

fn on_unhealthy(node: &Node, key: &str, reader: &mut Reader<'_, '_>) -> Option<OnUnhealthy> {
    let text = node.text().unwrap_or_default();
    match text {
        "restart" => Some(OnUnhealthy::Restart),
        "stop" => Some(OnUnhealthy::Stop),
        "none" => Some(OnUnhealthy::Nothing),
        _ => {
            let message = format!("{text:?} is nothing that can be done with who is unhealthy");
            let near = nearest(text, REACTIONS).map_or_else(String::new, |near| format!("did you mean `{near}`? "));
            reader.report.error(node.at, key, message).hint(format!("{near}it may be restart, stop or none"));
            None
        }
    }
}

fn check(scope: &mut Scope<'_, '_, '_>) -> HealthCheck {
    let off = scope.flag("healthcheck.disable").then_some(HealthTest::Nothing);
    let written = test(scope);
    let probe = probe(scope);
    if written.is_some() && probe.is_some() {
        let at = scope.place("x-longshore.probe");
        let message = "`healthcheck.test` and `x-longshore.probe` say two things of what is tried";
        scope.error(at, "x-longshore.probe", message, "remove one of them");
    }
    HealthCheck {
        test: off.or(written).or(probe.map(HealthTest::Probe)),
        interval_ms: time(scope, "interval"),
        timeout_ms: time(scope, "timeout"),
        retries: scope
            .whole("healthcheck.retries", 0..=1_000_000)
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n > 0),
        start_period_ms: time(scope, "start_period"),
        start_interval_ms: time(scope, "start_interval"),
    }
}

/// As in Docker, no time at all is none given. That it is a duration was checked with the other keys.
fn time(scope: &Scope<'_, '_, '_>, name: &str) -> Option<u64> {
    let (text, _) = scope.word(&format!("healthcheck.{name}"))?;
    duration::millis(text, Units::Clock).filter(|ms| *ms > 0)
}

fn test(scope: &mut Scope<'_, '_, '_>) -> Option<HealthTest> {
    const KEY: &str = "healthcheck.test";
    const HINT: &str = "begin the list with CMD, CMD-SHELL or NONE, or write the command as one text for the shell";
    let node = scope.given(KEY)?;
    let Value::List(items) = &node.value else {
        return node.text().filter(|text| !text.is_empty()).map(|text| HealthTest::Shell(text.to_owned()));
    };
    let words: Vec<String> = items.iter().filter_map(Node::text).map(str::to_owned).collect();
    let (first, rest) = words.split_first()?;
    match (first.as_str(), rest) {
        ("NONE", _) => Some(HealthTest::Nothing),
        ("CMD", [_, ..]) => Some(HealthTest::Command(rest.to_vec())),
        ("CMD-SHELL", [line]) => Some(HealthTest::Shell(line.clone())),
        ("CMD-SHELL", [_, _, ..]) => {
            let message = "CMD-SHELL takes one text, which the shell reads";
            scope.error(node.at, KEY, message, "write the whole command as one text, or begin with CMD");
            None
        }
        ("CMD" | "CMD-SHELL", _) => {
            scope.error(node.at, KEY, format!("{first} names no command"), "write what is tried after it");
            None
        }
        _ => {
            scope.error(node.at, KEY, format!("{first:?} is no way to run a check"), HINT);
            None
        }
    }
}

fn probe(scope: &mut Scope<'_, '_, '_>) -> Option<Probe> {
    const KEY: &str = "x-longshore.probe";
    let node = scope.given(KEY)?;
    let given: Vec<&str> = ["http", "tcp", "grpc"].into_iter().filter(|kind| node.given(kind).is_some()).collect();
    let [kind] = given[..] else {
        let message = if given.is_empty() {
            "the probe names nothing to connect to"
        } else {
            "the probe is one of several kinds"
        };
        scope.error(node.at, KEY, message, PROBES);
        return None;
    };
    let key = format!("{KEY}.{kind}");
    if scope.given(&format!("{key}.port")).is_none() {
        scope.error(node.at, &key, format!("the {kind} probe has no port"), PROBES);
        return None;
    }
    let port = u16::try_from(scope.whole(&format!("{key}.port"), 1..=65_535)?).ok()?;
    match kind {
        "http" => http(scope, &key, port),
        "tcp" => Some(Probe::Tcp { port }),
        _ => {
            let service = scope.word(&format!("{key}.service")).map(|(text, _)| text.to_owned());
            Some(Probe::Grpc { port, service: service.unwrap_or_default() })
        }
    }
}

fn http(scope: &mut Scope<'_, '_, '_>, key: &str, port: u16) -> Option<Probe> {
    let (name, status_name) = (format!("{key}.path"), format!("{key}.status"));
    let (path, at) = scope.word(&name).map_or(("/", None), |(text, at)| (text, Some(at)));
    // It is written into a request as it is.
    let good = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic());
    if let Some(at) = at.filter(|_| !good) {
        let hint = "begin it with `/`; write a blank as %20";
        scope.error(at, &name, format!("{path:?} is not the path of a URL"), hint);
        return None;
    }
    let tls = scope.word(&format!("{key}.scheme")).is_some_and(|(text, _)| text == "https");
    let status = match scope.word(&status_name) {
        None => GOOD_STATUS,
        Some((text, at)) => {
            let (low, high) = text.split_once('-').unwrap_or((text, text));
            let number = |text: &str| text.parse::<u16>().ok().filter(|n| (100..=599).contains(n));
            match (number(low), number(high)) {
                (Some(low), Some(high)) if low <= high => (low, high),
                _ => {
                    scope.error(at, &status_name, format!("{text:?} is no status of HTTP"), "write 200, or 200-299");
                    return None;
                }
            }
        }
    };
    Some(Probe::Http { port, path: path.to_owned(), tls, status })
}
