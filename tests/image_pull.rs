//! Pulls from Debian's own registry, and from registries that misbehave.

#[expect(dead_code, reason = "each test program uses its own part")]
mod image_support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use image_support::{Answer, Image, MANIFEST, Script, file, gzip, image, ok, serve, sha, tar, told};
use longshore::image::{Attempts, Images, Progress, PullError, Settings, Timeouts};
use longshore::model::{ImageReference, Platform};

/// Debian's `docker-registry` on a port of its own; it ends with the value, also when a test panics.
struct Registry {
    child: Child,
    address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = dir.path().join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n",
            dir.path().join("data").display()
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        let registry = Self { child, address, _dir: dir };
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    /// One exchange; the head of the answer.
    fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn push(&self, image: &Image, tag: &str) {
        for (digest, blob) in &image.blobs {
            let begun = self.send("POST", "/v2/test/it/blobs/uploads/", "text/plain", b"");
            let at = begun.lines().find_map(|l| l.strip_prefix("Location: ")).expect("an upload begins").trim();
            let path = at.strip_prefix(&format!("http://{}", self.address)).unwrap_or(at);
            let done = self.send("PUT", &format!("{path}&digest={digest}"), "application/octet-stream", blob);
            assert!(done.starts_with("HTTP/1.1 201"), "{done}");
        }
        let done = self.send("PUT", &format!("/v2/test/it/manifests/{tag}"), MANIFEST, &image.manifest);
        assert!(done.starts_with("HTTP/1.1 201"), "{done}");
    }
}

fn hello() -> Image {
    let low = tar(&[
        file("hello", "low"),
        file("etc/passwd", "web:x:33:44::/srv:/bin/sh\n"),
        file("etc/group", "logs:x:50:web\n"),
    ]);
    let high = tar(&[file("hello", "high")]);
    let zstd = zstd::encode_all(&high[..], 3).unwrap();
    image(&[(low.clone(), gzip(&low)), (high, zstd)])
}

fn quick() -> Settings {
    let short = Duration::from_millis(400);
    let timeouts = Timeouts { connect: short, progress: short, exchange: 3 * short };
    let attempts = Attempts { fruitless: 2, longest_wait: Duration::from_secs(1) };
    Settings { timeouts, attempts, ..Settings::default() }
}

fn parse(name: &str) -> ImageReference {
    ImageReference::parse(name).unwrap()
}

/// Pulls into a fresh store.
async fn fresh(name: &str) -> Result<(), PullError> {
    let temp = tempfile::tempdir().unwrap();
    let images = Images::open(temp.path(), quick()).unwrap();
    let (name, progress) = (parse(name), Progress::default());
    let pulled = tokio::time::timeout(Duration::from_secs(20), images.pull(&name, None, &progress));
    let pulled = pulled.await.expect("no pull waits for ever").map(|_| ());
    // A good layer of a bad image may stay: it is whole, and spares the next attempt its bytes.
    assert_eq!(images.present().len(), usize::from(pulled.is_ok()));
    pulled
}

async fn fails(script: Script, word: &str) -> PullError {
    let error = fresh(&script.name()).await.expect_err(word);
    let text = told(&error);
    assert!(text.contains(word), "{text:?} should speak of {word:?}");
    error
}

