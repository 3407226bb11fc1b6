//! Connections and their limits.
//!
//! ```text
//! accept ─▶ room? ── yes ─▶ the router, until the client leaves, stalls, or the daemon stops
//!             │ no
//!             └─▶ a spare place? ── yes ─▶ 503 and goodbye
//!                    │ no
//!                    └─▶ the kernel's queue waits
//! ```
//!
//! A slow client costs a place for a bounded time only: for its header (`header_time`, which also bounds an idle
//! connection), and for taking what was written (`write_time`).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::error::ApiError;
use super::guard;
use super::stall::Stall;

/// How much one door takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's line and headers.
    pub header: usize,
    /// How long a client may take for them, and how long a connection may be idle.
    pub header_time: Duration,
    /// Bytes of a request's body.
    pub body: u64,
    /// How long a client may send nothing of a stream that is read from it.
    pub upload_time: Duration,
    /// How long a client may take nothing of what is written to it.
    pub write_time: Duration,
    /// Connections at the same time.
    pub connections: usize,
    /// How long open requests may go on once the daemon stops.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header: 16 * 1024,
            header_time: Duration::from_secs(10),
            body: 1024 * 1024,
            upload_time: Duration::from_secs(120),
            write_time: Duration::from_secs(30),
            connections: 256,
            grace: Duration::from_secs(2),
        }
    }
}

/// Connections beyond the limit that are told so at the same time; more than that wait in the kernel's queue.
const SPARE: usize = 16;

/// Serves a unix socket until `shutdown`; who may connect is said by the socket's mode.
pub async fn serve_unix(listener: UnixListener, router: Router, limits: Limits, shutdown: impl Future<Output = ()>) {
    serve(listener, router, limits, shutdown).await;
}

/// Serves a loopback port until `shutdown`. Fails at once for any other address: there is no password on this door.
pub async fn serve_tcp(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        let message = format!("{address} is not a loopback address");
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, message));
    }
    let guarded = router.layer(from_fn_with_state(address.port(), guard::loopback));
    serve(listener, guarded, limits, shutdown).await;
    Ok(())
}

async fn serve<L: Listener>(mut listener: L, router: Router, limits: Limits, shutdown: impl Future<Output = ()>) {
    let router = router.layer(from_fn_with_state(limits, guard::body));
    let places = Places::new(limits.connections);
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        // Cancelled by the shutdown only: a connection that was accepted and has no place yet is closed then.
        let next = async { (listener.accept().await.0, places.take().await) };
        tokio::select! {
            () = &mut shutdown => break,
            (io, place) = next => {
                let routes = if place.spare { Router::new().fallback(full) } else { router.clone() };
                let served = connection(io, routes, limits, stopping.clone());
                connections.spawn(async move { served.await; drop(place) });
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    stop.send_replace(true);
    let rest = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.grace, rest).await.is_err() {
        tracing::debug!("streams that were still open are cut");
    }
}

async fn full() -> ([(axum::http::HeaderName, &'static str); 1], ApiError) {
    let message = "too many connections are open".to_owned();
    ([(axum::http::header::CONNECTION, "close")], ApiError::Unavailable { message })
}

async fn connection<I>(io: I, router: Router, limits: Limits, mut stopping: watch::Receiver<bool>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    // hyper refuses buffers below 8 KiB; the header's own limit is what counts.
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_header_size(limits.header)
        .max_buf_size(limits.header.max(8 * 1024));
    let io = TokioIo::new(Stall::new(io, limits.write_time));
    let mut served = pin!(http.serve_connection(io, TowerToHyperService::new(router)).with_upgrades());
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stopped(&mut stopping) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(err) = ended {
        tracing::debug!(%err, "a connection ended early");
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // The sender outlives all connections, so the value comes.
    let _ = stopping.wait_for(|stop| *stop).await.map(drop);
}

/// Room for connections.
struct Places {
    room: Arc<Semaphore>,
    spare: Arc<Semaphore>,
}

/// One connection's place; free again when it is dropped.
struct Place {
    spare: bool,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    fn new(room: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(room)), spare: Arc::new(Semaphore::new(SPARE)) }
    }

    async fn take(&self) -> Place {
        let (permit, spare) = tokio::select! {
            biased;
            permit = self.room.clone().acquire_owned() => (permit, false),
            permit = self.spare.clone().acquire_owned() => (permit, true),
        };
        Place { spare, _permit: permit.expect("nobody closes these semaphores") }
    }
}
