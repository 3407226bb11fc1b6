//! Images in archives: what other engines write is loaded, what is saved they read, and hostile archives are refused.
//! Needs root, as the daemon does, and skopeo.

#[expect(dead_code, reason = "each test program uses its own part")]
mod image_support;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use image_support::{Image, MANIFEST, Member, Script, dir, file, gzip, image, link, member, sha, tar, told};
use longshore::image::{
    ArchiveError, ArchiveFormat, Images, ImportChanges, Limits, Loaded, Origin, Progress, Settings,
};
use longshore::model::ImageReference;
use serde_json::{Value, json};

fn parse(name: &str) -> ImageReference {
    ImageReference::parse(name).unwrap()
}

/// Two layers: gzip and zstd.
fn hello() -> Image {
    let low = tar(&[
        dir("etc/"),
        file("hello", "low"),
        file("etc/passwd", "web:x:33:44::/:/bin/sh\n"),
        link("sh", "/bin/busybox"),
    ]);
    let high = tar(&[
        dir("etc/"),
        file("hello", "high"),
        file("etc/.wh.passwd", ""),
        file("big", &"0123456789abcdef".repeat(20_000)).owner(7, 8),
    ]);
    image(&[(low.clone(), gzip(&low)), (high.clone(), zstd::encode_all(&high[..], 3).unwrap())])
}

fn config_digest(image: &Image) -> String {
    let manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    manifest["config"]["digest"].as_str().unwrap().to_owned()
}

struct Store {
    temp: tempfile::TempDir,
    images: Images,
}

impl Store {
    fn new() -> Self {
        Self::with(Limits::default())
    }
    fn with(limits: Limits) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let images = Images::open(&temp.path().join("images"), Settings { limits, ..Settings::default() }).unwrap();
        Self { temp, images }
    }
    async fn load(&self, bytes: Vec<u8>) -> Result<Vec<Loaded>, String> {
        self.load_as(bytes, None).await
    }
    async fn load_as(&self, bytes: Vec<u8>, name: Option<&str>) -> Result<Vec<Loaded>, String> {
        let name = name.map(parse);
        let loaded = self.images.load(io::Cursor::new(bytes), name.as_ref(), Arc::default()).await;
        let left = self.temp.path().join("images/ingest").read_dir().unwrap().count();
        assert_eq!(left, 0, "nothing is being made any more, however it ended");
        loaded.map_err(|e| told(&e))
    }
    async fn save(&self, names: &[&str], format: ArchiveFormat) -> Vec<u8> {
        let names: Vec<_> = names.iter().map(|n| parse(n)).collect();
        let out = Shared::default();
        self.images.save(&names, out.clone(), format).await.map_err(|e| told(&e)).unwrap();
        out.take()
    }
    /// All that a container of the image would see, layer by layer.
    fn trees(&self, name: &str) -> Vec<BTreeMap<PathBuf, String>> {
        let digest = self.images.find(name).unwrap().digest;
        self.images.layers(&digest).unwrap().iter().map(|layer| tree(layer)).collect()
    }
}

/// A writer whose bytes can be had afterwards.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(root: &Path, at: &Path, out: &mut BTreeMap<PathBuf, String>) {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let m = path.symlink_metadata().unwrap();
            let content = if m.is_file() {
                sha(&std::fs::read(&path).unwrap())
            } else if m.is_symlink() {
                path.read_link().unwrap().display().to_string()
            } else {
                String::new()
            };
            // A whiteout has no time of its own.
            let time = if m.rdev() == 0 && m.mode() & 0o170_000 == 0o020_000 { 0 } else { m.mtime() };
            let told = format!("{:o} {} {} {} {time} {content}", m.mode(), m.uid(), m.gid(), m.rdev());
            out.insert(path.strip_prefix(root).unwrap().to_owned(), told);
            if m.is_dir() {
                walk(root, &path, out);
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(root, root, &mut out);
    out
}

