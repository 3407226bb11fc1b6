//! Images that are only said to be there.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use longshore::api::wire::{
    CommitAsk, DiskItem, DiskKind, DiskRow, DiskUse, FindingState, HistoryEntry, ImageDetails, ImageEntry,
    ImageFinding, ImagePart, ImageProgress, ImportAsk, LayerState, LayerStep, LoadAsk, Loaded, LoadedImage, PinAsk,
    Pinned, PruneAsk, Pruned, PrunedImage, PullAsk, Pulled, PushAsk, Pushed, RemoveAsk, RemovedImage, SaveAsk, TagAsk,
    Tagged, Time, Verified, VerifyAsk,
};
use longshore::api::{Answer, ByteStream, Findings, ImageDoor, Job, Refusal, RefusalKind};
use longshore::model::{ContainerId, Timestamp};

pub(crate) const NGINX: &str = "docker.io/library/nginx:1.29";

/// Knows one image; notes what it was asked.
#[derive(Default)]
pub(crate) struct Shelf {
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    /// Bytes that came by load and import.
    pub(crate) received: Arc<AtomicU64>,
    /// How many bytes of an archive were made.
    pub(crate) made: Arc<AtomicU64>,
    /// Whether an endless job was given up.
    pub(crate) dropped: Arc<AtomicBool>,
}

struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn digest() -> String {
    format!("sha256:{}", "a".repeat(64))
}

fn entry() -> ImageEntry {
    ImageEntry {
        names: vec![NGINX.to_owned()],
        digest: digest(),
        top: digest(),
        platform: "linux/amd64".to_owned(),
        bytes: 70_000_000,
        disk_bytes: 190_000_000,
        created: Some(Time::from(Timestamp(1_700_000_000_000))),
        pulled: Time::from(Timestamp(1_800_000_000_000)),
        last_used: None,
        pinned: false,
        origin: "pulled".to_owned(),
        used_by: vec!["shop-web-1".to_owned()],
    }
}

fn unknown(name: &str) -> Refusal {
    Refusal::new(RefusalKind::Unknown, format!("no image is called {name:?}")).hint("`longshore image ls` lists them")
}

fn known(name: &str) -> Result<(), Refusal> {
    if name.contains("nginx") { Ok(()) } else { Err(unknown(name)) }
}

fn still<T: Send + 'static>(outcome: Result<T, Refusal>) -> Job<T> {
    Job { progress: Box::new(ImageProgress::default), outcome: async { outcome }.boxed() }
}

impl Shelf {
    fn note(&self, what: impl std::fmt::Debug) {
        self.asked.lock().unwrap().push(format!("{what:?}"));
    }
    fn read(&self, name: Option<String>, mut archive: ByteStream) -> Job<Loaded> {
        let received = Arc::clone(&self.received);
        let outcome = async move {
            while let Some(piece) = archive.next().await {
                let piece = piece.map_err(|err| Refusal::new(RefusalKind::Failed, format!("cut: {err}")))?;
                received.fetch_add(piece.len() as u64, Ordering::SeqCst);
                if piece.starts_with(b"not an archive") {
                    return Err(Refusal::new(RefusalKind::Invalid, "this is not an archive"));
                }
            }
            Ok(Loaded { images: vec![LoadedImage { image: name, digest: digest() }] })
        };
        Job { progress: Box::new(ImageProgress::default), outcome: outcome.boxed() }
    }
}

