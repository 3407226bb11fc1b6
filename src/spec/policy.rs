//! When containers are pulled for, started again, stopped, and how many there are.

use super::check::path;
use super::duration::{self, Units};
use super::keys::RESTART_POLICY;
use super::nearest::nearest;
use super::node::Node;
use super::project::Reader;
use crate::model::{PullPolicy, RestartPace, RestartPolicy, Signal, StopPolicy};

/// One host; more is a slip.
const MAX_REPLICAS: u32 = 1000;
/// Compose's own default.
const GRACE_MS: u64 = 10_000;

const RESTARTS: [&str; 4] = ["no", "always", "unless-stopped", "on-failure"];
const CONDITIONS: [&str; 3] = ["none", "on-failure", "any"];
const PULLS: [&str; 8] = ["always", "never", "missing", "if_not_present", "build", "daily", "weekly", "refresh"];

/// `restart`, or `deploy.restart_policy`, which wins as it does in Compose.
pub(super) fn restart(service: &Node, key: &str, reader: &mut Reader<'_, '_>) -> RestartPolicy {
    let deployed = service.given("deploy").and_then(|deploy| deploy.given("restart_policy"));
    match (deployed, service.given("restart")) {
        (Some(policy), _) => of_deploy(policy, &format!("{key}.deploy.{}", RESTART_POLICY.name), reader),
        (None, Some(node)) => of_restart(node, &path(key, "restart"), reader),
        (None, None) => RestartPolicy::No,
    }
}

/// How restarts are spaced: by `x-longshore: restart`, else by `deploy.restart_policy`, whose delay is the same each time.
pub(super) fn pace(service: &Node, key: &str, reader: &mut Reader<'_, '_>) -> RestartPace {
    let mut pace = RestartPace::default();
    let length = |node: Option<&Node>| node.and_then(Node::text).and_then(|text| duration::millis(text, Units::Clock));
    if let Some(policy) = service.given("deploy").and_then(|deploy| deploy.given("restart_policy")) {
        if let Some(delay) = length(policy.given("delay")) {
            pace = RestartPace { first_ms: delay, factor_percent: 100, longest_ms: delay, ..pace };
        }
        pace.reset_ms = length(policy.given("window")).unwrap_or(pace.reset_ms);
    }
    let Some((at, ours)) = service.entry("x-longshore") else { return pace };
    let Some(node) = ours.given("restart") else { return pace };
    let full = path(&format!("{key}.{}", at.text), "restart");
    let usual = RestartPace::default();
    pace = RestartPace {
        first_ms: length(node.given("delay")).unwrap_or(usual.first_ms),
        longest_ms: length(node.given("max_delay")).unwrap_or(usual.longest_ms),
        reset_ms: length(node.given("reset_after")).unwrap_or(pace.reset_ms),
        ..usual
    };
    if let Some(factor) = node.given("factor") {
        let number =
            factor.text().and_then(|text| text.parse::<f64>().ok()).filter(|number| (1.0..=100.0).contains(number));
        match number {
            // Between 100 and 10,000.
            Some(number) => pace.factor_percent = (number * 100.0).round() as u32,
            None => {
                let noted = reader.report.error(factor.at, &path(&full, "factor"), "expected a number from 1 to 100");
                noted.hint("1: the delay stays the same; 2: it is doubled each time");
            }
        }
    }
    if pace.longest_ms < pace.first_ms {
        let noted = reader.report.error(node.at, &full, "`max_delay` is shorter than `delay`");
        noted.hint("write a longer one, or leave it out");
    }
    pace
}

fn of_restart(node: &Node, key: &str, reader: &mut Reader<'_, '_>) -> RestartPolicy {
    let text = node.text().unwrap_or_default();
    let (word, max) = text.split_once(':').map_or((text, None), |(word, max)| (word, Some(max)));
    let limit = max.map(str::parse::<u32>);
    match (word, limit) {
        // `restart: no` without quotes is a boolean to some readers and a word to others.
        ("no" | "" | "false", None) => RestartPolicy::No,
        ("always", None) => RestartPolicy::Always,
        ("unless-stopped", None) => RestartPolicy::UnlessStopped,
        ("on-failure", None) => RestartPolicy::OnFailure { max: None },
        ("on-failure", Some(Ok(0))) => RestartPolicy::OnFailure { max: None },
        ("on-failure", Some(Ok(max))) => RestartPolicy::OnFailure { max: Some(max) },
        _ => {
            let noted = reader.report.error(node.at, key, format!("{text:?} is not a restart policy"));
            noted.hint(did_you_mean(word, &RESTARTS, "no, always, unless-stopped, on-failure, on-failure:3"));
            RestartPolicy::No
        }
    }
}