/// The members of an OCI layout that holds the images under these names.
fn layout(images: &[(Option<&str>, &Image)]) -> Vec<Member> {
    let mut blobs = BTreeMap::new();
    let mut entries = Vec::new();
    for (name, image) in images {
        blobs.extend(image.blobs.clone());
        blobs.insert(sha(&image.manifest), image.manifest.clone());
        let mut entry = json!({"mediaType": MANIFEST, "digest": sha(&image.manifest), "size": image.manifest.len()});
        if let Some(name) = name {
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        entries.push(entry);
    }
    let mut members =
        vec![file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#), dir("blobs/"), dir("blobs/sha256/")];
    members.extend(blobs.into_iter().map(|(digest, data)| blob(&digest, data)));
    members.push(file("index.json", &json!({"schemaVersion": 2, "manifests": entries}).to_string()));
    members
}

fn blob(digest: &str, data: Vec<u8>) -> Member {
    Member { data, mode: 0o644, ..member(b'0', &format!("blobs/{}", digest.replace(':', "/"))) }
}

/// Docker's archive of the images' layers, as docker before 25 wrote it.
fn docker_save(image: &Image, tags: &[&str], layers: &[Vec<u8>]) -> Vec<Member> {
    let config = config_digest(image);
    let hex = &config[7..];
    let mut members = vec![Member { data: image.blobs[&config].clone(), ..member(b'0', &format!("{hex}.json")) }];
    let mut names = Vec::new();
    for (at, layer) in layers.iter().enumerate() {
        members.push(dir(&format!("id{at}/")));
        members.push(file(&format!("id{at}/VERSION"), "1.0"));
        match layers[..at].iter().position(|l| l == layer) {
            Some(same) => members.push(link(&format!("id{at}/layer.tar"), &format!("../id{same}/layer.tar"))),
            None => members.push(Member { data: layer.clone(), ..member(b'0', &format!("id{at}/layer.tar")) }),
        }
        names.push(format!("id{at}/layer.tar"));
    }
    let manifest = json!([{"Config": format!("{hex}.json"), "RepoTags": tags, "Layers": names}]);
    members.push(file("manifest.json", &manifest.to_string()));
    members.push(file("repositories", "{}"));
    members
}

fn skopeo(args: &[&str]) {
    let done = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "-q"])
        .args(args)
        .output()
        .expect("skopeo is installed");
    assert!(done.status.success(), "skopeo {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// The image as an OCI layout in a folder.
fn folder(at: &Path, image: &Image) {
    std::fs::create_dir_all(at.join("blobs/sha256")).unwrap();
    for member in layout(&[(Some("docker.io/test/hello:1"), image)]) {
        let path = at.join(std::str::from_utf8(&member.name).unwrap());
        if member.kind == b'0' {
            std::fs::write(path, &member.data).unwrap();
        }
    }
}

#[tokio::test]
async fn an_oci_layout_keeps_its_digests_and_comes_out_as_it_went_in() {
    let hello = hello();
    for outer in [tar, |m: &[Member]| gzip(&tar(m)), |m: &[Member]| zstd::encode_all(&tar(m)[..], 3).unwrap()] {
        let store = Store::new();
        let loaded = store.load(outer(&layout(&[(Some("docker.io/test/hello:1"), &hello)]))).await.unwrap().remove(0);
        assert_eq!(loaded.present.digest.as_str(), sha(&hello.manifest));
        assert_eq!(loaded.config.as_str(), config_digest(&hello));
        assert_eq!(loaded.names, [parse("test/hello:1")]);
        assert_eq!(store.images.list()[0].origin, Origin::Loaded);
        assert_eq!(store.images.config(&loaded.present.digest).unwrap().user, "web");
        assert_eq!(store.trees("test/hello:1").len(), 2);
        assert!(store.images.inspect(&loaded.present.digest).unwrap().layers.iter().all(|l| l.kept));

        let saved = store.save(&["test/hello:1"], ArchiveFormat::Docker).await;
        let second = Store::new();
        let again = second.load(saved).await.unwrap().remove(0);
        assert_eq!(
            (&again.present.digest, &again.config, &again.names),
            (&loaded.present.digest, &loaded.config, &loaded.names)
        );
        assert_eq!(second.trees("test/hello:1"), store.trees("test/hello:1"));
        assert_eq!(store.images.remove(&parse("test/hello:1")).await.unwrap().layers, 2);
        assert_eq!(store.temp.path().join("images/blobs/sha256").read_dir().unwrap().count(), 0, "kept layers go too");
    }
}

#[tokio::test]
async fn what_skopeo_writes_is_loaded_and_what_is_saved_it_reads() {
    let temp = tempfile::tempdir().unwrap();
    let hello = hello();
    folder(&temp.path().join("layout"), &hello);
    let at = |name: &str| temp.path().join(name).display().to_string();
    let from = format!("oci:{}", at("layout"));
    skopeo(&[&from, &format!("docker-archive:{}:test/hello:2", at("docker.tar"))]);
    skopeo(&[&from, &format!("oci-archive:{}:docker.io/test/hello:3", at("oci.tar"))]);
    skopeo(&[&from, &format!("dir:{}", at("dir"))]);

    let store = Store::new();
    let docker = store.load(std::fs::read(at("docker.tar")).unwrap()).await.unwrap().remove(0);
    assert_eq!(
        (docker.config.as_str(), &docker.names[..]),
        (config_digest(&hello).as_str(), &[parse("test/hello:2")][..])
    );
    let oci = store.load(std::fs::read(at("oci.tar")).unwrap()).await.unwrap().remove(0);
    assert_eq!(
        (oci.present.digest.as_str(), &oci.names[..]),
        (sha(&hello.manifest).as_str(), &[parse("test/hello:3")][..])
    );
    let name = parse("test/hello:4");
    let dir = store.images.load_dir(temp.path().join("dir").as_path(), Some(&name), Arc::default()).await;
    assert_eq!(dir.map_err(|e| told(&e)).unwrap()[0].present.digest.as_str(), sha(&hello.manifest));
    let layout = store.images.load_dir(temp.path().join("layout").as_path(), None, Arc::default()).await;
    assert_eq!(layout.map_err(|e| told(&e)).unwrap()[0].names, [parse("test/hello:1")]);
    assert_eq!(store.trees("test/hello:2"), store.trees("test/hello:3"));

    for (format, kind) in [
        (ArchiveFormat::Docker, "docker-archive"),
        (ArchiveFormat::Docker, "oci-archive"),
        (ArchiveFormat::Oci, "oci-archive"),
    ] {
        let path = temp.path().join("saved.tar");
        std::fs::write(&path, store.save(&["test/hello:3"], format).await).unwrap();
        let back = temp.path().join("back");
        skopeo(&[&format!("{kind}:{}", path.display()), &format!("dir:{}", back.display())]);
        let manifest: Value = serde_json::from_slice(&std::fs::read(back.join("manifest.json")).unwrap()).unwrap();
        assert_eq!(manifest["config"]["digest"], config_digest(&hello), "{kind}");
        std::fs::remove_dir_all(back).unwrap();
    }
    let out = temp.path().join("out");
    store.images.save_dir(&[parse("test/hello:3")], &out).await.map_err(|e| told(&e)).unwrap();
    skopeo(&[&format!("oci:{}", out.display()), &format!("dir:{}", at("again"))]);
    let full = store.images.save_dir(&[parse("test/hello:3")], &out).await.unwrap_err();
    assert!(matches!(full, ArchiveError::NotEmpty { .. }));
}

#[tokio::test]
async fn docker_archives_of_old_are_loaded() {
    let (low, high) = (tar(&[file("a", "low")]), tar(&[file("b", "high")]));
    let layers = [low.clone(), high.clone(), low.clone()];
    let made = image(&layers.iter().map(|l| (l.clone(), l.clone())).collect::<Vec<_>>());
    let store = Store::new();
    let loaded =
        store.load(tar(&docker_save(&made, &["old:1", "<none>:<none>", "ghcr.io/x/old:2"], &layers))).await.unwrap();
    assert_eq!(loaded[0].names, [parse("old:1"), parse("ghcr.io/x/old:2")]);
    assert_eq!(loaded[0].config.as_str(), config_digest(&made));
    assert_eq!(store.images.layers(&loaded[0].present.digest).unwrap().len(), 3);

    // Without a name it is listed by its digest, until somebody names it.
    let store = Store::new();
    let nameless = tar(&docker_save(&made, &[], &layers));
    let loaded = store.load(nameless.clone()).await.unwrap();
    assert!(loaded[0].names.is_empty() && store.images.list()[0].names.is_empty());
    assert_eq!(store.images.find(loaded[0].config.short()).unwrap().digest, loaded[0].present.digest);
    let named = store.load_as(nameless, Some("named:1")).await.unwrap();
    assert_eq!(named[0].names, [parse("named:1")]);
    assert_eq!(store.images.present().len(), 1, "it is no longer without a name");
}

#[tokio::test]
async fn several_images_share_their_blobs() {
    let (base, one, two) = (tar(&[file("a", "base")]), tar(&[file("b", "1")]), tar(&[file("b", "2")]));
    let of = |high: &[u8]| image(&[(base.clone(), gzip(&base)), (high.to_vec(), gzip(high))]);
    let (first, second) = (of(&one), of(&two));
    let store = Store::new();
    let all = layout(&[(Some("x.y/one:1"), &first), (Some("x.y/two:1"), &second), (Some("x.y/one:2"), &first)]);
    let loaded = store.load(tar(&all)).await.unwrap();
    assert_eq!(loaded.len(), 2);
    assert_eq!(loaded[0].names, [parse("x.y/one:1"), parse("x.y/one:2")]);
    let saved = store.save(&["x.y/one:1", "x.y/one:2", "x.y/two:1"], ArchiveFormat::Docker).await;
    let mut blobs: Vec<_> =
        tar::Archive::new(&saved[..]).entries().unwrap().map(|e| e.unwrap().path().unwrap().into_owned()).collect();
    blobs.retain(|path| path.starts_with("blobs"));
    assert_eq!(blobs.len(), 3 + 2 + 2, "{blobs:?}");
    let again = Store::new();
    assert_eq!(again.load(saved).await.unwrap().len(), 2);
    assert_eq!(again.images.present().len(), 3);
}

#[tokio::test]
async fn an_index_in_an_archive_leads_to_this_machine() {
    let hello = hello();
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let entry = |arch: &str, digest: &str, size: usize| json!({"mediaType": MANIFEST, "digest": digest, "size": size, "platform": {"os": "linux", "architecture": arch}});
    let absent = format!("sha256:{}", "1".repeat(64));
    let kind = "application/vnd.oci.image.index.v1+json";
    let inner = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [
        entry("s390x", &absent, 5), entry(arch, &sha(&hello.manifest), hello.manifest.len())]})
    .to_string()
    .into_bytes();
    let outer = json!({"schemaVersion": 2, "manifests": [{"mediaType": kind, "digest": sha(&inner), "size": inner.len(),
        "annotations": {"io.containerd.image.name": "docker.io/library/multi:1", "org.opencontainers.image.ref.name": "1"}}]});
    let mut members = layout(&[(None, &hello)]);
    members.retain(|m| m.name != b"index.json");
    members.extend([blob(&sha(&inner), inner.clone()), file("index.json", &outer.to_string())]);
    let store = Store::new();
    let loaded = store.load(tar(&members)).await.unwrap().remove(0);
    assert_eq!(
        (loaded.present.digest.as_str(), loaded.present.top.as_str()),
        (sha(&hello.manifest).as_str(), sha(&inner).as_str())
    );
    assert_eq!(loaded.names, [parse("multi:1")]);
}

