//! HTTP over the daemon's unix socket: one connection per request, every wait bounded.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, TE, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::failure::Failure;
use crate::api::FAULT;
use crate::api::wire::ErrorBody;
use crate::api::wire::frame::PROTOCOL;

const DEFAULT_SOCKET: &str = "/run/longshore/longshore.sock";
/// The local daemon answers at once, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);
/// No answer is larger; a stream is bounded by the line instead.
const LARGEST: usize = 256 * 1024 * 1024;
const LONGEST_LINE: usize = 16 * 1024 * 1024;

/// A daemon that works on something long says so every few seconds.
const SILENCE: Duration = Duration::from_secs(60);

/// A connection that speaks frames.
pub(super) type Connection = TokioIo<Upgraded>;

/// The body of a request.
struct Outgoing {
    kind: Option<HeaderValue>,
    frames: bool,
    bytes: UnsyncBoxBody<Bytes, io::Error>,
}

impl Outgoing {
    fn nothing() -> Self {
        Self { kind: None, frames: false, bytes: Empty::new().map_err(|never| match never {}).boxed_unsync() }
    }
    fn json(value: &impl Serialize) -> Result<Self, Failure> {
        let bytes = serde_json::to_vec(value).map_err(|err| Failure::Output(err.into()))?;
        let bytes = Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync();
        Ok(Self { kind: Some(HeaderValue::from_static("application/json")), frames: false, bytes })
    }
    fn stream(bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        let bytes = StreamBody::new(bytes.map(|bytes| bytes.map(Frame::data))).boxed_unsync();
        Self { kind: Some(HeaderValue::from_static("application/x-tar")), frames: false, bytes }
    }
}

/// The way to one daemon.
#[derive(Debug, Clone)]
pub(super) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(super) fn new(socket: Option<PathBuf>) -> Self {
        Self { socket: socket.unwrap_or_else(|| DEFAULT_SOCKET.into()) }
    }

    /// Asks, and reads the whole answer.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.whole(self.ask(Method::GET, path, Outgoing::nothing(), PATIENCE).await?).await
    }

    /// Asks for something that the daemon may answer only after `wait`.
    pub(super) async fn get_within<T: DeserializeOwned>(&self, path: &str, wait: Duration) -> Result<T, Failure> {
        self.whole(self.ask(Method::GET, path, Outgoing::nothing(), wait + PATIENCE).await?).await
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.whole(self.ask(Method::POST, path, Outgoing::nothing(), PATIENCE).await?).await
    }

    /// Tells, and waits for what becomes of it, `wait` at most.
    pub(super) async fn tell<T: DeserializeOwned>(
        &self,
        path: &str,
        what: &impl Serialize,
        wait: Duration,
    ) -> Result<T, Failure> {
        self.whole(self.ask(Method::POST, path, Outgoing::json(what)?, wait).await?).await
    }

    /// Tells, and goes on with frames on the same connection.
    pub(super) async fn upgrade(
        &self,
        path: &str,
        what: &impl Serialize,
        wait: Duration,
    ) -> Result<Connection, Failure> {
        let body = Outgoing { frames: true, ..Outgoing::json(what)? };
        let response = self.ask(Method::POST, path, body, wait).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.strange(format!("it answered {}", response.status())));
        }
        hyper::upgrade::on(response).await.map(TokioIo::new).map_err(|err| Failure::Broken { err })
    }

    /// Tells, and hands out the answer line by line.
    pub(super) async fn tell_lines(&self, path: &str, what: &impl Serialize) -> Result<Lines, Failure> {
        Ok(self.cut(self.ask(Method::POST, path, Outgoing::json(what)?, PATIENCE).await?))
    }

    /// Sends bytes as they come, and hands out the answer line by line.
    pub(super) async fn upload(
        &self,
        path: &str,
        bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Lines, Failure> {
        Ok(self.cut(self.ask(Method::POST, path, Outgoing::stream(bytes), PATIENCE).await?))
    }

    /// The same, to a place that takes it as its own.
    pub(super) async fn put_lines(
        &self,
        path: &str,
        bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Lines, Failure> {
        Ok(self.cut(self.ask(Method::PUT, path, Outgoing::stream(bytes), PATIENCE).await?))
    }

    /// Removes what is there, and waits for it, `wait` at most.
    pub(super) async fn delete<T: DeserializeOwned>(&self, path: &str, wait: Duration) -> Result<T, Failure> {
        self.whole(self.ask(Method::DELETE, path, Outgoing::nothing(), wait).await?).await
    }

    /// Asks, and hands out the answer piece by piece.
    pub(super) async fn download(&self, path: &str) -> Result<Pieces, Failure> {
        let response = self.ask(Method::GET, path, Outgoing::nothing(), SILENCE).await?;
        Ok(Pieces { body: response.into_body(), from: self.socket.clone() })
    }

    /// Sends an archive as it comes, and reads the whole answer, which may come before all was sent.
    pub(super) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<T, Failure> {
        let (enough, answered) = tokio::sync::oneshot::channel::<()>();
        let body = Outgoing::stream(bytes.take_until(answered));
        let response = self.send(Method::PUT, path, body).await?;
        drop(enough);
        self.whole(self.checked(response).await?).await
    }

    /// Asks, and hands out the answer line by line as it comes.
    pub(super) async fn lines(&self, path: &str) -> Result<Lines, Failure> {
        let response = self.ask(Method::GET, path, Outgoing::nothing(), PATIENCE).await?;
        Ok(self.cut(response))
    }

    fn cut(&self, response: Response<Incoming>) -> Lines {
        Lines { body: response.into_body(), buffer: Vec::new(), from: self.socket.clone() }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Outgoing,
        wait: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        let silent = |_| Failure::Silent { path: self.socket.clone(), seconds: wait.as_secs() };
        self.checked(timeout(wait, self.send(method, path, body)).await.map_err(silent)??).await
    }

    async fn checked(&self, response: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
        if response.status().is_success() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let status = response.status();
        let body = self.bytes(response).await?;
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => Err(Failure::Refused { facts: body.error }),
            Err(_) => Err(self.strange(format!("it answered {status}"))),
        }
    }

    async fn send(&self, method: Method, path: &str, body: Outgoing) -> Result<Response<Incoming>, Failure> {
        let broken = |err| Failure::Broken { err };
        let stream = UnixStream::connect(&self.socket).await.map_err(|err| self.unreachable(err))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with the connection; what goes wrong on it is seen by the one who reads the answer.
        tokio::spawn(connection.with_upgrades());
        let request = Request::builder().method(method).uri(path).header(HOST, "longshore").header(TE, "trailers");
        let request = request.body(body.bytes);
        let mut request = request.map_err(|err| self.strange(err.to_string()))?;
        request.headers_mut().extend(body.kind.map(|kind| (CONTENT_TYPE, kind)));
        if body.frames {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            request.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
        }
        sender.send_request(request).await.map_err(broken)
    }

    async fn whole<T: DeserializeOwned>(&self, response: Response<Incoming>) -> Result<T, Failure> {
        let body = self.bytes(response).await?;
        serde_json::from_slice(&body).map_err(|err| self.strange(err.to_string()))
    }

    async fn bytes(&self, response: Response<Incoming>) -> Result<Bytes, Failure> {
        let read = timeout(PATIENCE, Limited::new(response.into_body(), LARGEST).collect()).await;
        let silent = |_| Failure::Silent { path: self.socket.clone(), seconds: PATIENCE.as_secs() };
        Ok(read.map_err(silent)?.map_err(|err| self.strange(err.to_string()))?.to_bytes())
    }

    fn strange(&self, why: String) -> Failure {
        Failure::Strange { path: self.socket.clone(), why }
    }

    fn unreachable(&self, err: io::Error) -> Failure {
        let path = self.socket.clone();
        match err.kind() {
            io::ErrorKind::NotFound => Failure::NoDaemon { path },
            io::ErrorKind::ConnectionRefused => Failure::NobodyListens { path },
            io::ErrorKind::PermissionDenied => Failure::NotAllowed { who: who_may(&path), path },
            _ => Failure::Connect { path, err },
        }
    }
}

