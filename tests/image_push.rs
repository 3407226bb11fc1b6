//! Pushes to Debian's own registry, and to registries that misbehave.

#[path = "image_support/debian.rs"]
mod debian;
#[path = "image_support/http.rs"]
mod http;
#[expect(dead_code, reason = "each test program uses its own part")]
mod image_support;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use debian::{Debian, LOGIN};
use http::{Heard, Reply, Server};
use image_support::{Image, MANIFEST, file, gzip, image, sha, tar};
use longshore::image::{Attempts, Images, Progress, PushError, Pushed, Settings, Timeouts};
use longshore::model::{ImageReference, sentence};

/// Bytes that do not become fewer by gzip.
fn noise(seed: u64, len: usize) -> String {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap())
    };
    (0..len).map(next).collect()
}

fn made(large: usize) -> Image {
    let low = tar(&[file("low", &noise(1, large))]);
    let high = tar(&[file("high", "high")]);
    image(&[(low.clone(), gzip(&low)), (high.clone(), gzip(&high))])
}

fn quick(dir: &Path) -> Settings {
    let short = Duration::from_secs(3);
    Settings {
        login_files: vec![dir.join("docker/config.json")],
        timeouts: Timeouts { connect: short, progress: short, exchange: 3 * short },
        attempts: Attempts { fruitless: 4, longest_wait: Duration::from_millis(300) },
        ..Settings::default()
    }
}

fn name(address: SocketAddr, rest: &str) -> ImageReference {
    ImageReference::parse(&format!("{address}/{rest}")).unwrap()
}

/// Gives the image another name by what pulls write, as `longshore image tag` does.
fn tag(dir: &Path, from: &ImageReference, to: &ImageReference) {
    let path = |name: &ImageReference| {
        let hex = sha(name.to_string().as_bytes());
        dir.join("images/refs").join(format!("{}.json", hex.strip_prefix("sha256:").unwrap()))
    };
    let text = std::fs::read_to_string(path(from)).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    record["reference"] = to.to_string().into();
    std::fs::write(path(to), record.to_string()).unwrap();
}

/// A store that pulled `made` from `source` and calls it `to` as well.
async fn pulled(dir: &Path, source: &ImageReference, to: &[&ImageReference]) -> Images {
    let images = Images::open(&dir.join("images"), quick(dir)).unwrap();
    images.pull(source, None, &Progress::default()).await.map_err(|e| sentence(&e)).unwrap();
    drop(images);
    to.iter().for_each(|to| tag(dir, source, to));
    Images::open(&dir.join("images"), quick(dir)).unwrap()
}

/// A registry that has `made` as `test/it:t`.
fn origin(made: &Image) -> Server {
    let made = made.clone();
    Server::start(|_| None, move |heard, _| serve(&made, heard))
}

fn serve(made: &Image, heard: &Heard) -> Reply {
    if heard.path.contains("/manifests/") {
        return (200, format!("Content-Type: {MANIFEST}\r\n"), made.manifest.clone());
    }
    match made.blobs.get(heard.path.rsplit('/').next().unwrap()) {
        Some(blob) => (200, String::new(), blob.clone()),
        None => (404, String::new(), Vec::new()),
    }
}

async fn push(images: &Images, to: &ImageReference) -> Result<Pushed, PushError> {
    let (images, to) = (images.clone(), to.clone());
    let pushing = tokio::spawn(async move {
        let progress = Progress::default();
        let done = images.push(&to, &progress).await;
        if done.is_ok() {
            assert_eq!(progress.done(), progress.total());
        }
        done
    });
    tokio::time::timeout(Duration::from_secs(60), pushing).await.expect("no push waits for ever").unwrap()
}

fn bytes(made: &Image) -> u64 {
    made.blobs.values().map(|b| b.len() as u64).sum()
}

