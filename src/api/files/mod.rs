//! Files of containers: archives out and in, and what is not as in the image.
//!
//! ```text
//! GET …/archive ─▶ which container ─▶ the path is there ─▶ 200, a tar          PUT …/archive: a tar ─▶ what was unpacked
//! GET …/export  ─▶ the whole root                                             GET …/changes
//! ```

mod door;
mod stream;

use std::io;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{self as streams, StreamExt as _};
use serde::Deserialize;
use tokio::time::timeout;

use super::containers::bad_path;
use super::error::ApiError;
use super::images::Upload;
use super::openapi::{Answer, Ask, Operation, get, of};
use super::status::bad_query;
use super::wire::{Copied, FileChange};
use super::{Doors, find};
use crate::reconcile::view::ContainerView;
pub use door::{FileAnswer, FileDoor, FileRefusal, ReadFiles, WriteFiles, WrittenFiles};
pub use stream::FAULT;

/// A client that still sends when the answer is known has this long to notice.
const LINGER: Duration = Duration::from_secs(5);
/// The kernel takes no longer paths.
const LONGEST: usize = 4095;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadAsk {
    path: String,
    #[serde(default)]
    follow: bool,
    index: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WriteAsk {
    path: String,
    #[serde(default)]
    place: bool,
    #[serde(default)]
    owners: bool,
    index: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    index: Option<u32>,
}

type Name = Result<Path<String>, PathRejection>;

pub(super) async fn read(
    State(doors): State<Doors>,
    name: Name,
    query: Result<Query<ReadAsk>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Query(ReadAsk { path, follow, index }) = query.map_err(|err| bad_query(&err))?;
    let container = container(&doors, name, index)?;
    let what = ReadFiles::Path { path: checked(path)?, follow };
    packed(&doors, &container, what, &headers).await
}

pub(super) async fn export(
    State(doors): State<Doors>,
    name: Name,
    query: Result<Query<Which>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Query(Which { index }) = query.map_err(|err| bad_query(&err))?;
    let container = container(&doors, name, index)?;
    packed(&doors, &container, ReadFiles::Root, &headers).await
}

async fn packed(
    doors: &Doors,
    container: &ContainerView,
    what: ReadFiles,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let archive = doors.files.read(&container.id, what).await;
    Ok(stream::answer(archive.map_err(|refusal| refusal.of(container.name.as_str()))?, headers))
}

pub(super) async fn write(
    State(doors): State<Doors>,
    name: Name,
    query: Result<Query<WriteAsk>, QueryRejection>,
    body: Body,
) -> Response {
    let upload = Upload::new(body);
    match unpacked(&doors, name, query, &upload).await {
        Ok(copied) => Json(copied).into_response(),
        Err(error) => refusal(&error, upload),
    }
}

async fn unpacked(
    doors: &Doors,
    name: Name,
    query: Result<Query<WriteAsk>, QueryRejection>,
    upload: &Upload,
) -> Result<Copied, ApiError> {
    let Query(WriteAsk { path, place, owners, index }) = query.map_err(|err| bad_query(&err))?;
    let container = container(doors, name, index)?;
    let how = WriteFiles { path: checked(path)?, place, owners };
    let done = doors.files.write(&container.id, how, upload.stream()).await;
    let WrittenFiles { files, bytes } = done.map_err(|refusal| refusal.of(container.name.as_str()))?;
    Ok(Copied { container: container.name.to_string(), files, bytes })
}

/// The answer at once, and its end when the client has stopped sending: closing earlier would take the answer away from it.
fn refusal(error: &ApiError, upload: Upload) -> Response {
    let status = error.clone().into_response().status();
    let body = serde_json::to_vec(&error.body()).unwrap_or_default();
    let first = streams::once(async { Ok::<_, io::Error>(Bytes::from(body)) });
    let rest = streams::once(async move {
        let mut left = upload.stream();
        let _ = timeout(LINGER, async { while matches!(left.next().await, Some(Ok(_))) {} }).await;
        Ok(Bytes::new())
    });
    (status, [(CONTENT_TYPE, "application/json")], Body::from_stream(first.chain(rest))).into_response()
}

pub(super) async fn changes(
    State(doors): State<Doors>,
    name: Name,
    query: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Vec<FileChange>>, ApiError> {
    let Query(Which { index }) = query.map_err(|err| bad_query(&err))?;
    let container = container(&doors, name, index)?;
    let changes = doors.files.changes(&container.id).await;
    changes.map(Json).map_err(|refusal| refusal.of(container.name.as_str()))
}

fn container(doors: &Doors, name: Name, index: Option<u32>) -> Result<ContainerView, ApiError> {
    let Path(name) = name.map_err(bad_path)?;
    find::replica(&doors.now(), &name, index).cloned()
}

fn checked(path: String) -> Result<String, ApiError> {
    if path.contains('\0') || path.len() > LONGEST || path.is_empty() {
        return Err(ApiError::BadRequest {
            message: "the path is empty, longer than 4095 bytes, or holds a NUL".to_owned(),
        });
    }
    // All of a container's paths begin at its root.
    Ok(if path.starts_with('/') { path } else { format!("/{path}") })
}

const INDEX: (&str, &str) = ("index", "which replica of a service; where left out, the first one that runs");

pub(super) fn operations() -> Vec<Operation> {
    let tar = "application/x-tar";
    vec![
        get(
            "/api/v1/containers/{name}/archive",
            "A file or a folder of a container, running or not, as a tar whose root is called as the path ends (`.` where it ends in \
             `/.`). One that breaks off is cut; with `TE: trailers` the trailer `longshore-error` says why",
            &[("path", "in the container"), ("follow", "true: a link at its end is followed"), INDEX],
            Answer::Text(tar),
        ),
        Operation {
            path: "/api/v1/containers/{name}/archive",
            method: "put",
            summary: "Unpacks a tar, not compressed and of any size, in a container, running or not. What was unpacked before something fails stays",
            query: &[
                ("path", "a folder of the container; with place, any path"),
                ("place", "true: the tar has one root, which is placed as `docker cp` does"),
                ("owners", "true: owners, set-user-id bits and attributes as in the tar; else all belongs to root"),
                INDEX,
            ],
            ask: Ask::Bytes(tar),
            answer: Answer::Json(of::<Copied>),
        },
        get(
            "/api/v1/containers/{name}/export",
            "The root of a container, running or not, as a tar, without what is mounted in it",
            &[INDEX],
            Answer::Text(tar),
        ),
        get(
            "/api/v1/containers/{name}/changes",
            "What in a container's root is not as in its image, by path",
            &[INDEX],
            Answer::Json(of::<Vec<FileChange>>),
        ),
    ]
}
