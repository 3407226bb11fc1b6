//! `GET /api/v1/containers/{name}/logs` and `GET /api/v1/services/{project}/{service}/logs`

use std::io;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream::StreamExt as _;
use serde::{Deserialize, Serialize};

use super::containers::bad_path;
use super::error::ApiError;
use super::feed::clock;
use super::merge::{Named, merge};
use super::status::bad_query;
use super::wire::parse_since;
use super::{Doors, LogRequest, LogStream, find};
use crate::model::{ProjectName, ServiceName};
use crate::reconcile::view::View;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ask {
    /// Go on with what is written later.
    follow: bool,
    /// A time, or how long ago.
    since: Option<String>,
    /// Only so many lines from the end.
    tail: Option<usize>,
    /// Of the container that was there before the present one.
    previous: bool,
    /// How the lines are written.
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// One JSON record per line.
    #[default]
    Ndjson,
    /// The bytes as the container wrote them.
    Raw,
}

pub(super) async fn of_name(
    State(doors): State<Doors>,
    name: Result<Path<String>, PathRejection>,
    ask: Result<Query<Ask>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(bad_path)?;
    let Query(ask) = ask.map_err(|err| bad_query(&err))?;
    answer(&doors, &name, &ask)
}

pub(super) async fn of_service(
    State(doors): State<Doors>,
    names: Result<Path<(String, String)>, PathRejection>,
    ask: Result<Query<Ask>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Path((project, service)) = names.map_err(bad_path)?;
    let Query(ask) = ask.map_err(|err| bad_query(&err))?;
    answer(&doors, &format!("{project}/{service}"), &ask)
}

fn answer(doors: &Doors, name: &str, ask: &Ask) -> Result<Response, ApiError> {
    let since = ask.since.as_deref().map(|s| parse_since(s, clock())).transpose();
    let since = since.map_err(|err| ApiError::BadRequest { message: err.to_string() })?;
    let request = LogRequest { follow: ask.follow, since, tail: ask.tail };
    let view = doors.now();
    let sources = match ask.previous {
        true if ask.follow => {
            let message = "what a container said that is gone cannot be followed".to_owned();
            return Err(ApiError::BadRequest { message });
        }
        true => previous(doors, &view, name, request)?,
        false => {
            let found = find::outputs(&view, name)?;
            found.into_iter().map(|c| (c.name.to_string(), doors.logs.open(&c.id, request))).collect()
        }
    };
    let lines = merge(sources, ask.follow);
    let (kind, body) = match ask.format {
        Format::Ndjson => ("application/x-ndjson", Body::from_stream(lines.map(record))),
        Format::Raw => ("application/octet-stream", Body::from_stream(lines.map(raw))),
    };
    Ok(([(CONTENT_TYPE, kind)], body).into_response())
}

/// Of one container's place, or of all places of a service; of one that is gone by its full name.
fn previous(doors: &Doors, view: &View, name: &str, request: LogRequest) -> Result<Vec<(String, LogStream)>, ApiError> {
    let all = match find::place(view, name) {
        Ok((project, service, number)) => doors.logs.previous(&project, &service, number, request),
        Err(error) => match name.split_once('/').map(|(p, s)| (ProjectName::parse(p), ServiceName::parse(s))) {
            Some((Ok(project), Ok(service))) => {
                let gone = doors.logs.previous(project.as_str(), service.as_str(), None, request);
                if gone.is_empty() {
                    return Err(error);
                }
                gone
            }
            Some(_) | None => return Err(error),
        },
    };
    if all.is_empty() {
        let message = format!("nothing is kept of what a container of {name:?} said before the present one");
        return Err(ApiError::NoFile { message });
    }
    Ok(all)
}

/// A failure in the middle is a line of its own: the status code has long been sent.
fn record(line: io::Result<Named>) -> io::Result<Bytes> {
    match line {
        Ok((name, line)) => json_line(&line.record(&name)),
        Err(err) => {
            json_line(&ApiError::Unavailable { message: format!("the log cannot be read further: {err}") }.body())
        }
    }
}

fn raw(line: io::Result<Named>) -> io::Result<Bytes> {
    let (_, line) = line?;
    let mut bytes = line.bytes;
    if !line.partial && !line.unterminated {
        bytes.push(b'\n');
    }
    Ok(bytes.into())
}

fn json_line(value: &impl Serialize) -> io::Result<Bytes> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line.into())
}
