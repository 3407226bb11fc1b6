//! Images that are here: names that move, removal, what a crash leaves, and what is told of them.
//! Needs root, as the daemon does.

#[expect(dead_code, reason = "each test program uses its own part")]
mod image_support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use image_support::{Answer, Image, Script, dir, file, gzip, image, serve, sha, tar, told};
use longshore::image::{FindError, Images, Origin, Part, Progress, Settings, StoreError};
use longshore::model::{Digest, ImageReference};

fn parse(name: &str) -> ImageReference {
    ImageReference::parse(name).unwrap()
}

fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut members = vec![dir("d/")];
    members.extend(files.iter().map(|(name, data)| file(name, data)));
    tar(&members)
}

/// An image of the layers of these archives.
fn made(layers: &[&[u8]]) -> Image {
    image(&layers.iter().map(|l| (l.to_vec(), gzip(l))).collect::<Vec<_>>())
}

/// A registry whose tags can be moved.
struct Tags {
    script: Script,
    tags: Arc<Mutex<std::collections::BTreeMap<String, Image>>>,
}

impl Tags {
    fn start() -> Self {
        let tags = Arc::<Mutex<std::collections::BTreeMap<String, Image>>>::default();
        let all = Arc::clone(&tags);
        let script = Script::start(move |path| {
            let name = path.rsplit('/').next().unwrap().to_owned();
            let all = all.lock().unwrap();
            let fits = |(tag, image): &(&String, &Image)| {
                **tag == name || sha(&image.manifest) == name || image.blobs.contains_key(&name)
            };
            match all.iter().find(fits) {
                Some((_, image)) => serve(image, path),
                None => Answer::Whole(404, String::new(), vec![]),
            }
        });
        Self { script, tags }
    }
    fn set(&self, tag: &str, image: Image) {
        self.tags.lock().unwrap().insert(tag.into(), image);
    }
    fn name(&self, tag: &str) -> ImageReference {
        parse(&format!("{}/test/it:{tag}", self.script.address))
    }
}

struct Lab {
    temp: tempfile::TempDir,
    images: Images,
    tags: Tags,
}

impl Lab {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let images = Images::open(&temp.path().join("images"), Settings::default()).unwrap();
        Self { temp, images, tags: Tags::start() }
    }
    fn dir(&self) -> PathBuf {
        self.temp.path().join("images")
    }
    async fn pull(&self, tag: &str) -> Digest {
        let pulled = self.images.pull(&self.tags.name(tag), None, &Progress::default()).await;
        pulled.map_err(|e| told(&e)).unwrap().digest
    }
    fn reopened(self) -> Self {
        let images = Images::open(&self.dir(), Settings::default()).unwrap();
        Self { images, ..self }
    }
    fn names(&self, below: &str) -> BTreeSet<String> {
        names(&self.dir().join(below))
    }
    fn references(&self) -> Vec<String> {
        let short = |name: &ImageReference| {
            name.tag().map_or_else(|| format!("@{}", name.digest().unwrap()), ToOwned::to_owned)
        };
        let mut all: Vec<_> = self.images.present().keys().map(short).collect();
        all.sort();
        all
    }
}