#[tokio::test]
async fn hostile_archives_are_refused() {
    let hello = hello();
    let good = || layout(&[(Some("x.y/z:1"), &hello)]);
    let with = |more: Vec<Member>| tar(&[more, good()].concat());
    let without =
        |start: &str| tar(&good().into_iter().filter(|m| !m.name.starts_with(start.as_bytes())).collect::<Vec<_>>());
    let layer = hello.blobs.keys().find(|d| **d != config_digest(&hello)).unwrap().clone();
    let layer_name = format!("blobs/{}", layer.replace(':', "/"));
    let swapped = |member: Member| {
        tar(&good()
            .into_iter()
            .map(|m| if m.name == layer_name.as_bytes() { member.clone() } else { m })
            .collect::<Vec<_>>())
    };
    let mut changed = hello.blobs[&layer].clone();
    let at = changed.len() / 2;
    changed[at] ^= 1;
    let mut long = tar(&[file("endless", "x")]);
    long.splice(124..136, b"\x80\0\0\0\x40\0\0\0\0\0\0\0".iter().copied());
    let sum: u32 =
        long[..512].iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) }).sum();
    long.splice(148..156, format!("{sum:06o}\0 ").into_bytes());
    let whole = with(vec![]);
    let many = |count: usize| (0..count).map(|n| dir(&format!("m{n}/"))).collect::<Vec<_>>();
    let docker = |tags: &[&str]| docker_save(&hello, tags, &[tar(&[]), tar(&[])]);
    let bomb = gzip(&vec![0; 64 << 20]);
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a name that leads out", with(vec![file("../../etc/evil", "x")]), "leads out"),
        ("an absolute name", with(vec![file("/etc/evil", "x")]), "absolute"),
        ("a link that leads out", swapped(link(&layer_name, "../../../../../etc/passwd")), "leads out"),
        ("a link in circles", swapped(link(&layer_name, layer_name.rsplit('/').next().unwrap())), "lacks the layer"),
        ("a device", with(vec![member(b'3', "null")]), "device"),
        ("two manifest.json", tar(&[docker(&["a:1"]), vec![file("manifest.json", "[]")]].concat()), "two members"),
        ("two index.json", with(vec![file("index.json", "{}")]), "two members"),
        ("another content", swapped(Member { data: changed, ..member(b'0', &layer_name) }), "has the content"),
        ("a missing layer", without(&layer_name), "lacks the layer"),
        ("no index", without("index.json"), "no image archive"),
        ("no blobs", without("blobs/sha256/"), "lacks the manifest"),
        ("a layer of another content", tar(&docker(&["a:1"])), "configuration promises"),
        ("a bad name", tar(&docker(&["../../x:1"])), "names an image"),
        ("an endless member", long, "are allowed"),
        ("cut in the middle", whole[..whole.len() / 2].to_vec(), "ends inside"),
        ("cut gzip", gzip(&whole)[..gzip(&whole).len() / 2].to_vec(), "cannot read the archive"),
        ("many members", tar(&many(100_001)), "more than 100000"),
        ("nothing", Vec::new(), "it is empty"),
        ("text", b"hello, world".repeat(100), "is refused"),
        ("zeros", bomb, "no image archive"),
        ("xz", b"\xfd7zXZ\0more".to_vec(), "xz"),
    ];
    for (what, bytes, expected) in table {
        let store = Store::new();
        let error = store.load(bytes).await.expect_err(what);
        assert!(error.contains(expected), "{what}: {error:?} should speak of {expected:?}");
        assert!(store.images.present().is_empty(), "{what}");
        assert!(!error.contains('\u{1b}'));
    }
    assert!(!Path::new("/etc/evil").exists());
}

