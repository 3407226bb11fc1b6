//! Volumes over HTTP: a door that knows one volume, and what the routes make of what it says.

use std::collections::BTreeMap;

use axum::body::Bytes;
use futures_util::stream::StreamExt as _;
use futures_util::{FutureExt as _, stream};
use longshore::api::wire::{
    DiskKind, DiskRow, ImageProgress, ImportedVolume, PrunedVolumes, RemovedVolume, RestoredVolume, VolumeAsk,
    VolumeEntry, VolumePruneAsk, VolumeSnapshot,
};
use longshore::api::{Answer, ByteStream, Job, Refusal, RefusalKind, VolumeDoor};
use longshore::model::Timestamp;
use serde_json::{Value, json};

use super::served::{ask, serve};

/// One volume, `data`, and one copy of it, `before`.
pub(crate) struct Cellar;

fn entry(name: String, size: bool) -> Result<VolumeEntry, Refusal> {
    if name != "data" {
        return Err(Refusal::new(RefusalKind::NoVolume, format!("there is no volume {name}")));
    }
    Ok(VolumeEntry {
        name,
        driver: "local".into(),
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        created: Timestamp(1_800_000_000_000).into(),
        path: "/data".into(),
        anonymous: false,
        mounted: false,
        used_by: vec!["shop-db-1".into()],
        defined_by: vec![],
        unused: false,
        bytes: size.then_some(7),
        files: size.then_some(1),
    })
}

fn copy(name: &str) -> VolumeSnapshot {
    VolumeSnapshot { volume: "data".into(), name: name.into(), created: Timestamp(0).into(), bytes: 7 }
}

fn job<T: Send + 'static>(outcome: Result<T, Refusal>) -> Job<T> {
    Job { progress: Box::new(ImageProgress::default), outcome: async { outcome }.boxed() }
}

fn answer<'a, T: Send + 'a>(outcome: Result<T, Refusal>) -> Answer<'a, T> {
    async { outcome }.boxed()
}

impl VolumeDoor for Cellar {
    fn list(&self, sizes: bool) -> Answer<'_, Vec<VolumeEntry>> {
        answer(entry("data".into(), sizes).map(|one| vec![one]))
    }
    fn inspect(&self, name: String, size: bool) -> Answer<'_, VolumeEntry> {
        answer(entry(name, size))
    }
    fn create(&self, ask: VolumeAsk) -> Answer<'_, VolumeEntry> {
        let exists = Refusal::new(RefusalKind::Exists, format!("the volume {} exists", ask.name));
        answer(if ask.driver_opts.is_empty() { entry(ask.name, false) } else { Err(exists) })
    }
    fn remove(&self, name: String) -> Answer<'_, RemovedVolume> {
        answer(Err(Refusal::new(RefusalKind::InUse, format!("the volume {name} is needed by the container shop-db-1"))))
    }
    fn prune(&self, _: VolumePruneAsk) -> Answer<'_, PrunedVolumes> {
        answer(Ok(PrunedVolumes::default()))
    }
    fn export(&self, name: String) -> Answer<'_, ByteStream> {
        answer(entry(name, false).map(|_| stream::iter([Ok(Bytes::from("a tar"))]).boxed()))
    }
    fn import(&self, name: String, replace: bool, mut archive: ByteStream) -> Result<Job<ImportedVolume>, Refusal> {
        let outcome = async move {
            let mut size = 0;
            while let Some(piece) = archive.next().await {
                size += piece.map_or(0, |piece| piece.len());
            }
            Ok(ImportedVolume { volume: format!("{name} {size} {replace}") })
        };
        Ok(Job { progress: Box::new(ImageProgress::default), outcome: outcome.boxed() })
    }
    fn snapshot(&self, _: String, called: Option<String>) -> Result<Job<VolumeSnapshot>, Refusal> {
        Ok(job(Ok(copy(called.as_deref().unwrap_or("by time")))))
    }
    fn snapshots(&self, _: Option<String>) -> Answer<'_, Vec<VolumeSnapshot>> {
        answer(Ok(vec![copy("before")]))
    }
    fn remove_snapshot(&self, name: String, called: String) -> Answer<'_, VolumeSnapshot> {
        let missing = || Refusal::new(RefusalKind::NoSnapshot, format!("there is no snapshot {called} of {name}"));
        answer(if called == "before" { Ok(copy(&called)) } else { Err(missing()) })
    }
    fn restore(&self, name: String, _: String) -> Result<Job<RestoredVolume>, Refusal> {
        Ok(job(Err(Refusal::new(RefusalKind::Busy, format!("something else is being done with {name}")))))
    }
    fn disk_use(&self, _: bool) -> Answer<'_, Vec<DiskRow>> {
        let (kind, items) = (DiskKind::Volumes, Vec::new());
        answer(Ok(vec![DiskRow { kind, count: 1, active: 1, bytes: 7, reclaimable: 0, items }]))
    }
}

