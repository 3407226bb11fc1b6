//! What takes its time: archives and copies.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use super::look::Name;
use crate::api::Doors;
use crate::api::containers::bad_path;
use crate::api::error::ApiError;
use crate::api::images::{Upload, json, lines};
use crate::api::status::bad_query;
use crate::api::wire::{RestoreAsk, SnapshotAsk};

/// The archive as it is made. One that ends early is cut, so that it cannot be taken for a whole one.
pub(in crate::api) async fn export(State(doors): State<Doors>, name: Name) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(bad_path)?;
    let archive = doors.volumes.export(name).await?;
    Ok(([(CONTENT_TYPE, "application/x-tar")], Body::from_stream(archive)).into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::api) struct Import {
    /// What the volume holds is given up.
    replace: bool,
}

pub(in crate::api) async fn import(
    State(doors): State<Doors>,
    name: Name,
    ask: Result<Query<Import>, QueryRejection>,
    body: Body,
) -> Result<Response, ApiError> {
    let (Path(name), Query(ask)) = (name.map_err(bad_path)?, ask.map_err(|err| bad_query(&err))?);
    let upload = Upload::new(body);
    Ok(lines(doors.volumes.import(name, ask.replace, upload.stream())?, Some(upload)))
}

pub(in crate::api) async fn snapshot(
    State(doors): State<Doors>,
    name: Name,
    body: Result<Json<SnapshotAsk>, JsonRejection>,
) -> Result<Response, ApiError> {
    let (Path(name), ask) = (name.map_err(bad_path)?, json(body)?);
    Ok(lines(doors.volumes.snapshot(name, ask.name)?, None))
}

pub(in crate::api) async fn restore(
    State(doors): State<Doors>,
    name: Name,
    body: Result<Json<RestoreAsk>, JsonRejection>,
) -> Result<Response, ApiError> {
    let (Path(name), ask) = (name.map_err(bad_path)?, json(body)?);
    Ok(lines(doors.volumes.restore(name, ask.snapshot)?, None))
}
