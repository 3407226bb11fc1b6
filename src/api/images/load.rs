//! `POST /api/v1/images/load` and `POST /api/v1/images/import`: the body is the archive, of any size.

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;

use super::ask::{self, Pairs};
use super::job::{self, Upload};
use crate::api::Doors;
use crate::api::error::ApiError;
use crate::api::status::bad_query;
use crate::api::wire::{ImportAsk, LoadAsk};

pub(in crate::api) async fn load(
    State(doors): State<Doors>,
    query: Result<Query<LoadAsk>, QueryRejection>,
    body: Body,
) -> Result<Response, ApiError> {
    let Query(asked) = query.map_err(|err| bad_query(&err))?;
    let upload = Upload::new(body);
    Ok(job::lines(doors.images.load(asked, upload.stream())?, Some(upload)))
}

pub(in crate::api) async fn import(State(doors): State<Doors>, query: Pairs, body: Body) -> Result<Response, ApiError> {
    let asked = read(query)?;
    let upload = Upload::new(body);
    Ok(job::lines(doors.images.import(asked, upload.stream())?, Some(upload)))
}

fn read(query: Pairs) -> Result<ImportAsk, ApiError> {
    let mut asked = ImportAsk { name: String::new(), changes: Vec::new(), message: None, platform: None };
    ask::pairs(query, |key, value| {
        match key {
            "name" => asked.name = value,
            "change" => asked.changes.push(value),
            "message" => asked.message = Some(value),
            "platform" => asked.platform = Some(value),
            key => return Err(ask::unknown(key)),
        }
        Ok(())
    })?;
    if asked.name.is_empty() { Err(ask::missing("the image's name")) } else { Ok(asked) }
}