fn request(method: &str, path: &str, body: &str) -> String {
    let kind = if method == "PUT" { "application/x-tar" } else { "application/json" };
    let length = body.len();
    format!(
        "{method} /api/v1{path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn volumes_are_listed_shown_and_made() {
    let served = serve();
    assert_eq!(served.get("/api/v1/volumes").await.json()[0]["bytes"], Value::Null);
    let one = served.get("/api/v1/volumes/data?size=true").await.json();
    assert_eq!((&one["bytes"], &one["used_by"]), (&json!(7), &json!(["shop-db-1"])));
    assert_eq!(served.get("/api/v1/volumes/none").await.code(), (404, "no_such_volume".into()));
    assert_eq!(served.get("/api/v1/volumes?sizes=true").await.status, 400);
    let made = served.ask(&request("POST", "/volumes", r#"{"name": "data"}"#)).await;
    assert_eq!(made.json()["name"], "data");
    let other = served.ask(&request("POST", "/volumes", r#"{"name": "data", "driver_opts": {"o": "x"}}"#)).await;
    assert_eq!(other.code(), (409, "exists".into()));
    let rows = served.get("/api/v1/system/df").await.json()["rows"].clone();
    assert!(rows.as_array().unwrap().iter().any(|row| row["kind"] == "volumes" && row["bytes"] == 7), "{rows}");
}

#[tokio::test]
async fn archives_of_volumes_pass_through() {
    let served = serve();
    let tar = served.get("/api/v1/volumes/data/export").await;
    assert_eq!((tar.status, tar.body.as_str()), (200, "a tar"));
    assert_eq!(served.get("/api/v1/volumes/none/export").await.code(), (404, "no_such_volume".into()));
    // Larger than what a request may be that is no stream.
    let body = "x".repeat(20 << 20);
    let sent = served.ask(&request("PUT", "/volumes/new/import?replace=true", &body)).await;
    assert!(sent.body.contains(&format!("new {} true", body.len())), "{}", sent.body);
}

#[tokio::test]
async fn copies_are_made_listed_and_removed_and_refusals_have_their_codes() {
    let served = serve();
    let made = served.ask(&request("POST", "/volumes/data/snapshots", r#"{"name": "now"}"#)).await;
    assert!(made.body.contains(r#""name":"now""#), "{}", made.body);
    for path in ["/api/v1/volumes/data/snapshots", "/api/v1/snapshots"] {
        assert_eq!(served.get(path).await.json()[0]["name"], "before", "{path}");
    }
    assert_eq!(served.ask(&request("DELETE", "/volumes/data/snapshots/before", "")).await.status, 200);
    let missing = served.ask(&request("DELETE", "/volumes/data/snapshots/other", "")).await;
    assert_eq!(missing.code(), (404, "no_such_snapshot".into()));
    let busy = served.ask(&request("POST", "/volumes/data/restore", r#"{"snapshot": "before"}"#)).await;
    assert!(busy.body.contains(r#""code":"busy""#), "{}", busy.body);
}

#[tokio::test]
async fn who_removes_volumes_has_the_files_looked_at_first() {
    let mut served = serve();
    let remove = request("DELETE", "/volumes/data", "");
    let looked = async {
        match served.commands.recv().await {
            Some(longshore::api::Command::Look { reply }) => reply.send(()).unwrap(),
            _ => panic!("not a look"),
        }
    };
    let stream = tokio::net::UnixStream::connect(&served.socket).await.unwrap();
    let (answer, ()) = tokio::join!(ask(stream, &remove), looked);
    assert_eq!(answer.code(), (409, "in_use".into()));
}
