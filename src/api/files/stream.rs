//! An archive as an answer. One that breaks off says why to who understands trailers, and is cut for everybody else: it must not be
//! taken for a whole one.

use std::io;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_TYPE, HeaderValue, TE, TRAILER};
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{self, StreamExt as _};
use http_body_util::StreamBody;
use hyper::body::Frame;

use crate::api::ByteStream;

/// The trailer that says why an archive is not whole, percent-encoded.
pub const FAULT: &str = "longshore-error";
/// Characters of it.
const LONGEST: usize = 1000;

pub(super) fn answer(archive: ByteStream, asked: &HeaderMap) -> Response {
    let trailers = asked.get_all(TE).iter().any(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    let kind = [(CONTENT_TYPE, "application/x-tar")];
    if !trailers {
        return (kind, Body::from_stream(archive)).into_response();
    }
    let frames = stream::unfold(Some(archive), |archive| async {
        let mut archive = archive?;
        Some(match archive.next().await? {
            Ok(bytes) => (Ok::<_, io::Error>(Frame::<Bytes>::data(bytes)), Some(archive)),
            Err(error) => (Ok(Frame::trailers(fault(&error.to_string()))), None),
        })
    });
    (kind, [(TRAILER, FAULT)], Body::new(StreamBody::new(frames))).into_response()
}

fn fault(message: &str) -> HeaderMap {
    let short: String = message.chars().take(LONGEST).collect();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~ /:,;()'\"".contains(&b);
    let text: String =
        short.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect();
    let mut trailers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(text.trim()) {
        trailers.insert(HeaderName::from_static(FAULT), value);
    }
    trailers
}
