//! Commands in containers over a real socket: frames both ways, and back-pressure.

use std::time::Duration;

use longshore::api::Limits;
use longshore::api::wire::frame::{Frame, Frames, WINDOW};
use longshore::api::wire::{ExecExit, TerminalSize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use crate::served::{Logs, Served, serve, serve_with, within};

/// A connection that has become frames.
struct Speaker {
    connection: UnixStream,
    frames: Frames,
}

impl Speaker {
    async fn open(served: &Served, command: &str) -> Self {
        let mut connection = served.connect().await;
        connection
            .write_all(request("shop-web-2", &format!(r#"{{"command":["{command}"],"stdin":true}}"#)).as_bytes())
            .await
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within(connection.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101 ") && head.contains("upgrade: longshore-exec"), "{head}");
        Self { connection, frames: Frames::default() }
    }

    async fn send(&mut self, frame: Frame) {
        within(self.connection.write_all(&frame.encode())).await.unwrap();
    }

    /// None at the end.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.frames.take().unwrap() {
                return Some(frame);
            }
            let mut buffer = [0; 4096];
            let count = within(self.connection.read(&mut buffer)).await.unwrap();
            if count == 0 {
                return None;
            }
            self.frames.feed(&buffer[..count]);
        }
    }
}

fn request(name: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /api/v1/containers/{name}/exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: longshore-exec\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn streams_sizes_signals_and_the_end_go_through_frames() {
    let served = serve();
    let mut speaker = Speaker::open(&served, "cat").await;
    speaker.send(Frame::Size(TerminalSize { rows: 3, columns: 4 })).await;
    speaker.send(Frame::Signal(15)).await;
    let sent: Vec<u8> = (0..3 * WINDOW).map(|n| (n % 251) as u8).collect();
    let (mut out, mut err, mut window, mut at, mut exit) = (Vec::new(), Vec::new(), WINDOW, 0, None);
    while exit.is_none() {
        while at < sent.len() && window > 0 {
            let piece = (sent.len() - at).min(window).min(50_000);
            speaker.send(Frame::Stdin(sent[at..at + piece].to_vec())).await;
            (at, window) = (at + piece, window - piece);
            if at == sent.len() {
                speaker.send(Frame::StdinEnd).await;
            }
        }
        match speaker.next().await.expect("an exit first") {
            Frame::Stdout(bytes) => out.extend(bytes),
            Frame::Stderr(bytes) => err.extend(bytes),
            Frame::Taken(count) => window += count as usize,
            Frame::Exit(end) => exit = Some(end),
            other => panic!("{other:?}"),
        }
    }
    assert!(out == sent, "{} bytes", out.len());
    assert_eq!(String::from_utf8(err).unwrap(), "size 3 4\nsignal 15\n");
    assert_eq!(exit, Some(ExecExit { code: 7, signal: None, reason: None }));
    assert_eq!(speaker.next().await, None);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_waited_for_and_one_that_sends_too_much_is_not() {
    let limits = Limits { write_time: Duration::from_millis(50), ..Limits::default() };
    let served = serve_with(limits, Logs::default());
    let mut speaker = Speaker::open(&served, "stall").await;
    // Far longer than any other client may take nothing.
    sleep(Duration::from_millis(400)).await;
    let mut seen = 0;
    while seen < 2 << 20 {
        let Some(Frame::Stdout(bytes)) = speaker.next().await else { panic!("it was cut after {seen} bytes") };
        seen += bytes.len();
    }
    // A signal passes by input that nobody reads.
    for _ in 0..4 {
        speaker.send(Frame::Stdin(vec![0; WINDOW / 4])).await;
    }
    speaker.send(Frame::Signal(2)).await;
    let mut told = false;
    while !told {
        told = matches!(speaker.next().await.expect("more"), Frame::Stderr(bytes) if bytes == b"signal 2\n");
    }
    speaker.send(Frame::Stdin(vec![0; 2048])).await;
    let error = loop {
        match speaker.next().await.expect("an error first") {
            Frame::Stdout(_) | Frame::Taken(_) => {}
            Frame::Error(body) => break body.error,
            other => panic!("{other:?}"),
        }
    };
    assert!(error.message.contains("262144 bytes of input"), "{}", error.message);
    assert!(timeout(Duration::from_secs(5), speaker.next()).await.is_ok());
}

#[tokio::test]
async fn what_is_not_executed_is_answered_as_any_error() {
    let served = serve();
    let refused = async |name: &str, body: &str| {
        let text = request(name, body).replace("Connection: Upgrade\r\n", "Connection: Upgrade, close\r\n");
        let answer = served.ask(&text).await;
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let error = &body["error"];
        let (code, exit) = (error["code"].as_str().unwrap().to_owned(), error["exit_code"].as_u64());
        (answer.status, code, exit, error["message"].as_str().unwrap().to_owned())
    };
    let (status, code, exit, message) = refused("shop-web-1", r#"{"command":["nope"]}"#).await;
    assert_eq!((status, code.as_str(), exit, message.as_str()), (422, "not_executed", Some(127), "no nope"));
    for (name, body, status, word) in [
        ("nobody", r#"{"command":["cat"]}"#, 404, "nobody"),
        ("shop%2Fadmin", r#"{"command":["cat"]}"#, 404, "has no container"),
        ("shop%2Fweb", r#"{"command":["cat"],"index":13}"#, 404, "number 13"),
        ("shop-web-1", r#"{"command":[]}"#, 400, "no command"),
        ("shop-web-1", r#"{"command":["cat"],"working_dir":"x"}"#, 400, "not absolute"),
        ("shop-web-1", r#"{"command":["cat"],"detach":true,"stdin":true}"#, 400, "detached"),
        ("shop-web-1", r#"{"command":["cat"],"environment":["=secret"]}"#, 400, "no name"),
        ("shop-web-1", r#"{"command":["cat"],"what":1}"#, 400, "line 1"),
    ] {
        let (seen, _, exit, message) = refused(name, body).await;
        assert!(seen == status && exit.is_none() && message.contains(word), "{seen} {message}");
        assert!(!message.contains("secret"));
    }
    let body = r#"{"command":["cat"]}"#;
    let plain = format!(
        "POST /api/v1/containers/shop-web-1/exec HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(served.ask(&plain).await.status, 426);
    let detached = plain.replace(body, r#"{"command":["cat"],"detach":true}"#).replace("Length: 19", "Length: 33");
    let detached = served.ask(&detached).await;
    assert_eq!((detached.status, detached.body.as_str()), (200, r#"{"container":"shop-web-1"}"#));
}
