//! How questions are read.

use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::{JsonRejection, QueryRejection};

use crate::api::error::ApiError;
use crate::api::status::bad_query;

/// A body that is what it should be.
pub(in crate::api) fn json<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, ApiError> {
    body.map(|Json(ask)| ask).map_err(|err| ApiError::BadRequest { message: err.body_text() })
}

/// A query whose keys may stand more than once, as they come.
pub(super) type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// Sorts pairs into places; `take` gives back a key that it does not know.
pub(super) fn pairs(query: Pairs, mut take: impl FnMut(&str, String) -> Result<(), ApiError>) -> Result<(), ApiError> {
    let Query(pairs) = query.map_err(|err| bad_query(&err))?;
    pairs.into_iter().try_for_each(|(key, value)| take(&key, value))
}

pub(super) fn unknown(key: &str) -> ApiError {
    let key: String = key.chars().take(64).collect();
    ApiError::BadRequest { message: format!("there is no parameter {key:?}") }
}

pub(super) fn missing(what: &str) -> ApiError {
    ApiError::BadRequest { message: format!("the query must say {what}") }
}