#[tokio::test]
async fn what_is_pushed_is_pulled_by_skopeo_with_the_same_digest() {
    let (made, target, dir) = (made(20 << 20), Debian::start(false), tempfile::tempdir().unwrap());
    let origin = origin(&made);
    let (from, to) = (name(origin.address, "test/it:t"), name(target.address, "copy/of:v1"));
    let other = name(target.address, "another/repo:v2");
    let images = pulled(dir.path(), &from, &[&to, &other]).await;
    let done = push(&images, &to).await.map_err(|e| sentence(&e)).unwrap();
    assert_eq!(done.digest.as_str(), sha(&made.manifest));
    assert_eq!((done.same, done.present, done.mounted, done.uploaded), (true, 0, 0, bytes(&made)));

    let copy = dir.path().join("copy");
    skopeo(&[&format!("docker://{to}"), &format!("dir:{}", copy.display())]);
    assert_eq!(std::fs::read(copy.join("manifest.json")).unwrap(), made.manifest);
    for (digest, blob) in &made.blobs {
        assert!(std::fs::read(copy.join(digest.strip_prefix("sha256:").unwrap())).unwrap() == *blob, "{digest}");
    }

    // Again: nothing is sent. Another repository: mounted, and the origin is asked for no blob.
    let again = push(&images, &to).await.unwrap();
    assert_eq!((again.present, again.mounted, again.uploaded), (bytes(&made), 0, 0));
    let fetched = origin.count("GET", "/blobs/");
    let mounted = push(&images, &other).await.map_err(|e| sentence(&e)).unwrap();
    assert_eq!((mounted.present, mounted.mounted, mounted.uploaded), (0, bytes(&made), 0));
    assert_eq!(origin.count("GET", "/blobs/"), fetched);
    let absent = push(&images, &name(target.address, "not/here:t")).await.unwrap_err();
    assert!(sentence(&absent).contains("is not here; pull it"), "{}", sentence(&absent));
}

#[tokio::test]
async fn a_push_needs_the_login_and_says_so() {
    let (made, target, dir) = (made(1000), Debian::start(true), tempfile::tempdir().unwrap());
    let origin = origin(&made);
    let (from, to) = (name(origin.address, "test/it:t"), name(target.address, "private/it:t"));
    let images = pulled(dir.path(), &from, &[&to]).await;
    let denied = push(&images, &to).await.unwrap_err();
    assert!(matches!(denied, PushError::Denied { .. }) && denied.permanent());
    let said = sentence(&denied);
    assert!(said.contains(&format!("`longshore login {}`", target.address)), "{said}");
    images.login(&target.address.to_string(), LOGIN.0, LOGIN.1).await.unwrap();
    let done = push(&images, &to).await.map_err(|e| sentence(&e)).unwrap();
    assert_eq!(done.uploaded, bytes(&made));
    let fresh = tempfile::tempdir().unwrap();
    let settings = quick(dir.path());
    let second = Images::open(fresh.path(), settings).unwrap();
    let back = second.pull(&to, None, &Progress::default()).await.map_err(|e| sentence(&e)).unwrap();
    assert_eq!(back.digest, done.digest);
}

/// A registry that keeps what it is sent, so that a test can make it misbehave.
#[derive(Default)]
struct Shelf {
    blobs: BTreeMap<String, Vec<u8>>,
    uploads: Vec<Vec<u8>>,
    manifest: Option<Vec<u8>>,
}

impl Shelf {
    fn answer(&mut self, heard: &Heard) -> Reply {
        let (path, query) = heard.path.split_once('?').unwrap_or((&heard.path, ""));
        let last = path.rsplit('/').next().unwrap();
        let number = last.parse::<usize>().ok();
        let at = |n: usize| format!("Location: /v2/c/blobs/uploads/{n}?state=a%2Fb\r\n");
        let end = |upload: &Vec<u8>| format!("Range: 0-{}\r\n", upload.len().saturating_sub(1));
        match (heard.method.as_str(), number) {
            ("HEAD", _) => (if self.blobs.contains_key(last) { 200 } else { 404 }, String::new(), Vec::new()),
            ("POST", _) => {
                self.uploads.push(Vec::new());
                (202, at(self.uploads.len() - 1), Vec::new())
            }
            ("GET", Some(n)) => (204, at(n) + &end(&self.uploads[n]), Vec::new()),
            ("PATCH", Some(n)) => {
                assert!(query.contains("state=a%2Fb"), "what the address asks is kept");
                let begin: usize = heard.header("content-range").unwrap().split('-').next().unwrap().parse().unwrap();
                if begin != self.uploads[n].len() {
                    return (416, at(n) + &end(&self.uploads[n]), Vec::new());
                }
                self.uploads[n].extend(&heard.body);
                (202, at(n) + &end(&self.uploads[n]), Vec::new())
            }
            ("PUT", Some(n)) => {
                assert!(query.starts_with("state=a%2Fb&digest=sha256"), "{query}");
                let mut blob = std::mem::take(&mut self.uploads[n]);
                blob.extend(&heard.body);
                let digest = query.split("digest=").nth(1).unwrap().replace("%3A", ":");
                if sha(&blob) != digest {
                    return (400, String::new(), Vec::new());
                }
                self.blobs.insert(digest, blob);
                (201, String::new(), Vec::new())
            }
            ("PUT", None) => {
                self.manifest = Some(heard.body.clone());
                (201, String::new(), Vec::new())
            }
            _ => (404, String::new(), Vec::new()),
        }
    }
}