impl ImageDoor for Shelf {
    fn list(&self) -> Answer<'_, Vec<ImageEntry>> {
        async { Ok(vec![entry()]) }.boxed()
    }
    fn inspect(&self, name: String) -> Answer<'_, ImageDetails> {
        let found = known(&name).map(|()| ImageDetails {
            image: entry(),
            sources: vec!["docker.io/library/nginx".to_owned()],
            layers: Vec::new(),
            manifest: serde_json::json!({ "schemaVersion": 2 }),
            config: serde_json::json!({}),
        });
        async { found }.boxed()
    }
    fn history(&self, name: String) -> Answer<'_, Vec<HistoryEntry>> {
        let step = HistoryEntry {
            created: None,
            created_by: "CMD [\"nginx\"]".to_owned(),
            comment: String::new(),
            diff_id: None,
            bytes: 0,
        };
        async move { known(&name).map(|()| vec![step]) }.boxed()
    }
    /// `endless` never ends, `broken` fails after a wait, all others come in three steps.
    fn pull(&self, ask: PullAsk) -> Result<Job<Pulled>, Refusal> {
        self.note(&ask);
        if ask.image.contains('!') {
            return Err(Refusal::new(RefusalKind::Invalid, "this is no name of an image"));
        }
        let done = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&done);
        let progress = move || {
            let done = seen.load(Ordering::SeqCst);
            let state = if done == 30 { LayerState::Done } else { LayerState::Fetching };
            let layer = LayerStep { digest: digest(), done, total: 30, state };
            ImageProgress { done, total: Some(30), layers: vec![layer], ..ImageProgress::default() }
        };
        let flag = Flag(Arc::clone(&self.dropped));
        let outcome = async move {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(250)).await;
                done.fetch_add(10, Ordering::SeqCst);
            }
            if ask.image.contains("endless") {
                let _flag = flag;
                std::future::pending::<()>().await;
            } else if ask.image.contains("broken") {
                return Err(Refusal::new(RefusalKind::Failed, "the registry is on fire").hint("bring water"));
            }
            Ok(Pulled { image: ask.image, digest: digest(), bytes: 30, changed: true })
        };
        Ok(Job { progress: Box::new(progress), outcome: outcome.boxed() })
    }
    fn push(&self, ask: PushAsk) -> Result<Job<Pushed>, Refusal> {
        known(&ask.image)?;
        let pushed = Pushed { image: ask.image, digest: digest(), same: true, present: 0, mounted: 0, uploaded: 30 };
        Ok(still(Ok(pushed)))
    }
    fn tag(&self, ask: TagAsk) -> Answer<'_, Tagged> {
        async move { known(&ask.source).map(|()| Tagged { image: ask.target, digest: digest() }) }.boxed()
    }
    fn remove(&self, ask: RemoveAsk) -> Answer<'_, RemovedImage> {
        async move {
            known(&ask.image)?;
            if !ask.force {
                let message = "it is used by the container shop-web-1".to_owned();
                return Err(Refusal::new(RefusalKind::InUse, message).hint("remove the service from its file"));
            }
            Ok(RemovedImage { untagged: vec![NGINX.to_owned()], layers: 2, freed: 4096 })
        }
        .boxed()
    }
    fn pin(&self, ask: PinAsk) -> Answer<'_, Pinned> {
        async move { known(&ask.image).map(|()| Pinned { image: NGINX.to_owned(), pinned: ask.pinned }) }.boxed()
    }
    fn prune(&self, ask: PruneAsk) -> Answer<'_, Pruned> {
        self.note(&ask);
        let image = PrunedImage { image: NGINX.to_owned(), digest: digest(), bytes: 4096 };
        async { Ok(Pruned { images: vec![image], freed: 4096 }) }.boxed()
    }
    /// Finds one thing in each image but those that are called `whole`.
    fn verify(&self, ask: VerifyAsk) -> Result<(Job<Verified>, Findings), Refusal> {
        self.note(&ask);
        ask.images.iter().try_for_each(|name| known(name))?;
        let found = ImageFinding {
            image: NGINX.to_owned(),
            part: ImagePart::Layer,
            what: digest(),
            damage: "etc/motd: its size is not what was unpacked".to_owned(),
            state: FindingState::Damaged,
            error: None,
        };
        let mut all = if ask.images.iter().any(|name| name.contains("whole")) { Vec::new() } else { vec![found] };
        if ask.repair {
            all.extend(all.clone().into_iter().map(|found| ImageFinding { state: FindingState::Repaired, ..found }));
        }
        let verified = Verified { images: vec![NGINX.to_owned()], findings: all.last().cloned().into_iter().collect() };
        let checks = || ImageProgress { checks: Some(NGINX.to_owned()), total: Some(30), ..ImageProgress::default() };
        let outcome = async {
            tokio::time::sleep(Duration::from_millis(250)).await;
            Ok(verified)
        };
        Ok((Job { progress: Box::new(checks), outcome: outcome.boxed() }, stream::iter(all).boxed()))
    }
    /// `cut` in a name breaks in the middle, `endless` goes on for ever.
    fn save(&self, ask: SaveAsk) -> Answer<'_, ByteStream> {
        self.note(&ask);
        let made = Arc::clone(&self.made);
        async move {
            ask.names.iter().try_for_each(|name| known(name))?;
            let endless = ask.names.iter().any(|name| name.contains("endless"));
            let cut = ask.names.iter().any(|name| name.contains("cut"));
            let pieces = (0u32..).map(move |number| match number {
                2 if cut => Err(io::Error::other("a disk is gone")),
                _ => {
                    made.fetch_add(65_536, Ordering::SeqCst);
                    Ok(vec![b'x'; 65_536].into())
                }
            });
            let pieces = pieces.take(if endless { usize::MAX } else { 4 });
            Ok(stream::iter(pieces).boxed())
        }
        .boxed()
    }
    fn load(&self, ask: LoadAsk, archive: ByteStream) -> Result<Job<Loaded>, Refusal> {
        Ok(self.read(ask.name, archive))
    }
    fn commit(&self, _: &ContainerId, ask: CommitAsk) -> Result<Job<Loaded>, Refusal> {
        let image = LoadedImage { image: ask.image, digest: format!("pause {}", ask.pause) };
        let outcome = std::future::ready(Ok(Loaded { images: vec![image] }));
        Ok(Job { progress: Box::new(ImageProgress::default), outcome: Box::pin(outcome) })
    }
    fn import(&self, ask: ImportAsk, archive: ByteStream) -> Result<Job<Loaded>, Refusal> {
        self.note(&ask);
        Ok(self.read(Some(ask.name), archive))
    }
    fn disk_use(&self, items: bool) -> Answer<'_, DiskUse> {
        let item =
            DiskItem { name: NGINX.to_owned(), bytes: 4096, shared: 0, active: true, since: None, used_by: vec![] };
        let items = if items { vec![item] } else { Vec::new() };
        let row = DiskRow { kind: DiskKind::Images, count: 1, active: 1, bytes: 4096, reclaimable: 0, items };
        async { Ok(DiskUse { rows: vec![row] }) }.boxed()
    }
}
