//! The least of an HTTP client on a unix socket.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// The answer to a GET: its status and its body as JSON (null where it is none).
pub(crate) fn get(socket: &Path, path: &str) -> io::Result<(u16, Value)> {
    text(socket, path).map(|(status, body)| (status, serde_json::from_str(&body).unwrap_or(Value::Null)))
}

/// The answer to a GET: its status and its body.
pub(crate) fn text(socket: &Path, path: &str) -> io::Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: longshore\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}