/// Pushes `made` to a shelf behind `most` and `refuse`; the server and what it holds then.
async fn shelved(
    made: &Image,
    most: impl Fn(&Heard) -> Option<usize> + Send + Sync + 'static,
    refuse: impl Fn(&Heard) -> Option<Reply> + Send + Sync + 'static,
) -> (Result<Pushed, PushError>, Server, Arc<Mutex<Shelf>>) {
    let shelf = Arc::<Mutex<Shelf>>::default();
    let kept = Arc::clone(&shelf);
    let target =
        Server::start(most, move |heard, _| refuse(heard).unwrap_or_else(|| kept.lock().unwrap().answer(heard)));
    let dir = tempfile::tempdir().unwrap();
    let origin = origin(made);
    let to = name(target.address, "c:t");
    let images = pulled(dir.path(), &name(origin.address, "test/it:t"), &[&to]).await;
    let done = push(&images, &to).await;
    (done, target, shelf)
}

#[tokio::test]
async fn a_cut_chunk_goes_on_where_the_registry_stands() {
    let made = made(24 << 20);
    let cuts = Mutex::new(3);
    // Three times the connection breaks after one MiB of a chunk; the registry keeps that part.
    let cut = move |heard: &Heard| {
        let mut cuts = cuts.lock().unwrap();
        (heard.method == "PATCH" && *cuts > 0).then(|| {
            *cuts -= 1;
            1 << 20
        })
    };
    let (done, target, shelf) = shelved(&made, cut, |_| None).await;
    let done = done.map_err(|e| sentence(&e)).unwrap();
    assert_eq!(done.uploaded, bytes(&made));
    let shelf = shelf.lock().unwrap();
    assert_eq!(shelf.blobs, made.blobs);
    assert_eq!(shelf.manifest.as_ref(), Some(&made.manifest));
    assert_eq!(target.count("GET", "/uploads/"), 3, "asked after each cut how far it got");
    let sent: usize = target.heard.lock().unwrap().iter().filter(|h| h.method == "PATCH").map(|h| h.body.len()).sum();
    let large = made.blobs.values().map(Vec::len).max().unwrap();
    assert_eq!(sent, large, "no byte was sent twice");
    assert_eq!(target.count("POST", ""), made.blobs.len(), "and no upload began anew");
}

#[tokio::test]
async fn a_registry_without_chunks_gets_the_whole() {
    let made = made(12 << 20);
    let refuse = |heard: &Heard| (heard.method == "PATCH").then(|| (405, String::new(), Vec::new()));
    let (done, target, shelf) = shelved(&made, |_| None, refuse).await;
    done.map_err(|e| sentence(&e)).unwrap();
    assert_eq!(shelf.lock().unwrap().blobs, made.blobs);
    assert_eq!(target.count("PATCH", ""), 1, "it was tried once");
}

#[tokio::test]
async fn a_lost_upload_begins_anew_and_a_lasting_trouble_ends() {
    let made = made(12 << 20);
    let lost = Mutex::new(true);
    let refuse = move |heard: &Heard| {
        let now = heard.method == "PATCH" && std::mem::take(&mut *lost.lock().unwrap());
        now.then(|| (404, String::new(), Vec::new()))
    };
    let (done, target, shelf) = shelved(&made, |_| None, refuse).await;
    done.map_err(|e| sentence(&e)).unwrap();
    assert_eq!(shelf.lock().unwrap().blobs, made.blobs);
    assert_eq!(target.count("POST", ""), made.blobs.len() + 1);

    let refuse = |heard: &Heard| (heard.method == "PATCH").then(|| (503, String::new(), Vec::new()));
    let (done, _, shelf) = shelved(&made, |_| None, refuse).await;
    let said = sentence(&done.unwrap_err());
    assert!(said.contains("HTTP 503"), "{said}");
    assert!(shelf.lock().unwrap().manifest.is_none(), "no name appears for what is not there");
}

