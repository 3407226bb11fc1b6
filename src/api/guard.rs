//! Who may ask, and how much.
//!
//! The unix socket's mode says who may connect. A loopback port can be reached by every program and every web page on the
//! machine: a page whose name was made to point to 127.0.0.1 (DNS rebinding) shows itself by its `Host`, any other page by
//! its `Origin`; both are refused.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, HOST, HeaderName, ORIGIN};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt as _};
use http_body_util::Limited;
use tokio::time::timeout;

use super::Limits;
use super::error::ApiError;
use super::router::streamed;

/// Refuses a body that says it is too large, and cuts one that turns out to be. A body that is a stream may be of any size,
/// but has to go on.
pub(super) async fn body(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    if streamed(request.uri().path()) {
        return next.run(request.map(|body| Body::from_stream(going_on(body, limits.upload_time)))).await;
    }
    let limit = limits.body;
    let said = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|said| said > limit) {
        return ApiError::TooLarge { limit }.into_response();
    }
    let bound = usize::try_from(limit).unwrap_or(usize::MAX);
    next.run(request.map(|body| Body::new(Limited::new(body, bound)))).await
}

/// The body, until nothing of it comes for `patience` while somebody waits for it.
fn going_on(body: Body, patience: Duration) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(Some(body.into_data_stream()), move |body| async move {
        let mut body = body?;
        match timeout(patience, body.next()).await {
            Ok(frame) => Some((frame?.map_err(io::Error::other), Some(body))),
            Err(_) => {
                let message = format!("nothing of the archive came for {} s", patience.as_secs());
                Some((Err(io::Error::new(io::ErrorKind::TimedOut, message)), None))
            }
        }
    })
}

/// Refuses what does not come from this machine's own programs.
pub(super) async fn loopback(State(port): State<u16>, request: Request, next: Next) -> Response {
    match check(&request, port) {
        Ok(()) => next.run(request).await,
        Err(err) => err.into_response(),
    }
}

fn check(request: &Request, port: u16) -> Result<(), ApiError> {
    let host = text(request, &HOST);
    if !host.is_some_and(|h| is_loopback(h, port)) {
        return Err(ApiError::ForeignHost { host: host.unwrap_or_default().chars().take(256).collect() });
    }
    match text(request, &ORIGIN) {
        None => Ok(()),
        Some(origin) if origin.strip_prefix("http://").is_some_and(|h| is_loopback(h, port)) => Ok(()),
        Some(origin) => Err(ApiError::ForeignOrigin { origin: origin.chars().take(256).collect() }),
    }
}

fn text<'r>(request: &'r Request, name: &HeaderName) -> Option<&'r str> {
    // Two of them, or bytes that are no text, are as foreign as a wrong one.
    let mut all = request.headers().get_all(name).iter();
    let first = all.next()?.to_str().unwrap_or("?");
    Some(if all.next().is_none() { first } else { "?" })
}

/// Whether `host` is a loopback name or address with this port (which may be left out where it is 80).
fn is_loopback(host: &str, port: u16) -> bool {
    let (name, given) = match host.rsplit_once(':') {
        Some((name, given)) if !given.ends_with(']') => (name, given.parse().ok()),
        _ => (host, Some(80)),
    };
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    let address = match bare {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok_and(|a| a.is_loopback()),
        None => name.parse::<std::net::Ipv4Addr>().is_ok_and(|a| a.is_loopback()),
    };
    given == Some(port) && (address || name.eq_ignore_ascii_case("localhost"))
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_loopback_with_the_right_port() {
        for good in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST:8080", "[::1]:8080", "127.8.9.1:8080"] {
            assert!(is_loopback(good, 8080), "{good}");
        }
        assert!(is_loopback("localhost", 80) && is_loopback("[::1]", 80));
        for bad in [
            "",
            "127.0.0.1",
            "127.0.0.1:80",
            "evil.example:8080",
            "127.0.0.1.evil.example:8080",
            "localhost.evil.example:8080",
            "[::1]",
            "::1:8080",
            "10.0.0.1:8080",
            "localhost:8080:8080",
            "evil@localhost:8080",
        ] {
            assert!(!is_loopback(bad, 8080), "{bad}");
        }
    }
}