/// The same bytes again and again, for ever.
struct Endless(Vec<u8>, usize);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.0[self.1 % self.0.len()..];
        let got = rest.len().min(buffer.len());
        buffer[..got].copy_from_slice(&rest[..got]);
        self.1 += got;
        Ok(got)
    }
}

#[tokio::test]
async fn what_never_ends_is_ended() {
    let small = || Limits { layer_bytes: 1 << 20, ratio: 10, ratio_free_bytes: 1 << 20, ..Limits::default() };
    // The same member may come again where its name is its content's.
    let block = tar(&[blob(&sha(b"x"), vec![b'x'; 60_000])]);
    let member = block[..block.len() - 1024].to_vec();
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("members", member.clone(), "it has more than 4194304 bytes"),
        ("members by gzip", gzip(&member), "it unpacks to more than 10 times its size"),
        ("members by zstd", zstd::encode_all(&member[..], 1).unwrap(), "it unpacks to more than 10 times its size"),
        ("gzip of nothing", gzip(b""), "it has more than 4194304 bytes"),
        ("zstd of nothing", b"\x50\x2a\x4d\x18\x04\0\0\0more".to_vec(), "it has more than 4194304 bytes"),
    ];
    for (what, bytes, expected) in table {
        let store = Store::with(small());
        let loading = store.images.load(Endless(bytes.clone(), 0), None, Arc::default());
        let error = tokio::time::timeout(std::time::Duration::from_secs(60), loading).await.expect(what).unwrap_err();
        assert!(told(&error).contains(expected), "{what}: {}", told(&error));
        let name = parse("mine:1");
        let importing = store.images.import(Endless(bytes, 0), &name, ImportChanges::default());
        let error = tokio::time::timeout(std::time::Duration::from_secs(60), importing).await.expect(what).unwrap_err();
        assert!(told(&error).contains("more than"), "{what}: {}", told(&error));
        assert_eq!(store.temp.path().join("images/ingest").read_dir().unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_load_that_fails_leaves_nothing_behind_its_answer() {
    // Two large layers, and in between one that is not what it says.
    let large = |c: &str| tar(&[file("big", &c.repeat(20 << 20))]);
    let layers: Vec<_> = [large("a"), tar(&[file("b", "small")]), large("c")].into();
    let mut made = image(&layers.iter().map(|l| (l.clone(), l.clone())).collect::<Vec<_>>());
    let bad = sha(&layers[1]);
    made.blobs.get_mut(&bad).unwrap()[600] ^= 1;
    let store = Store::new();
    let error = store.load(tar(&layout(&[(Some("a.b/c:1"), &made)]))).await.unwrap_err();
    assert!(error.contains(&bad) && error.contains("has the content"), "{error}");
    assert!(store.images.present().is_empty());
}

#[tokio::test]
async fn layers_of_earlier_versions_say_how_they_can_be_saved() {
    let hello = hello();
    let registry = Script::of(hello.clone());
    let store = Store::new();
    let name = parse(&registry.name());
    let pulled = store.images.pull(&name, None, &Progress::default()).await.map_err(|e| told(&e)).unwrap();
    for diff in store.images.layers(&pulled.digest).unwrap() {
        let layer = diff.parent().unwrap();
        let meta: Value = serde_json::from_slice(&std::fs::read(layer.join("meta.json")).unwrap()).unwrap();
        let old = json!({"diff_id": meta["diff_id"], "bytes": meta["bytes"], "opaque_root": meta["opaque_root"]});
        std::fs::write(layer.join("meta.json"), old.to_string()).unwrap();
        std::fs::remove_file(layer.join("split.zst")).unwrap();
    }
    let save = || store.images.save(std::slice::from_ref(&name), io::sink(), ArchiveFormat::Docker);
    let error = told(&save().await.unwrap_err());
    assert!(error.contains(&format!("`longshore image verify --repair {name}`")), "{error}");
    for finding in store.images.verify(Some(&name)).await.map_err(|e| told(&e)).unwrap() {
        store.images.repair(&finding, &Progress::default()).await.map_err(|e| told(&e)).unwrap();
    }
    save().await.map_err(|e| told(&e)).unwrap();
}

#[tokio::test]
async fn an_archive_that_says_more_than_it_has_changes_nothing() {
    let hello = hello();
    let config = config_digest(&hello);
    let store = Store::with(Limits { config_bytes: 10, ..Limits::default() });
    let error = store.load(tar(&layout(&[(Some("a.b/c:1"), &hello)]))).await.unwrap_err();
    assert!(error.contains("at most 10 are allowed"), "{error}");
    // A configuration under another's name.
    let mut members = docker_save(&hello, &["a:1"], &[tar(&[]), tar(&[])]);
    members[0].data = b"{}".to_vec();
    let error = Store::new().load(tar(&members)).await.unwrap_err();
    assert!(error.contains(&config) && error.contains("has the content"), "{error}");
}

#[tokio::test]
async fn a_reader_that_breaks_off_is_an_error_and_leaves_nothing() {
    struct Broken(io::Cursor<Vec<u8>>);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::new(io::ErrorKind::ConnectionReset, "the client went away")),
                got => Ok(got),
            }
        }
    }
    let store = Store::new();
    let whole = tar(&layout(&[(Some("a.b/c:1"), &hello())]));
    let half = whole[..whole.len() / 3].to_vec();
    let error = store.images.load(Broken(io::Cursor::new(half)), None, Arc::<Progress>::default()).await.unwrap_err();
    assert!(told(&error).contains("the client went away"));
    assert_eq!(store.temp.path().join("images/ingest").read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn a_root_file_system_becomes_an_image() {
    let root = tar(&[dir("bin/"), file("bin/sh", "#!").mode(0o755), link("lib", "usr/lib")]);
    let changes = ImportChanges {
        changes: ["CMD [\"/bin/sh\"]", "ENV A=b", "EXPOSE 80"].map(ToOwned::to_owned).to_vec(),
        message: "from a tar".into(),
        ..ImportChanges::default()
    };
    for bytes in [root.clone(), gzip(&root), zstd::encode_all(&root[..], 1).unwrap()] {
        let store = Store::new();
        let name = parse("mine:1");
        let present =
            store.images.import(io::Cursor::new(bytes), &name, changes.clone()).await.map_err(|e| told(&e)).unwrap();
        let config = store.images.config(&present.digest).unwrap();
        assert_eq!(
            (config.cmd, config.env, config.exposed_ports),
            (vec!["/bin/sh".into()], vec!["A=b".into()], vec!["80/tcp".into()])
        );
        assert_eq!(config.diff_ids[0].as_str(), sha(&root));
        let history = store.images.history(&present.digest).unwrap();
        assert_eq!((history[0].comment.as_str(), history[0].bytes), ("from a tar", root.len() as u64));
        assert_eq!(store.images.list()[0].origin, Origin::Imported);
        assert_eq!(store.trees("mine:1")[0].len(), 3);
    }
    let store = Store::new();
    let bad = ImportChanges { changes: vec!["RUN x".into()], ..ImportChanges::default() };
    let error = store.images.import(io::Cursor::new(root), &parse("mine:1"), bad).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Change { .. }));
    let error = store
        .images
        .import(&b"no tar at all, but long enough to be one"[..], &parse("m:1"), ImportChanges::default())
        .await;
    assert!(error.is_err() && store.images.present().is_empty());
}

