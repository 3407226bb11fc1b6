//! `GET /api/v1/images/save`

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};

use super::ask::{self, Pairs};
use crate::api::Doors;
use crate::api::error::ApiError;
use crate::api::wire::{ArchiveForm, SaveAsk};

/// More images than this do not fit into one question's header anyway.
const MOST: usize = 256;

/// The archive as it is made: what the client does not take is not made yet. One that ends early is cut, so that it cannot
/// be taken for a whole one.
pub(in crate::api) async fn save(State(doors): State<Doors>, query: Pairs) -> Result<Response, ApiError> {
    let archive = doors.images.save(read(query)?).await?;
    Ok(([(CONTENT_TYPE, "application/x-tar")], Body::from_stream(archive)).into_response())
}

fn read(query: Pairs) -> Result<SaveAsk, ApiError> {
    let mut asked = SaveAsk { names: Vec::new(), format: ArchiveForm::default() };
    ask::pairs(query, |key, value| {
        match key {
            "name" => asked.names.push(value),
            "format" => asked.format = format(&value)?,
            key => return Err(ask::unknown(key)),
        }
        Ok(())
    })?;
    match asked.names.len() {
        0 => Err(ask::missing("the name of at least one image")),
        1..=MOST => Ok(asked),
        many => Err(ApiError::BadRequest { message: format!("{many} images are more than {MOST} for one archive") }),
    }
}

fn format(text: &str) -> Result<ArchiveForm, ApiError> {
    match text {
        "docker-archive" => Ok(ArchiveForm::DockerArchive),
        "oci-archive" => Ok(ArchiveForm::OciArchive),
        _ => Err(ApiError::BadRequest { message: "format is docker-archive or oci-archive".to_owned() }),
    }
}