fn names(dir: &Path) -> BTreeSet<String> {
    std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

fn hex(tar: &[u8]) -> String {
    sha(tar)[7..].to_owned()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "{what} does not come about");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_tag_that_moves_leaves_the_old_image_until_it_is_removed() {
    let lab = Lab::new();
    let (base, old, new) = (layer(&[("a", "base")]), layer(&[("a", "old")]), layer(&[("a", "new")]));
    lab.tags.set("t", made(&[&base, &old]));
    let first = lab.pull("t").await;
    lab.images.pin(&lab.tags.name("t"), true).await.unwrap();
    lab.tags.set("t", made(&[&base, &new]));
    let second = lab.pull("t").await;
    assert_ne!(first, second);
    assert_eq!(lab.references(), [format!("@{first}"), "t".to_owned()]);
    assert_eq!(lab.images.layers(&first).unwrap().len(), 2);

    let listed = lab.images.list();
    let of = |digest: &Digest| listed.iter().find(|l| l.digest == *digest).unwrap();
    assert!(of(&first).names.is_empty() && of(&first).references.len() == 1 && !of(&first).pinned);
    assert!(of(&second).names == [lab.tags.name("t")] && of(&second).pinned, "the pin stays with the name");

    let lab = lab.reopened();
    assert_eq!(lab.references().len(), 2, "{:?}", lab.images.warnings());
    let untagged = lab.images.present().into_keys().find(|n| n.tag().is_none()).unwrap();
    let removed = lab.images.remove(&untagged).await.unwrap();
    assert_eq!((removed.untagged.len(), removed.layers), (1, 1));
    assert!(removed.freed > 0);
    assert_eq!(lab.names("layers"), BTreeSet::from([hex(&base), hex(&new)]));
    assert!(lab.names("trash").is_empty(), "removal ends when the space is free");
    assert!(matches!(lab.images.layers(&first), Err(StoreError::Missing { .. })));

    // Back to the first: pulled anew, and the second is left behind this time.
    lab.tags.set("t", made(&[&base, &old]));
    assert_eq!(lab.pull("t").await, first);
    lab.tags.set("t", made(&[&base, &new]));
    assert_eq!(lab.pull("t").await, second);
    assert_eq!(lab.references(), [format!("@{first}"), "t".to_owned()], "what has a name again is not untagged");
}

#[tokio::test]
async fn removal_takes_exactly_what_nobody_refers_to() {
    let lab = Lab::new();
    let (base, left, right) = (layer(&[("a", "base")]), layer(&[("b", "left")]), layer(&[("c", "right")]));
    lab.tags.set("left", made(&[&base, &left]));
    lab.tags.set("right", made(&[&base, &right]));
    let (l, r) = (lab.pull("left").await, lab.pull("right").await);
    let before = lab.images.usage().unwrap();
    assert_eq!((before.images.len(), before.layers.len(), before.unreferenced()), (2, 3, 0));
    assert!(before.images.iter().all(|i| i.own > 0 && i.shared > 0));
    let blobs = lab.names("blobs/sha256");

    lab.images.tag(&l, &parse("mine:1")).await.unwrap();
    assert_eq!(lab.images.remove(&lab.tags.name("left")).await.unwrap().layers, 0, "it has another name");
    assert_eq!(lab.names("layers").len(), 3);
    let listed = lab.images.list();
    assert_eq!(listed.iter().find(|i| i.digest == l).unwrap().origin, Origin::Tagged);

    let own = before.images.iter().find(|i| i.digest == l).unwrap().own;
    let removed = lab.images.remove_digest(&l).await.unwrap();
    assert_eq!((removed.untagged, removed.layers), (vec![parse("mine:1")], 1));
    assert!(removed.freed >= own, "{} of {own}", removed.freed);
    assert_eq!(lab.names("layers"), BTreeSet::from([hex(&base), hex(&right)]));
    assert_eq!(lab.images.layers(&r).unwrap().len(), 2);
    let now = lab.names("blobs/sha256");
    assert_eq!((blobs.len(), now.len()), (4, 2), "manifest and configuration of each");

    let unknown = lab.images.remove(&parse("mine:1")).await.unwrap_err();
    assert_eq!(told(&unknown), "there is no image docker.io/library/mine:1 here");
    lab.images.remove(&lab.tags.name("right")).await.unwrap();
    assert!(lab.names("layers").is_empty() && lab.names("blobs/sha256").is_empty() && lab.names("refs").is_empty());
    let empty = lab.images.usage().unwrap();
    assert!(empty.layers.is_empty() && empty.images.is_empty());
    assert_eq!(lab.images.sweep().await.unwrap().freed, 0);
}

#[tokio::test]
async fn a_removal_during_a_pull_of_a_sharing_image_leaves_the_pull_its_layers() {
    let lab = Lab::new();
    let (base, slow) = (layer(&[("a", "base")]), layer(&[("b", "slow")]));
    lab.tags.set("small", made(&[&base]));
    lab.pull("small").await;

    // Its second layer hangs until the gate opens; by then its first was found present.
    let big = made(&[&base, &slow]);
    let (late, gate) = (sha(&gzip(&slow)), Arc::new(std::sync::Barrier::new(2)));
    let (served, at_gate, asked) =
        (big.clone(), Arc::clone(&gate), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let mark = Arc::clone(&asked);
    let script = Script::start(move |path| {
        if path.ends_with(&late) {
            mark.store(true, std::sync::atomic::Ordering::SeqCst);
            at_gate.wait();
        }
        serve(&served, path)
    });
    let (images, name) = (lab.images.clone(), parse(&script.name()));
    let other = name.clone();
    let pull = tokio::spawn(async move { images.pull(&other, None, &Progress::default()).await });
    until("the pull", || asked.load(std::sync::atomic::Ordering::SeqCst)).await;
    let removed = lab.images.remove(&lab.tags.name("small")).await.unwrap();
    assert_eq!((removed.untagged.len(), removed.layers), (1, 0), "the layer is held");
    assert_eq!(lab.images.sweep().await.unwrap().layers, 0);
    tokio::task::spawn_blocking(move || gate.wait()).await.unwrap();
    let present = pull.await.unwrap().map_err(|e| told(&e)).unwrap();
    assert_eq!(lab.images.layers(&present.digest).unwrap().len(), 2);
    assert_eq!(lab.images.remove(&name).await.unwrap().layers, 2, "afterwards nobody holds it");
}

#[tokio::test]
async fn pulls_and_removals_at_once_never_break_an_image() {
    let lab = Lab::new();
    let base = layer(&[("a", "base")]);
    for tag in ["a", "b", "c"] {
        lab.tags.set(tag, made(&[&base, &layer(&[("own", tag)])]));
    }
    let mut tasks = Vec::new();
    for tag in ["a", "b", "c"] {
        let (images, name) = (lab.images.clone(), lab.tags.name(tag));
        tasks.push(tokio::spawn(async move {
            for _ in 0..12 {
                let present = images.pull(&name, None, &Progress::default()).await.map_err(|e| told(&e)).unwrap();
                let layers = images.layers(&present.digest).unwrap();
                assert!(layers.iter().all(|l| l.join("d").is_dir()), "{layers:?}");
                images.remove(&name).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(lab.names("layers").is_empty() && lab.names("refs").is_empty());
}

#[tokio::test]
async fn what_a_crash_leaves_is_swept_and_breaks_nothing() {
    let lab = Lab::new();
    let (base, lost) = (layer(&[("a", "base")]), layer(&[("b", "lost")]));
    lab.tags.set("t", made(&[&base]));
    lab.tags.set("gone", made(&[&base, &lost]));
    let digest = lab.pull("t").await;
    lab.pull("gone").await;
    // The reference went, then the power.
    let refs = lab.dir().join("refs");
    for name in names(&refs) {
        let path = refs.join(name);
        if std::fs::read_to_string(&path).unwrap().contains(":gone") {
            std::fs::remove_file(path).unwrap();
        }
    }
    // Half made, half deleted.
    for half in ["ingest/1-1/diff/x", "trash/1-1/diff/y"] {
        std::fs::create_dir_all(lab.dir().join(half)).unwrap();
    }
    let lab = lab.reopened();
    assert!(lab.images.warnings().is_empty(), "{:?}", lab.images.warnings());
    until("the trash is emptied", || lab.names("trash").is_empty() && lab.names("ingest").is_empty()).await;
    assert_eq!(lab.images.usage().unwrap().layers.iter().filter(|l| l.images == 0).count(), 1);
    let swept = lab.images.sweep().await.unwrap();
    assert_eq!((swept.layers, swept.untagged.len()), (1, 0));
    assert_eq!(lab.names("layers"), BTreeSet::from([hex(&base)]));
    assert_eq!(lab.images.layers(&digest).unwrap().len(), 1);

    // A reference that cannot be read may lead anywhere: nothing is swept, and the warning names the file.
    std::fs::create_dir_all(lab.dir().join("layers").join("0".repeat(64)).join("diff")).unwrap();
    std::fs::write(refs.join("broken.json"), "{").unwrap();
    let lab = lab.reopened();
    assert!(lab.images.warnings()[0].contains("broken.json"), "{:?}", lab.images.warnings());
    assert_eq!(lab.images.sweep().await.unwrap().layers, 0);
    std::fs::remove_file(refs.join("broken.json")).unwrap();
    assert_eq!(lab.images.sweep().await.unwrap().layers, 1);
}

#[tokio::test]
async fn a_damaged_image_keeps_the_layers_that_are_left() {
    let lab = Lab::new();
    let (base, high) = (layer(&[("a", "base")]), layer(&[("b", "high")]));
    lab.tags.set("t", made(&[&base, &high]));
    let digest = lab.pull("t").await;
    std::fs::write(lab.dir().join("blobs/sha256").join(digest.hex()), "damaged").unwrap();
    let lab = lab.reopened();
    assert!(lab.references().is_empty() && lab.images.warnings().len() == 1);
    assert_eq!(lab.images.sweep().await.unwrap().layers, 0, "containers may run from them");
    assert_eq!(lab.pull("t").await, digest);
    let removed = lab.images.remove(&lab.tags.name("t")).await.unwrap();
    assert_eq!(removed.layers, 2);
}

#[tokio::test]
async fn records_of_old_stay_readable() {
    let lab = Lab::new();
    let base = layer(&[("a", "base")]);
    lab.tags.set("t", made(&[&base]));
    let digest = lab.pull("t").await;
    let path = lab.dir().join("refs").join(lab.names("refs").pop_first().unwrap());
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let old = ["reference", "manifest", "top", "config", "platform", "bytes", "pulled_at_ms"];
    record.as_object_mut().unwrap().retain(|key, _| old.contains(&key.as_str()));
    assert_eq!(record.as_object().unwrap().len(), old.len());
    std::fs::write(&path, record.to_string()).unwrap();
    let lab = lab.reopened();
    assert_eq!(lab.images.find("t").map_err(|e| matches!(e, FindError::Unknown { .. })), Err(true));
    assert_eq!(lab.images.find(&lab.tags.name("t").to_string()).unwrap().digest, digest);
    assert_eq!(lab.images.sweep().await.unwrap().layers, 0);
}

#[tokio::test]
async fn uses_and_pins_outlive_the_daemon() {
    let lab = Lab::new();
    lab.tags.set("t", made(&[&layer(&[("a", "base")])]));
    let digest = lab.pull("t").await;
    assert_eq!(lab.images.list()[0].last_used, None);
    lab.images.used(&digest);
    let noted = lab.images.list()[0].last_used;
    assert!(noted.is_some());
    let path = lab.dir().join("refs").join(lab.names("refs").pop_first().unwrap());
    until("the use is written", || std::fs::read_to_string(&path).unwrap().contains("last_used_ms")).await;
    let written = std::fs::metadata(&path).unwrap().modified().unwrap();
    lab.images.used(&digest);
    lab.images.pin(&lab.tags.name("t"), true).await.unwrap();
    lab.pull("t").await;
    let lab = lab.reopened();
    let listed = lab.images.list().remove(0);
    assert!(listed.last_used >= noted && listed.pinned && listed.origin == Origin::Pulled);
    assert!(std::fs::metadata(&path).unwrap().modified().unwrap() >= written);
    lab.images.pin(&lab.tags.name("t"), false).await.unwrap();
    assert!(!lab.reopened().images.list()[0].pinned);
}

#[tokio::test]
async fn an_image_tells_of_itself() {
    let lab = Lab::new();
    let (base, high) = (layer(&[("a", "base")]), layer(&[("b", "high")]));
    let image = made(&[&base, &high]);
    lab.tags.set("t", image.clone());
    let digest = lab.pull("t").await;
    let told = lab.images.inspect(&digest).unwrap();
    assert_eq!(told.manifest.as_bytes(), image.manifest);
    assert_eq!(told.names, [lab.tags.name("t")]);
    assert_eq!(told.sources, [format!("{}/test/it", lab.tags.script.address)]);
    assert_eq!(told.layers.iter().map(|l| l.diff_id.to_string()).collect::<Vec<_>>(), [sha(&base), sha(&high)]);
    assert_eq!(told.layers[0].bytes, base.len() as u64);
    assert_eq!(told.layers[1].size, gzip(&high).len() as u64);
    let history = lab.images.history(&digest).unwrap();
    assert_eq!(history.iter().map(|h| h.bytes).collect::<Vec<_>>(), [base.len() as u64, high.len() as u64]);
    assert!(lab.images.inspect(&Digest::parse(&sha(b"none")).unwrap()).is_err());
}

/// Verifies all, and makes right what was found; what was found.
async fn verify_and_repair(lab: &Lab) -> Vec<(Part, String)> {
    let findings = lab.images.verify(None).await.map_err(|e| told(&e)).unwrap();
    for finding in &findings {
        lab.images.repair(finding, &Progress::default()).await.map_err(|e| told(&e)).unwrap();
    }
    assert_eq!(lab.images.verify(None).await.map_err(|e| told(&e)).unwrap(), [], "after {findings:?}");
    findings.into_iter().map(|f| (f.part, f.damage)).collect()
}

#[tokio::test]
async fn damage_is_found_and_made_right() {
    let lab = Lab::new();
    let (base, high) = (layer(&[("a", "base"), ("d/b", "deep")]), layer(&[("b", "high")]));
    lab.tags.set("t", made(&[&base, &high]));
    let digest = lab.pull("t").await;
    let diff = lab.images.layers(&digest).unwrap().remove(0);
    assert_eq!(verify_and_repair(&lab).await, []);

    type Damage = fn(&Path);
    let damages: &[(&str, Damage)] = &[
        ("a changed byte", |diff| {
            // Same length, same times: only the content tells.
            let path = diff.join("a");
            let times = std::fs::metadata(&path).unwrap().modified().unwrap();
            std::fs::write(&path, "bAse").unwrap();
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
        }),
        ("another mode", |diff| {
            std::fs::set_permissions(diff.join("a"), std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
        }),
        ("a planted file", |diff| std::fs::write(diff.join("d/planted"), "x").unwrap()),
        ("a missing file", |diff| std::fs::remove_file(diff.join("d/b")).unwrap()),
        ("a missing directory", |diff| std::fs::remove_dir_all(diff.join("d")).unwrap()),
    ];
    for (what, damage) in damages {
        let open = std::fs::File::open(diff.join("a")).unwrap();
        damage(&diff);
        let found = verify_and_repair(&lab).await;
        assert_eq!(found.iter().map(|(part, _)| *part).collect::<Vec<_>>(), [Part::Layer], "{what}: {found:?}");
        assert_eq!(std::fs::read_to_string(diff.join("a")).unwrap(), "base", "{what}");
        assert_eq!(std::io::read_to_string(open).unwrap().len(), 4, "whoever had it open keeps it");
    }
    // Overlays that stand may need the old trees until the machine restarts.
    assert_eq!(lab.names("replaced").len(), damages.len());
    let lab = lab.reopened();
    assert_eq!(lab.names("replaced").len(), damages.len());
    std::fs::rename(
        lab.dir().join("replaced").join(lab.names("replaced").pop_first().unwrap()),
        lab.dir().join("replaced/00-1"),
    )
    .unwrap();
    let lab = lab.reopened();
    assert_eq!(lab.names("replaced").len(), damages.len() - 1, "a tree of another boot goes");
}

#[tokio::test]
async fn damaged_documents_and_lost_layers_are_made_right() {
    let lab = Lab::new();
    let (base, high) = (layer(&[("a", "base")]), layer(&[("b", "high")]));
    lab.tags.set("t", made(&[&base, &high]));
    let digest = lab.pull("t").await;
    let config = lab.images.inspect(&digest).unwrap().config_digest;
    for document in [&digest, &config] {
        let path = lab.dir().join("blobs/sha256").join(document.hex());
        for damage in [Some("damaged"), None] {
            match damage {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            assert_eq!(verify_and_repair(&lab).await[0].0, Part::Document);
        }
    }
    // Lost while the daemon was down: it is not used, but it is found, fetched and used again.
    let gone = lab.dir().join("layers").join(hex(&base));
    std::fs::remove_dir_all(&gone).unwrap();
    let lab = lab.reopened();
    assert!(lab.images.present().is_empty());
    assert_eq!(verify_and_repair(&lab).await, [(Part::Layer, "it is missing".to_owned())]);
    assert_eq!(lab.images.present().len(), 1);
    assert_eq!(lab.images.layers(&digest).unwrap().len(), 2);

    // The tag moved meanwhile: the repair goes by digest.
    lab.tags.set("old", made(&[&base, &high]));
    lab.tags.set("t", made(&[&high]));
    std::fs::remove_dir_all(&gone).unwrap();
    assert_eq!(verify_and_repair(&lab).await.len(), 1);
    assert_eq!(lab.images.find(&lab.tags.name("t").to_string()).unwrap().digest, digest);

    let unknown = lab.images.verify(Some(&parse("nothing"))).await.unwrap_err();
    assert!(matches!(unknown, StoreError::Unknown { .. }));
}

#[tokio::test]
async fn what_came_from_no_registry_says_how_it_is_made_right() {
    let lab = Lab::new();
    let root = tar(&[file("a", "root")]);
    let name = parse("mine:1");
    lab.images
        .import(std::io::Cursor::new(root.clone()), &name, Default::default())
        .await
        .map_err(|e| told(&e))
        .unwrap();
    std::fs::remove_dir_all(lab.dir().join("layers").join(hex(&root))).unwrap();
    let finding = lab.images.verify(Some(&name)).await.unwrap().remove(0);
    let error = lab.images.repair(&finding, &Progress::default()).await.unwrap_err();
    assert!(told(&error).contains("load or import it again"));
    lab.images.import(std::io::Cursor::new(root), &name, Default::default()).await.map_err(|e| told(&e)).unwrap();
    assert_eq!(lab.images.verify(Some(&name)).await.unwrap(), []);
}