fn of_deploy(policy: &Node, key: &str, reader: &mut Reader<'_, '_>) -> RestartPolicy {
    let attempts = policy.given("max_attempts");
    let max = attempts.and_then(Node::text).and_then(|text| text.parse::<u32>().ok()).filter(|max| *max > 0);
    if let Some(node) = attempts
        && node.text().is_none_or(|text| text.parse::<u32>().is_err())
    {
        reader.report.error(node.at, &path(key, "max_attempts"), "expected a number from 0");
    }
    let Some(condition) = policy.given("condition") else { return RestartPolicy::Always };
    match condition.text().unwrap_or_default() {
        "none" => RestartPolicy::No,
        "on-failure" => RestartPolicy::OnFailure { max },
        "any" | "" => RestartPolicy::Always,
        other => {
            let noted = reader.report.error(
                condition.at,
                &path(key, "condition"),
                format!("{other:?} is not a restart condition"),
            );
            noted.hint(did_you_mean(other, &CONDITIONS, "none, on-failure, any"));
            RestartPolicy::No
        }
    }
}

pub(super) fn stop(service: &Node, key: &str, reader: &mut Reader<'_, '_>) -> StopPolicy {
    let mut signal = None;
    if let Some(node) = service.given("stop_signal") {
        let text = node.text().unwrap_or_default();
        signal = Signal::parse(text);
        if signal.is_none() {
            let noted = reader.report.error(node.at, &path(key, "stop_signal"), format!("{text:?} is not a signal"));
            noted.hint("write SIGTERM, TERM, 15 or SIGRTMIN+3");
        }
    }
    let grace = service.given("stop_grace_period").and_then(Node::text);
    StopPolicy { signal, grace_ms: grace.and_then(|text| duration::millis(text, Units::Clock)).unwrap_or(GRACE_MS) }
}

/// `scale` or `deploy.replicas`; one where the file is silent.
pub(super) fn replicas(service: &Node, key: &str, reader: &mut Reader<'_, '_>) -> u32 {
    let deploy = service.given("deploy").and_then(|deploy| deploy.given("replicas"));
    let scale = service.given("scale");
    let deployed = deploy.map(|node| count(node, &format!("{key}.deploy.replicas"), reader));
    let scaled = scale.map(|node| count(node, &path(key, "scale"), reader));
    if let (Some(deployed), Some(scaled), Some(node)) = (deployed, scaled, scale)
        && deployed != scaled
    {
        let message = format!("`scale` asks for {scaled} containers and `deploy.replicas` for {deployed}");
        reader.report.error(node.at, &path(key, "scale"), message).hint("remove one of them");
    }
    deployed.or(scaled).unwrap_or(1)
}

fn count(node: &Node, key: &str, reader: &mut Reader<'_, '_>) -> u32 {
    let text = node.text().unwrap_or_default();
    match text.parse::<u32>() {
        Ok(count) if count <= MAX_REPLICAS => count,
        _ => {
            reader.report.error(node.at, key, format!("{text} containers: expected a number from 0 to {MAX_REPLICAS}"));
            1
        }
    }
}

/// `None`: the image would have to be built.
pub(super) fn pull(service: &Node, key: &str, reader: &mut Reader<'_, '_>) -> Option<PullPolicy> {
    const DAY_MS: u64 = 86_400_000;
    let Some(node) = service.given("pull_policy") else { return Some(PullPolicy::Missing) };
    let text = node.text().unwrap_or_default();
    let every = text.strip_prefix("every_").and_then(|rest| duration::millis(rest, Units::Calendar));
    match (text, every) {
        ("always", _) => Some(PullPolicy::Always),
        ("never", _) => Some(PullPolicy::Never),
        ("missing" | "if_not_present" | "", _) => Some(PullPolicy::Missing),
        ("daily", _) => Some(PullPolicy::Every { ms: DAY_MS }),
        ("weekly", _) => Some(PullPolicy::Every { ms: 7 * DAY_MS }),
        ("refresh", _) => Some(refresh(service, key, reader)),
        ("build", _) => None,
        (_, Some(ms)) if ms > 0 => Some(PullPolicy::Every { ms }),
        _ => {
            let noted =
                reader.report.error(node.at, &path(key, "pull_policy"), format!("{text:?} is not a pull policy"));
            let all = "always, never, missing, if_not_present, build, daily, weekly, every_12h";
            noted.hint(did_you_mean(text, &PULLS, all));
            Some(PullPolicy::Missing)
        }
    }
}

/// `pull_policy: refresh` pulls when the last pull is older than `pull_refresh_after`.
fn refresh(service: &Node, key: &str, reader: &mut Reader<'_, '_>) -> PullPolicy {
    let Some(node) = service.given("pull_refresh_after") else { return PullPolicy::Always };
    let text = node.text().unwrap_or_default();
    match duration::millis(text, Units::Calendar) {
        Some(ms) if ms > 0 => PullPolicy::Every { ms },
        _ => {
            let message = format!("{text:?} is not a duration");
            reader.report.error(node.at, &path(key, "pull_refresh_after"), message).hint("write 12h, 7d or 1w");
            PullPolicy::Always
        }
    }
}

fn did_you_mean(word: &str, words: &[&'static str], all: &str) -> String {
    nearest(word, words.iter().copied())
        .map_or_else(|| format!("it may be {all}"), |near| format!("did you mean `{near}`? it may be {all}"))
}