/// What `skopeo copy` makes of the image in a folder: the manifest, and the files of all layers by name.
fn fetched(image: &ImageReference, to: &Path) -> (serde_json::Value, BTreeMap<String, String>) {
    skopeo(&[&format!("docker://{image}"), &format!("dir:{}", to.display())]);
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(to.join("manifest.json")).unwrap()).unwrap();
    let mut files = BTreeMap::new();
    for layer in manifest["layers"].as_array().unwrap() {
        let bytes = std::fs::read(to.join(&layer["digest"].as_str().unwrap()[7..])).unwrap();
        assert_eq!(
            (sha(&bytes).as_str(), Some(bytes.len() as u64)),
            (layer["digest"].as_str().unwrap(), layer["size"].as_u64())
        );
        let mut archive = Vec::new();
        match layer["mediaType"].as_str().unwrap().contains("gzip") {
            true => drop(flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut archive).unwrap()),
            false => archive = bytes,
        }
        for entry in tar::Archive::new(&archive[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            files.insert(name, std::io::read_to_string(&mut entry).unwrap());
        }
    }
    (manifest, files)
}

fn skopeo(args: &[&str]) {
    let tls = ["--src-tls-verify=false", "--dest-tls-verify=false"];
    let ran = Command::new("skopeo").args(["--insecure-policy", "copy", "-q"]).args(tls).args(args).output().unwrap();
    assert!(ran.status.success(), "skopeo {args:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

fn files(large: usize) -> BTreeMap<String, String> {
    [("low".to_owned(), noise(1, large)), ("high".to_owned(), "high".to_owned())].into()
}

fn config_of(made: &Image) -> serde_json::Value {
    serde_json::from_slice::<serde_json::Value>(&made.manifest).unwrap()["config"]["digest"].clone()
}

#[tokio::test]
async fn an_image_whose_registry_is_gone_is_pushed_with_the_same_content() {
    let (made, dir) = (made(3 << 20), tempfile::tempdir().unwrap());
    let (origin, target) = (origin(&made), Debian::start(false));
    // The image comes from a registry that ends.
    let first = Debian::start(false);
    let from = name(first.address, "test/it:t");
    let helper = tempfile::tempdir().unwrap();
    let helping = pulled(helper.path(), &name(origin.address, "test/it:t"), &[&from]).await;
    push(&helping, &from).await.map_err(|e| sentence(&e)).unwrap();
    let (to, other) = (name(target.address, "copy/of:v1"), name(target.address, "more:v1"));
    let images = pulled(dir.path(), &from, &[&to, &other]).await;
    drop(first);

    let progress = Progress::default();
    let done = images.push(&to, &progress).await.map_err(|e| sentence(&e)).unwrap();
    assert!(!done.same && done.digest.as_str() != sha(&made.manifest));
    assert!(progress.snapshot().notes.iter().any(|n| n.contains("is compressed anew")), "{:?}", progress.snapshot());
    assert_eq!(progress.done(), progress.total());
    assert_eq!(images.present()[&to].digest.as_str(), sha(&made.manifest), "here it is what it was");
    assert_eq!(dir.path().join("images/ingest").read_dir().unwrap().count(), 0);
    let copy = dir.path().join("copy");
    let (manifest, got) = fetched(&to, &copy);
    assert_eq!(sha(&std::fs::read(copy.join("manifest.json")).unwrap()), done.digest.as_str());
    assert_eq!((&manifest["config"]["digest"], manifest["mediaType"].as_str()), (&config_of(&made), Some(MANIFEST)));
    assert!(got == files(3 << 20));

    // The same bytes each time: nothing is sent twice.
    let again = push(&images, &to).await.map_err(|e| sentence(&e)).unwrap();
    assert_eq!((&again.digest, again.uploaded), (&done.digest, 0));
    let fresh = tempfile::tempdir().unwrap();
    let second = Images::open(fresh.path(), quick(dir.path())).unwrap();
    let back = second.pull(&to, None, &Progress::default()).await.map_err(|e| sentence(&e)).unwrap();
    assert_eq!(back.digest, done.digest);
    assert_eq!(
        second.config(&back.digest).unwrap().diff_ids,
        images.config(&images.present()[&to].digest).unwrap().diff_ids
    );

    // Changed on this disk: it does not go out as if it were whole.
    let digest = images.present()[&to].digest.clone();
    let diff = images.layers(&digest).unwrap().remove(1);
    std::fs::write(diff.join("high"), "HIGH").unwrap();
    let error = sentence(&push(&images, &other).await.unwrap_err());
    assert!(error.contains("cannot compress layer") && error.contains("damaged"), "{error}");
    // Unpacked by a version that kept no record.
    let layer = diff.parent().unwrap();
    let meta = std::fs::read_to_string(layer.join("meta.json")).unwrap();
    let mut meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
    ["split", "rebuildable"].iter().for_each(|key| drop(meta.as_object_mut().unwrap().remove(*key)));
    std::fs::write(layer.join("meta.json"), meta.to_string()).unwrap();
    std::fs::remove_file(layer.join("split.zst")).unwrap();
    let error = push(&images, &other).await.unwrap_err();
    assert!(matches!(error, PushError::NoSource { .. }) && error.permanent(), "{}", sentence(&error));
    assert!(sentence(&error).contains("pull, load or import it again"), "{}", sentence(&error));
}

#[tokio::test]
async fn what_came_out_of_files_is_pushed() {
    let (made, dir, target) = (made(3 << 20), tempfile::tempdir().unwrap(), Debian::start(false));
    let (origin, source, helper) = (origin(&made), Debian::start(false), tempfile::tempdir().unwrap());
    let at = |name: &str| dir.path().join(name).display().to_string();
    let from = name(source.address, "test/it:t");
    let helping = pulled(helper.path(), &name(origin.address, "test/it:t"), &[&from]).await;
    push(&helping, &from).await.map_err(|e| sentence(&e)).unwrap();
    let from = format!("docker://{from}");
    let images = Images::open(&dir.path().join("images"), quick(dir.path())).unwrap();
    // Docker's archive, whose layers are not compressed.
    let loaded = name(target.address, "loaded:1");
    skopeo(&[&from, &format!("docker-archive:{}:{loaded}", at("docker.tar"))]);
    let file = std::fs::File::open(at("docker.tar")).unwrap();
    let told = images.load(file, None, Arc::default()).await.map_err(|e| sentence(&e)).unwrap().remove(0);
    let done = push(&images, &loaded).await.map_err(|e| sentence(&e)).unwrap();
    assert_eq!((done.same, &done.digest), (true, &told.present.digest));
    let (manifest, got) = fetched(&loaded, &dir.path().join("1"));
    assert_eq!(manifest["config"]["digest"], config_of(&made));
    assert!(got == files(3 << 20));
    // A layout, whose compressed layers are kept.
    let kept = name(target.address, "kept:1");
    skopeo(&[&from, &format!("oci-archive:{}:{kept}", at("oci.tar"))]);
    let file = std::fs::File::open(at("oci.tar")).unwrap();
    images.load(file, None, Arc::default()).await.map_err(|e| sentence(&e)).unwrap();
    let done = push(&images, &kept).await.map_err(|e| sentence(&e)).unwrap();
    assert_eq!((done.same, done.digest.as_str()), (true, sha(&made.manifest).as_str()));
    // A root file system.
    let (mine, root) = (name(target.address, "mine:1"), tar(&[image_support::file("a", "root")]));
    images.import(std::io::Cursor::new(root), &mine, Default::default()).await.map_err(|e| sentence(&e)).unwrap();
    assert!(push(&images, &mine).await.map_err(|e| sentence(&e)).unwrap().same);
    assert_eq!(fetched(&mine, &dir.path().join("2")).1, [("a".to_owned(), "root".to_owned())].into());
}

#[tokio::test]
async fn a_source_that_sends_something_else_is_no_source() {
    let made = made(12 << 20);
    let bad = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (image, switch) = (made.clone(), Arc::clone(&bad));
    let origin = Server::start(
        |_| None,
        move |heard, _| {
            let (status, headers, mut body) = serve(&image, heard);
            if switch.load(std::sync::atomic::Ordering::Relaxed) && heard.path.contains("/blobs/") {
                body.iter_mut().for_each(|byte| *byte ^= 1);
            }
            (status, headers, body)
        },
    );
    let shelf = Arc::<Mutex<Shelf>>::default();
    let kept = Arc::clone(&shelf);
    let target = Server::start(|_| None, move |heard, _| kept.lock().unwrap().answer(heard));
    let dir = tempfile::tempdir().unwrap();
    let to = name(target.address, "c:t");
    let images = pulled(dir.path(), &name(origin.address, "test/it:t"), &[&to]).await;
    bad.store(true, std::sync::atomic::Ordering::Relaxed);
    let progress = Progress::default();
    let done = images.push(&to, &progress).await.map_err(|e| sentence(&e)).unwrap();
    let notes = progress.snapshot().notes;
    assert!(!done.same && notes.iter().any(|note| note.contains("its content is sha256:")), "{notes:?}");
    let shelf = shelf.lock().unwrap();
    assert_eq!(shelf.manifest.as_ref().map(|m| sha(m)).as_deref(), Some(done.digest.as_str()));
    assert_eq!(target.count("PUT", "/uploads/"), shelf.blobs.len(), "a wrong blob is never finished");
}
