//! What containers use, as the doors need it: `GET /api/v1/stats`, `GET /api/v1/containers/{name}/stats` and
//! `GET /api/v1/containers/{name}/top`. The daemon reads it from the machine when it is asked, and at no other time.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use futures_util::stream::unfold;
use jiff::SignedDuration;
use serde::Deserialize;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::containers::bad_path;
use super::error::ApiError;
use super::feed::clock;
use super::status::bad_query;
use super::wire::{ContainerUsage, Process, Usage};
use super::{Doors, find};
use crate::model::ContainerId;
use crate::reconcile::view::{ContainerStateView, View};

/// Reads numbers from the machine.
pub trait Numbers: Send + Sync {
    /// What these containers use now, in this order; those that do not run are left out.
    fn usage(&self, ids: Vec<ContainerId>) -> BoxFuture<'static, Vec<ContainerUsage>>;
    /// The processes of these containers, one container after the other.
    fn processes(&self, ids: Vec<ContainerId>) -> BoxFuture<'static, Vec<Process>>;
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ask {
    /// Go on, a record for each interval.
    stream: bool,
    /// How long from one record to the next.
    interval: Option<String>,
    /// Only these, with commas between them.
    names: Option<String>,
}

pub(super) async fn of_all(
    State(doors): State<Doors>,
    ask: Result<Query<Ask>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(ask) = ask.map_err(|err| bad_query(&err))?;
    let names = ask.names.as_deref().unwrap_or("").split(',').filter(|name| !name.is_empty()).map(str::to_owned);
    answer(doors, names.collect(), &ask).await
}

pub(super) async fn of_name(
    State(doors): State<Doors>,
    name: Result<Path<String>, PathRejection>,
    ask: Result<Query<Ask>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(bad_path)?;
    let Query(ask) = ask.map_err(|err| bad_query(&err))?;
    if ask.names.is_some() {
        return Err(ApiError::BadRequest { message: "names is for /api/v1/stats; the path names one here".into() });
    }
    answer(doors, vec![name], &ask).await
}

pub(super) async fn top(
    State(doors): State<Doors>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Vec<Process>>, ApiError> {
    let Path(name) = name.map_err(bad_path)?;
    let ids = meant(&doors.now(), &[name])?;
    Ok(Json(doors.numbers.processes(ids).await))
}

async fn answer(doors: Doors, names: Vec<String>, ask: &Ask) -> Result<Response, ApiError> {
    // Asked once before the first record, so that a wrong name is an error and no empty stream.
    let ids = meant(&doors.now(), &names)?;
    if !ask.stream {
        if ask.interval.is_some() {
            return Err(ApiError::BadRequest { message: "interval is for stream=true".into() });
        }
        let containers = doors.numbers.usage(ids).await;
        return Ok(Json(Usage { at: clock().into(), containers }).into_response());
    }
    let mut ticks = interval(ask.interval.as_deref().map_or(Ok(Duration::from_secs(1)), pause)?);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let looks = Looks { doors, names, ticks, before: BTreeMap::new() };
    let body = Body::from_stream(unfold(looks, Looks::next));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// Not so often that reading is all that the daemon does.
fn pause(text: &str) -> Result<Duration, ApiError> {
    let seconds = text.parse::<u64>().ok().map(Duration::from_secs);
    let worded = || text.parse::<SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
    let range = Duration::from_millis(100)..=Duration::from_secs(3600);
    seconds.or_else(worded).filter(|pause| range.contains(pause)).ok_or_else(|| ApiError::BadRequest {
        message: format!(
            "interval={:?}: write 2, 500ms or 1m; from 100ms to 1h",
            text.chars().take(40).collect::<String>()
        ),
    })
}

/// The containers that names mean, or all that run.
fn meant(view: &View, names: &[String]) -> Result<Vec<ContainerId>, ApiError> {
    if names.is_empty() {
        let running = find::containers(view).filter(|c| matches!(c.state, ContainerStateView::Running { .. }));
        return Ok(running.map(|c| c.id.clone()).collect());
    }
    let mut ids: Vec<ContainerId> = Vec::new();
    for name in names {
        for container in find::outputs(view, name)? {
            if !ids.contains(&container.id) {
                ids.push(container.id.clone());
            }
        }
    }
    Ok(ids)
}

/// One reader of a stream. It reads no faster than the reader does.
struct Looks {
    doors: Doors,
    names: Vec<String>,
    ticks: Interval,
    /// Uptime and CPU time in the last record.
    before: BTreeMap<String, (u64, u64)>,
}

impl Looks {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        self.ticks.tick().await;
        // A name that means nothing any more: all of it is gone, and that is the end.
        let ids = meant(&self.doors.now(), &self.names).ok()?;
        let mut containers = self.doors.numbers.usage(ids).await;
        let mut now = BTreeMap::new();
        for one in &mut containers {
            let Some(cpu) = &mut one.cpu else { continue };
            let before = self.before.get(&one.id).copied();
            cpu.percent = before.and_then(|before| percent(before, (one.uptime_us, cpu.usage_ns)));
            now.insert(one.id.clone(), (one.uptime_us, cpu.usage_ns));
        }
        self.before = now;
        let line = serde_json::to_vec(&Usage { at: clock().into(), containers }).map_err(io::Error::from);
        let line = line.map(|mut line| {
            line.push(b'\n');
            line.into()
        });
        Some((line, self))
    }
}

/// Per cent of one processor, between two looks; none where it was started again in between.
fn percent((before_us, before_ns): (u64, u64), (now_us, now_ns): (u64, u64)) -> Option<f64> {
    let time_us = now_us.checked_sub(before_us).filter(|time| *time > 0)?;
    let used_ns = now_ns.checked_sub(before_ns)?;
    Some(super::metrics::wide(used_ns) / super::metrics::wide(time_us) / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_one_processor() {
        assert_eq!(percent((1_000_000, 0), (2_000_000, 250_000_000)), Some(25.0));
        assert_eq!(percent((1_000_000, 0), (1_500_000, 1_000_000_000)), Some(200.0));
        assert_eq!(percent((5, 5), (5, 5)), None);
        assert_eq!(percent((9, 5), (5, 5)), None);
        assert_eq!(percent((5, 9), (6, 5)), None);
    }

    #[test]
    fn intervals_are_bounded() {
        let ms = |text| pause(text).map(|p| p.as_millis()).ok();
        assert_eq!(
            ["1", "500ms", "1m30s", "0", "99ms", "2h", "soon"].map(ms),
            [Some(1000), Some(500), Some(90_000), None, None, None, None]
        );
    }
}