#[tokio::test]
async fn a_real_registry_serves_a_whole_image() {
    let registry = Registry::start();
    let made = hello();
    registry.push(&made, "t");
    let temp = tempfile::tempdir().unwrap();
    let images = Images::open(temp.path(), Settings::default()).unwrap();
    let by_tag = parse(&format!("{}/test/it:t", registry.address));
    let progress = Progress::default();
    let present = images.pull(&by_tag, None, &progress).await.map_err(|e| told(&e)).unwrap();
    assert_eq!(present.digest.as_str(), sha(&made.manifest));
    assert_eq!((progress.done(), progress.total()), (present.bytes, present.bytes));
    let layers = images.layers(&present.digest).unwrap();
    let read = |at: usize| std::fs::read_to_string(layers[at].join("hello")).unwrap();
    assert_eq!((read(0), read(1)), ("low".into(), "high".into()));
    let config = images.config(&present.digest).unwrap();
    assert_eq!((config.cmd, config.user.as_str()), (vec!["/hello".to_owned()], "web"));

    let by_digest = parse(&format!("{}/test/it@{}", registry.address, present.digest));
    assert_eq!(images.pull(&by_digest, None, &progress).await.unwrap().digest, present.digest);
    let missing = images.pull(&parse(&format!("{}/test/it:no", registry.address)), None, &progress).await.unwrap_err();
    assert!(told(&missing).contains("does not exist in registry") && missing.permanent(), "{}", told(&missing));

    // A new run finds everything; leftovers are removed, and a reference without its layer is dropped and named.
    drop(images);
    std::fs::create_dir_all(temp.path().join("ingest/dead/diff")).unwrap();
    std::fs::write(temp.path().join("refs/junk.json"), "{").unwrap();
    let again = Images::open(temp.path(), Settings::default()).unwrap();
    assert_eq!(again.present().len(), 2);
    assert_eq!(again.warnings().len(), 1, "{:?}", again.warnings());
    assert_eq!(std::fs::read_dir(temp.path().join("ingest")).unwrap().count(), 0);
    std::fs::remove_dir_all(layers[1].parent().unwrap()).unwrap();
    let third = Images::open(temp.path(), Settings::default()).unwrap();
    assert!(third.present().is_empty() && third.warnings().len() == 3, "{:?}", third.warnings());
    third.pull(&by_tag, None, &progress).await.map_err(|e| told(&e)).unwrap();
    assert_eq!(third.present().len(), 1);
}

#[tokio::test]
async fn pulls_of_one_image_at_once_fetch_each_layer_once() {
    let script = Script::of(hello());
    let temp = tempfile::tempdir().unwrap();
    let images = Images::open(temp.path(), Settings::default()).unwrap();
    let name = parse(&script.name());
    let progress = Progress::default();
    let pulls = (0..4).map(|_| images.pull(&name, None, &progress));
    for pulled in futures_util::future::join_all(pulls).await {
        pulled.unwrap();
    }
    let made = hello();
    let layers = serde_json::from_slice::<serde_json::Value>(&made.manifest).unwrap();
    for layer in layers["layers"].as_array().unwrap() {
        let digest = layer["digest"].as_str().unwrap();
        let asked = script.asked.lock().unwrap().iter().filter(|p| p.ends_with(digest)).count();
        assert_eq!(asked, 1, "{digest}");
    }
}

#[tokio::test]
async fn an_absent_registry_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = fresh(&format!("{free}/x:t")).await.unwrap_err();
    let text = told(&error);
    assert!(text.contains(&format!("cannot connect to registry {free}")) && text.contains("refused"), "{text}");
    assert!(!error.permanent());
    let text = told(&fresh("registry.invalid/x:t").await.unwrap_err());
    assert!(text.contains("registry.invalid"), "{text}");
}

