//! `keep_generations` and `update` of `x-longshore`: which generations are kept, and which newer images are taken.

use super::duration::{self, Units};
use super::node::Value;
use super::scope::Scope;
use crate::model::{AutoUpdate, Choice, FailureAction, ImageReference, PullPolicy, Releases, Taking, Window};

const KEEP: &str = "x-longshore.keep_generations";
const UPDATE: &str = "x-longshore.update";
/// The registry is asked so often where the file does not say it.
const INTERVAL_MS: u64 = 3_600_000;
/// No interval is shorter.
const SHORTEST_MS: u64 = 1_000;

pub(super) fn read(pull: PullPolicy, image: Option<&ImageReference>, scope: &mut Scope<'_, '_, '_>) -> Taking {
    let keep = scope.whole(KEEP, 1..=100).and_then(|n| u32::try_from(n).ok());
    let on_failure = match scope.word("deploy.update_config.failure_action").map(|(word, _)| word) {
        Some("rollback") => Some(FailureAction::Rollback),
        Some("pause") => Some(FailureAction::Pause),
        _ => None,
    };
    Taking { keep, on_failure, auto: auto(pull, image, scope), follow_ms: None }
}

fn auto(pull: PullPolicy, image: Option<&ImageReference>, scope: &mut Scope<'_, '_, '_>) -> Option<AutoUpdate> {
    let node = scope.given(UPDATE)?;
    let (word, name) = match &node.value {
        Value::Map(_) => (scope.word("x-longshore.update.policy")?, "x-longshore.update.policy"),
        Value::Scalar(_) | Value::List(_) => (scope.word(UPDATE)?, UPDATE),
    };
    let (text, at) = word;
    let choice = choice(text).or_else(|| {
        let message = format!("{text:?} is neither `digest` nor a range of versions");
        scope.error(at, name, message, "write digest, or a range such as \">=1.2, <2\", \"~1.4\" or \"1.x\"");
        None
    })?;
    if pull != PullPolicy::Missing {
        let message = "`pull_policy` and `x-longshore.update` both say when a registry is asked";
        scope.error(at, name, message, "remove one of them; `pull_policy: missing` may stay");
        return None;
    }
    if image.is_some_and(|image| image.digest().is_some()) {
        scope.error(at, name, "the image is named by its digest, which never changes", "name it by a tag");
        return None;
    }
    Some(AutoUpdate { choice, window: window(scope), interval_ms: interval(scope) })
}

fn choice(text: &str) -> Option<Choice> {
    if text == "digest" {
        return Some(Choice::Digest);
    }
    let range = text.strip_prefix("semver").map_or(text, str::trim_start);
    Releases::parse(range).ok().map(Choice::Semver)
}

fn window(scope: &mut Scope<'_, '_, '_>) -> Option<Window> {
    let name = "x-longshore.update.window";
    let (text, at) = scope.word(name)?;
    let window = Window::parse(text);
    if window.is_none() {
        let message = format!("{text:?} is not a time of the day");
        scope.error(at, name, message, "write 02:00-05:00, or with days: \"mon-fri 22:00-04:00\"");
    }
    window
}

fn interval(scope: &mut Scope<'_, '_, '_>) -> u64 {
    let name = "x-longshore.update.interval";
    let Some((text, at)) = scope.word(name) else { return INTERVAL_MS };
    let given = duration::millis(text, Units::Clock).filter(|ms| *ms >= SHORTEST_MS);
    if given.is_none() {
        scope.error(at, name, format!("{text:?} is too short or no length of time"), "write 1h, 30m or 10s");
    }
    given.unwrap_or(INTERVAL_MS)
}

#[cfg(test)]
mod tests {
    use super::super::samples::{good, read_with};
    use crate::model::{Choice, Service};

    fn file(more: &str) -> String {
        format!("services:\n  web:\n    image: r.example/web:1.2.0\n    network_mode: none\n{more}")
    }
    fn service(more: &str) -> Service {
        good(&file(more)).project.services.into_values().next().expect("a service")
    }

    #[test]
    fn what_is_taken_is_read_in_both_forms() {
        let short = service("    x-longshore: {update: digest, keep_generations: 3}\n").taking;
        assert_eq!(short.keep, Some(3));
        let auto = short.auto.expect("it is taken");
        assert_eq!((auto.choice, auto.window, auto.interval_ms), (Choice::Digest, None, 3_600_000));
        let long = "    x-longshore: {update: {policy: '>=1.2, <2', window: 'mon-fri 02:00-05:00', interval: 10m}}\n";
        let auto = service(long).taking.auto.expect("it is taken");
        assert!(matches!(auto.choice, Choice::Semver(_)));
        assert_eq!(
            (auto.window.map(|w| w.to_string()).as_deref(), auto.interval_ms),
            (Some("mon,tue,wed,thu,fri 02:00-05:00"), 600_000)
        );
        assert!(service("").taking.auto.is_none());
        // It is not what a container is.
        assert_eq!(service(long).hash, service("").hash);
    }

    #[test]
    fn what_cannot_be_meant_is_told_with_its_place() {
        for (more, said) in [
            ("    x-longshore: {update: {policy: newest}}\n", "neither `digest` nor a range"),
            ("    x-longshore: {update: {policy: digest, window: night}}\n", "not a time of the day"),
            ("    x-longshore: {update: {policy: digest, interval: 1ms}}\n", "too short"),
            ("    x-longshore: {keep_generations: 0}\n", "from 1 to 100"),
            ("    x-longshore: {update: digest}\n    pull_policy: always\n", "both say when"),
        ] {
            let told = read_with(&file(more), &[]).expect_err(more);
            assert!(
                told.iter().any(|p| p.to_string().contains(said) && p.to_string().contains(":5:")),
                "{more}: {told:?}"
            );
        }
    }
}