/// To whom a socket is open, and how to become one of them.
fn who_may(path: &Path) -> String {
    let group = std::fs::metadata(path).map(|m| nix::unistd::Gid::from_raw(m.gid()));
    match group.map(|gid| (gid.as_raw(), nix::unistd::Group::from_gid(gid))) {
        Ok((0, _)) | Err(_) => "root only; use sudo".to_owned(),
        Ok((_, Ok(Some(group)))) => {
            format!(
                "the group {0:?}; join it with `sudo usermod -aG {0} \"$USER\"` and log in again, or use sudo",
                group.name
            )
        }
        Ok((gid, _)) => format!("the group with number {gid}; use sudo"),
    }
}

/// An answer that comes line by line.
pub(super) struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
    from: PathBuf,
}

impl Lines {
    /// The next line without its end; none when the daemon has no more.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.buffer[searched..].iter().position(|b| *b == b'\n') {
                let rest = self.buffer.split_off(searched + end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                return Ok(Some(line));
            }
            searched = self.buffer.len();
            if searched > LONGEST_LINE {
                return Err(Failure::Strange { path: self.from.clone(), why: "a line has no end".to_owned() });
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.buffer.extend_from_slice(frame.data_ref().map_or(&[], |d| d)),
                Some(Err(err)) => return Err(Failure::Broken { err }),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Ok(Some(std::mem::take(&mut self.buffer))),
            }
        }
    }
}

/// An answer that comes in pieces.
pub(super) struct Pieces {
    body: Incoming,
    from: PathBuf,
}

impl Pieces {
    /// The next piece; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let silent = |_| Failure::Silent { path: self.from.clone(), seconds: SILENCE.as_secs() };
            match timeout(SILENCE, self.body.frame()).await.map_err(silent)? {
                Some(frame) => match frame.map_err(|err| Failure::Broken { err })?.into_data() {
                    Ok(bytes) => return Ok(Some(bytes)),
                    Err(frame) => said(frame.trailers_ref())?,
                },
                None => return Ok(None),
            }
        }
    }
}

/// An answer that breaks off says why in a trailer.
fn said(trailers: Option<&HeaderMap>) -> Result<(), Failure> {
    match trailers.and_then(|trailers| trailers.get(FAULT)) {
        Some(fault) => Err(Failure::Said(plain(fault.as_bytes()))),
        None => Ok(()),
    }
}

/// Percent escapes read again.
fn plain(text: &[u8]) -> String {
    let (mut bytes, mut at) = (Vec::with_capacity(text.len()), 0);
    while let Some(byte) = text.get(at) {
        let digits = text.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| *byte == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(meant) => (bytes.push(meant), at += 3),
            None => (bytes.push(*byte), at += 1),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A name as one part of a path or as a value of a query.
pub(super) fn percent(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