#[tokio::test]
async fn statuses_get_their_own_words() {
    let status = |code: u16, headers: &'static str, body: &'static str| {
        Script::start(move |_| Answer::Whole(code, headers.into(), body.into()))
    };
    let error = fails(status(503, "Retry-After: 7\r\n", ""), "HTTP 503").await;
    assert_eq!((error.retry_after(), error.permanent()), (Some(Duration::from_secs(7)), false));
    let error = fails(status(429, "Retry-After: 3\r\n", ""), "slow down").await;
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    assert!(fails(status(401, "WWW-Authenticate: Basic realm=\"x\"\r\n", ""), "login").await.permanent());
    let evil = r#"{"errors":[{"code":"X","message":"red \u001b[31m and\nnew line"}]}"#;
    let error = fails(status(500, "", evil), "red").await;
    assert!(!told(&error).contains(['\u{1b}', '\n']));
    fails(Script::start(|path| Answer::Whole(307, format!("Location: {path}\r\n"), vec![])), "redirects").await;
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_then_it_is_over() {
    let asked = std::sync::Arc::new(AtomicU32::new(0));
    let count = std::sync::Arc::clone(&asked);
    let address = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let own = std::sync::Arc::clone(&address);
    let script = Script::start(move |path| {
        if path.starts_with("/token") {
            count.fetch_add(1, Ordering::Relaxed);
            return ok("application/json", br#"{"token":"abc"}"#.to_vec());
        }
        let realm = own.lock().unwrap().clone();
        Answer::Whole(401, format!("WWW-Authenticate: Bearer realm=\"http://{realm}/token\",service=\"s\"\r\n"), vec![])
    });
    *address.lock().unwrap() = script.address.to_string();
    fails(script, "HTTP 401").await;
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_does_not_match_is_refused() {
    let made = hello();
    let first = serde_json::from_slice::<serde_json::Value>(&made.manifest).unwrap()["layers"][0]["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let blob = |change: fn(Vec<u8>) -> Answer| {
        let (made, first) = (made.clone(), first.clone());
        Script::start(
            move |path| {
                if path.ends_with(&first) { change(made.blobs[&first].clone()) } else { serve(&made, path) }
            },
        )
    };
    let changed = |mut b: Vec<u8>| {
        let at = b.len() / 2;
        b[at] ^= 0xff;
        ok("application/octet-stream", b)
    };
    assert!(!fails(blob(changed), "was asked for").await.permanent());
    fails(blob(|b| ok("application/octet-stream", b[..b.len() - 3].to_vec())), "bytes of").await;
    fails(blob(|b| ok("application/octet-stream", [&b[..], b"more"].concat())), "bytes of").await;
    assert!(!fails(blob(|b| Answer::Cut(b.clone(), b.len() / 2)), "broke off").await.permanent());
    fails(blob(|_| Answer::Hang), "stopped answering").await;
    fails(blob(|_| Answer::Whole(404, String::new(), vec![])), "does not have").await;
    fails(Script::start(|_| Answer::Hang), "stopped answering").await;
    fails(Script::start(|_| ok(MANIFEST, vec![b' '; 5 << 20])), "more than").await;

    let pinned = Script::of(made);
    let text = told(&fresh(&format!("{}/x@sha256:{}", pinned.address, "0".repeat(64))).await.unwrap_err());
    assert!(text.contains("was asked for"), "{text}");
}

#[tokio::test]
async fn an_index_leads_to_this_machine_or_says_what_there_is() {
    let made = hello();
    let (arch, other) = if cfg!(target_arch = "aarch64") { ("arm64", "amd64") } else { ("amd64", "arm64") };
    let entry = |arch: &str, os: &str, digest: &str, size: usize| serde_json::json!({"mediaType": MANIFEST, "digest": digest, "size": size, "platform": {"architecture": arch, "os": os}});
    let nowhere = format!("sha256:{}", "0".repeat(64));
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": [
        entry("unknown", "unknown", &nowhere, 5),
        entry("s390x", "linux", &nowhere, 5),
        entry(arch, "linux", &sha(&made.manifest), made.manifest.len()),
    ]})
    .to_string()
    .into_bytes();
    let manifest = sha(&made.manifest);
    let script = Script::start(move |path| {
        let index = index.clone();
        if path.ends_with("/manifests/t") { ok(kind, index) } else { serve(&made, path) }
    });
    let temp = tempfile::tempdir().unwrap();
    let images = Images::open(temp.path(), quick()).unwrap();
    let name = parse(&script.name());
    let present = images.pull(&name, None, &Progress::default()).await.map_err(|e| told(&e)).unwrap();
    assert_eq!(present.digest.as_str(), manifest);
    assert_ne!(present.top, present.digest);
    let wanted = Platform { os: "linux".into(), architecture: other.into(), variant: None };
    let error = images.pull(&name, Some(&wanted), &Progress::default()).await.unwrap_err();
    let text = told(&error);
    assert!(text.contains("linux/s390x") && !text.contains("unknown") && error.permanent(), "{text}");
}

#[tokio::test]
async fn a_dropped_pull_leaves_nothing() {
    let made = hello();
    let script = Script::start(move |path| {
        if path.contains("/blobs/") && !made.blobs[path.rsplit('/').next().unwrap()].starts_with(b"{") {
            return Answer::Hang;
        }
        serve(&made, path)
    });
    let temp = tempfile::tempdir().unwrap();
    let images = Images::open(temp.path(), Settings::default()).unwrap();
    let name = parse(&script.name());
    let progress = Progress::default();
    let pull = images.pull(&name, None, &progress);
    assert!(tokio::time::timeout(Duration::from_millis(500), pull).await.is_err());
    let until = Instant::now() + Duration::from_secs(10);
    while std::fs::read_dir(temp.path().join("ingest")).unwrap().count() > 0 {
        assert!(Instant::now() < until, "the unpacking threads did not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
