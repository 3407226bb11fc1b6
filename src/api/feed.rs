//! `GET /api/v1/events`: what happens, as server-sent events.
//!
//! An id is `<start of the daemon>-<number>`, so that a client that comes back to a restarted daemon gets everything anew
//! instead of waiting for numbers that were used before. A client that falls behind is told so and dropped; it comes back
//! with its last id.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{self, KeepAlive};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::error::ApiError;
use super::events::Subscription;
use super::status::bad_query;
use super::wire::{self, parse_since};
use super::{Doors, Replay};
use crate::model::Timestamp;
use crate::reconcile::view::Event;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    /// An id, a time, how long ago, or `0` for all that is kept. A `Last-Event-ID` header comes first.
    since: Option<String>,
}

pub(super) async fn listen(
    State(doors): State<Doors>,
    ask: Result<Query<Ask>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, ApiError> {
    let Query(ask) = ask.map_err(|err| bad_query(&err))?;
    let last = headers.get("last-event-id").and_then(|v| v.to_str().ok()).map(str::to_owned);
    let started = doors.release.started;
    let replay = match last.or(ask.since) {
        Some(from) => replay(&from, started)?,
        None => Replay::Nothing,
    };
    let feed = Feed::new(doors.events.subscribe(replay), started);
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15));
    Ok(Sse::new(stream::unfold(feed, Feed::next)).keep_alive(keep_alive))
}

fn replay(from: &str, started: Timestamp) -> Result<Replay, ApiError> {
    if from == "0" {
        return Ok(Replay::All);
    }
    if let Some((daemon, number)) = id(from) {
        return Ok(if daemon == started.millis() { Replay::After(number) } else { Replay::All });
    }
    parse_since(from, clock()).map(Replay::Since).map_err(|err| ApiError::BadRequest { message: err.to_string() })
}

fn id(text: &str) -> Option<(u64, u64)> {
    let (daemon, number) = text.split_once('-')?;
    Some((daemon.parse().ok()?, number.parse().ok()?))
}

/// This is an edge: a time that is given as "so long ago" needs the clock.
pub(super) fn clock() -> Timestamp {
    Timestamp(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0))
}

/// Where one listener is.
struct Feed {
    started: Timestamp,
    notices: VecDeque<sse::Event>,
    past: VecDeque<Arc<Event>>,
    live: Option<Receiver<Arc<Event>>>,
}

impl Feed {
    fn new(from: Subscription, started: Timestamp) -> Self {
        let notices = (from.lost > 0).then(|| notice("lost", from.lost)).into_iter().collect();
        Self { started, notices, past: from.past, live: Some(from.live) }
    }

    async fn next(mut self) -> Option<(Result<sse::Event, Infallible>, Self)> {
        if let Some(notice) = self.notices.pop_front() {
            return Some((Ok(notice), self));
        }
        if let Some(event) = self.past.pop_front() {
            return Some((Ok(message(&event, self.started)), self));
        }
        match self.live.as_mut()?.recv().await {
            Ok(event) => Some((Ok(message(&event, self.started)), self)),
            Err(RecvError::Lagged(count)) => {
                self.live = None;
                Some((Ok(notice("dropped", count)), self))
            }
            Err(RecvError::Closed) => None,
        }
    }
}

fn message(event: &Event, started: Timestamp) -> sse::Event {
    let wire = wire::Event::from(event);
    // Serialised by hand: every part is a string or a number, and `data` wants one line.
    let data = serde_json::to_string(&wire).unwrap_or_default();
    sse::Event::default().id(format!("{}-{}", started.millis(), event.sequence)).event(event.kind).data(data)
}

/// `lost`: events that were asked for are gone. `dropped`: the reader was too slow, and this is the end.
fn notice(kind: &str, count: u64) -> sse::Event {
    sse::Event::default().event(kind).data(json!({ "lost": count }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_another_daemon_replays_everything() {
        let started = Timestamp(1000);
        assert_eq!(replay("1000-7", started), Ok(Replay::After(7)));
        assert_eq!(replay("999-7", started), Ok(Replay::All));
        assert_eq!(replay("0", started), Ok(Replay::All));
        assert_eq!(replay("1700000000", started), Ok(Replay::Since(Timestamp(1_700_000_000_000))));
        assert!(replay("soon", started).is_err());
    }
}
