//! `x-longshore: schedule`: at which times a service runs.
//!
//! The names of time zones are looked up in the host's own database (`/usr/share/zoneinfo`, `/etc/localtime`), whose rules come with
//! the schedule: whoever plans looks up nothing.

use jiff::tz::TimeZone;

use super::duration::{self, Units};
use super::node::Node;
use super::scope::Scope;
use super::source_text::Span;
use crate::model::{Cron, Missed, Overlap, RestartPolicy, Schedule, Times, Zone};

const KEY: &str = "x-longshore.schedule";
const CRON: &str = "x-longshore.schedule.cron";
/// How long ago a missed time may be to be made up for.
const WITHIN_MS: u64 = 3_600_000;
const HISTORY: u32 = 10;
const MAX_HISTORY: i64 = 100;
/// More often is a loop.
const SHORTEST_MS: u64 = 1_000;

/// Reads it. What cannot be is an error; a service that cannot be run by times is held.
pub(super) fn read(replicas: u32, scope: &mut Scope<'_, '_, '_>) -> Option<Schedule> {
    let node = scope.given(KEY)?;
    let (cron, key) = if node.scalar().is_some() { (Some(node), KEY) } else { (scope.given(CRON), CRON) };
    let Some((text, at)) = cron.and_then(|node| node.text().map(|text| (text.trim(), node.at))) else {
        scope.error(node.at, KEY, "the schedule says no times", "write `cron: \"0 3 * * *\"` below it");
        return None;
    };
    let times = times(text, at, key, scope);
    let zone = zone(scope);
    let word = |name: &str| node.given(name).and_then(Node::text);
    let length = |name: &str| word(name).and_then(|text| duration::millis(text, Units::Clock));
    let overlap = match word("overlap") {
        Some("queue") => Overlap::Queue,
        Some("replace") => Overlap::Replace,
        Some(_) | None => Overlap::Skip,
    };
    let missed = match word("missed") {
        Some("skip") => Missed::Skip,
        Some(_) | None => Missed::RunOnce { within_ms: length("missed_within").unwrap_or(WITHIN_MS) },
    };
    let history = scope.whole("x-longshore.schedule.history", 0..=MAX_HISTORY);
    let history = history.and_then(|number| u32::try_from(number).ok()).unwrap_or(HISTORY);
    let timeout_ms = length("timeout").filter(|ms| *ms > 0);
    let schedule = Schedule { times: times?, zone: zone?, overlap, missed, history, timeout_ms };
    fits(replicas, scope);
    Some(schedule)
}

fn times(text: &str, at: Span, key: &str, scope: &mut Scope<'_, '_, '_>) -> Option<Times> {
    if let Some(every) = text.strip_prefix("@every") {
        let every = every.trim();
        let ms = duration::millis(every, Units::Calendar).filter(|ms| *ms >= SHORTEST_MS);
        if ms.is_none() {
            let message = format!("{text:?}: {every:?} is no duration from 1s");
            scope.error(at, key, message, "write \"@every 10m\" or \"@every 1h30m\"");
        }
        return Some(Times::Every { ms: ms?, text: every.to_owned() });
    }
    match Cron::parse(text) {
        Ok(cron) => Some(Times::Cron(cron)),
        Err(error) => {
            scope.error(at, key, error.message, error.hint);
            None
        }
    }
}

/// The zone that the file names, or the host's own; UTC where the host says nothing.
fn zone(scope: &mut Scope<'_, '_, '_>) -> Option<Zone> {
    let name = "x-longshore.schedule.timezone";
    let Some((text, at)) = scope.word(name) else {
        return Some(Zone { name: None, rules: TimeZone::system() });
    };
    match TimeZone::get(text) {
        Ok(rules) => Some(Zone { name: Some(text.to_owned()), rules }),
        Err(_) => {
            let message = format!("the time zone {text:?} is not known here");
            let hint = "write a name of the IANA database, as in Europe/Berlin or UTC; the host's /usr/share/zoneinfo has them (package tzdata)";
            scope.error(at, name, message, hint);
            None
        }
    }
}

/// A run ends by itself, and there is one at a time.
fn fits(replicas: u32, scope: &mut Scope<'_, '_, '_>) {
    let at = scope.place(KEY);
    if replicas > 1 {
        let message =
            format!("a service with a schedule runs in one container at a time, and {replicas} are asked for");
        scope.stop(at, KEY, message, "remove `scale` and `deploy.replicas`, or write several services");
    }
    let (body, key) = (scope.body(), scope.full(""));
    let policy = super::policy::restart(body, key.trim_end_matches('.'), scope.reader);
    if matches!(policy, RestartPolicy::Always | RestartPolicy::UnlessStopped) {
        let message = "a service with a schedule ends, and its `restart` would start it again at once";
        scope.stop(at, KEY, message, "write `restart: no`, or `restart: on-failure:3` to try a run again");
    }
}