#[tokio::test]
async fn a_pulled_image_is_made_into_an_archive_again() {
    let hello = hello();
    let registry = Script::of(hello.clone());
    let store = Store::new();
    let name = parse(&registry.name());
    let pulled = store.images.pull(&name, None, &Progress::default()).await.map_err(|e| told(&e)).unwrap();
    let saved = store.save(&[&registry.name()], ArchiveFormat::Docker).await;
    let second = Store::new();
    let loaded = second.load(saved.clone()).await.unwrap().remove(0);
    assert_eq!(loaded.config.as_str(), config_digest(&hello), "the image's id stays");
    assert_ne!(loaded.present.digest, pulled.digest, "its layers are no longer compressed");
    assert_eq!(second.trees(&registry.name()), store.trees(&registry.name()));
    // What was made again is made again as the same bytes.
    assert_eq!(second.save(&[&registry.name()], ArchiveFormat::Docker).await, saved);
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("saved.tar");
    std::fs::write(&path, saved).unwrap();
    for kind in ["docker-archive", "oci-archive"] {
        let back = temp.path().join(kind);
        skopeo(&[&format!("{kind}:{}", path.display()), &format!("dir:{}", back.display())]);
        let manifest: Value = serde_json::from_slice(&std::fs::read(back.join("manifest.json")).unwrap()).unwrap();
        assert_eq!(manifest["config"]["digest"], config_digest(&hello), "{kind}");
    }
    // A layer that changed on this disk does not go out as if it were whole.
    let layer = store.images.layers(&pulled.digest).unwrap().remove(0);
    std::fs::write(layer.join("hello"), "LOW").unwrap();
    let error = store.images.save(&[name], io::sink(), ArchiveFormat::Oci).await.unwrap_err();
    assert!(told(&error).contains("damaged"), "{}", told(&error));
}
