//! A conversation with a real registry in both directions, as pushes and pulls have it.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};

use super::place::Ask;
use super::{Payload, Registry, RegistryError};
use crate::image::manifest::Descriptor;
use crate::image::progress::Progress;
use crate::image::settings::Settings;
use crate::model::{Digest, ImageReference};

struct Served {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start() -> (Served, String) {
    let dir = tempfile::tempdir().unwrap();
    let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let root = dir.path().join("data");
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{host}'}}\n",
        root.display()
    );
    let config = dir.path().join("config.yml");
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("docker-registry");
    let child = command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let served = Served { child, _dir: dir };
    let until = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(&host).is_err() {
        assert!(Instant::now() < until, "docker-registry does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    (served, host)
}

#[tokio::test]
async fn what_is_sent_can_be_fetched() {
    let (_served, host) = start();
    let registry = Registry::new(Settings::default()).unwrap();
    let image = ImageReference::parse(&format!("{host}/a/b:t")).unwrap();
    let progress = Progress::default();
    let session = registry.writing(&image, &["a/other".to_owned()], &progress).await;
    let content: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
    let digest = Digest::parse(&format!("sha256:{}", crate::image::hash::sha256_hex(&content))).unwrap();
    let of = Descriptor { media_type: String::new(), digest: digest.clone(), size: content.len() as u64 };

    let head = Ask { also: &[StatusCode::NOT_FOUND], ..Ask::new(Method::HEAD, format!("blobs/{digest}")) };
    assert_eq!(session.request(&head).await.unwrap().status(), StatusCode::NOT_FOUND);
    let begun = session.request(&Ask::new(Method::POST, "blobs/uploads/")).await.unwrap();
    assert_eq!(begun.status(), StatusCode::ACCEPTED);
    let mut patch = Ask::new(Method::PATCH, session.location(&begun).unwrap());
    patch.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let pieces: Vec<_> = content.chunks(10_000).map(Bytes::copy_from_slice).collect();
    patch.body =
        Payload::Stream(Arc::new(move || Box::pin(futures_util::stream::iter(pieces.clone().into_iter().map(Ok)))));
    let sent = session.request(&patch).await.unwrap();
    let at = session.location(&sent).unwrap();
    let separator = if at.contains('?') { '&' } else { '?' };
    let mut put = Ask::new(Method::PUT, format!("{at}{separator}digest={digest}"));
    put.body = Payload::Bytes(Bytes::new());
    assert_eq!(session.request(&put).await.unwrap().status(), StatusCode::CREATED);
    assert_eq!(session.request(&head).await.unwrap().status(), StatusCode::OK);

    let reading = registry.about(&image, &progress).await;
    let mut download = reading.download(&of, 100_000);
    let mut got = Vec::new();
    while let Some(piece) = download.next().await.unwrap() {
        got.extend_from_slice(&piece);
    }
    assert_eq!(got, content[100_000..]);
    assert!(matches!(reading.top().await, Err(RegistryError::Unknown { .. })));
}
