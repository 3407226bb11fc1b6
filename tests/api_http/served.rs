//! A served daemon that decides nothing, and the least of a client.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;
use longshore::api::wire::{
    CheckRun, ContainerUsage, CpuUsage, ExecAsk, FileChange, FileChangeKind, LoggedIn, LoggedOut, PidUsage, Process,
    SecretEntry, SecretList, SecretName,
};
use longshore::api::{
    ByteStream, Checks, Command, Doors, Events, ExecControl, ExecDoor, ExecEnd, ExecRefusal, ExecSession, FileAnswer,
    FileDoor, FileRefusal, Limits, LogLine, LogRequest, LogSource, LogStream, LoginRefusal, Metric, MetricKind,
    Numbers, ReadFiles, Refusal, RefusalKind, RegistryDoor, Release, Secret, SecretDoor, Signals, Stream, WriteFiles,
    WrittenFiles, router, serve_unix,
};
use longshore::model::{
    ContainerId, ContainerName, Digest, Health, ImageReference, ProjectName, ServiceName, Signal, Slot, SpecHash,
    Timestamp,
};
use longshore::reconcile::view::{ContainerStateView, ContainerView, Event, Phase, ProjectView, ServiceView, View};
use serde_json::Value;

use crate::shelf::Shelf;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Nothing here may wait for ever.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(LIMIT, what).await.expect("this was to end long ago")
}

pub(crate) fn id(number: u32, service: &str) -> ContainerId {
    let slot =
        Slot { project: ProjectName::parse("shop").unwrap(), service: ServiceName::parse(service).unwrap(), number };
    ContainerId::derive(&slot, &SpecHash::of(b"x"), &digest())
}

pub(crate) fn digest() -> Digest {
    Digest::parse(&format!("sha256:{}", "0".repeat(64))).unwrap()
}

pub(crate) fn container(service: &str, number: u32) -> ContainerView {
    let project = ProjectName::parse("shop").unwrap();
    let name = ServiceName::parse(service).unwrap();
    ContainerView {
        id: id(number, service),
        name: ContainerName::of_replica(&project, &name, number),
        project,
        service: name,
        number,
        image: ImageReference::parse("nginx").unwrap(),
        image_digest: digest(),
        hash: "0".repeat(64),
        settings: Default::default(),
        state: ContainerStateView::Running { pid: 10, shim: 9, since: Timestamp(1_800_000_000_000) },
        health: (service == "db").then_some(Health::Starting),
        paused: false,
        restarts: 3,
        reason: "wanted".into(),
        next_attempt: None,
        links: Vec::new(),
        ports: Vec::new(),
        shares: None,
    }
}

pub(crate) fn service(name: &str, replicas: u32) -> ServiceView {
    ServiceView {
        name: ServiceName::parse(name).unwrap(),
        image: Some(ImageReference::parse("nginx").unwrap()),
        phase: Phase::Applied,
        wanted: replicas,
        running: replicas,
        holds: Vec::new(),
        loosenings: Vec::new(),
        by_hand: None,
        waiting: Vec::new(),
        ports: Vec::new(),
        generation: None,
        aside: None,
        update: None,
        containers: (1..=replicas).map(|n| container(name, n)).collect(),
    }
}

pub(crate) fn project(name: &str, services: Vec<ServiceView>) -> ProjectView {
    ProjectView {
        name: ProjectName::parse(name).unwrap(),
        file: Some(format!("/state/{name}.yaml").into()),
        phase: Phase::Applied,
        last_good: false,
        services,
    }
}

pub(crate) fn view(revision: u64) -> View {
    let mut admin = service("admin", 0);
    admin.wanted = 1;
    View {
        revision,
        ready: true,
        settled: true,
        projects: vec![
            project("blog", vec![admin.clone()]),
            project("shop", vec![admin, service("db", 1), service("web", 12)]),
        ],
        ..View::default()
    }
}

pub(crate) fn event(sequence: u64) -> Event {
    let at = Timestamp(1_800_000_000_000 + sequence);
    Event { sequence, at, kind: "container.started", what: "web".into(), message: "it runs".into(), location: None }
}

/// Logs that are kept in memory; a follower then hears the feed until the test drops it.
#[derive(Default)]
pub(crate) struct Logs {
    pub(crate) kept: HashMap<ContainerId, Vec<LogLine>>,
    pub(crate) live: Mutex<Option<mpsc::Receiver<LogLine>>>,
    pub(crate) asked: Mutex<Vec<LogRequest>>,
}

impl LogSource for Logs {
    fn previous(&self, project: &str, service: &str, number: Option<u32>, _: LogRequest) -> Vec<(String, LogStream)> {
        let said = format!("{project} {service} {number:?}");
        let lines = stream::iter([Ok(line(1, Stream::Stdout, said.as_bytes()))]).boxed();
        if service == "web" { Vec::new() } else { vec![(format!("{project}-{service}-1"), lines)] }
    }

    fn open(&self, id: &ContainerId, request: LogRequest) -> LogStream {
        self.asked.lock().unwrap().push(request);
        let kept: Vec<io::Result<LogLine>> = self.kept.get(id).into_iter().flatten().cloned().map(Ok).collect();
        let live = if request.follow { self.live.lock().unwrap().take() } else { None };
        let live = stream::unfold(live, |live| async {
            let mut live = live?;
            live.recv().await.map(|line| (Ok(line), Some(live)))
        });
        stream::iter(kept).chain(live).boxed()
    }
}

pub(crate) fn line(time: u64, stream: Stream, bytes: &[u8]) -> LogLine {
    LogLine { time, stream, sequence: time, bytes: bytes.to_vec(), partial: false, unterminated: false }
}

/// A registry that knows one user, and a container that knows one command.
struct Toy;

/// Whose sizes and signals are heard by who reads its errors.
struct Told(mpsc::UnboundedSender<String>);

impl ExecControl for Told {
    fn signal(&self, number: u8) {
        self.0.send(format!("signal {number}\n")).unwrap();
    }
    fn resize(&self, rows: u16, columns: u16) {
        self.0.send(format!("size {rows} {columns}\n")).unwrap();
    }
}

impl FileDoor for Toy {
    /// `/broken` breaks off in the middle; anything else is a few bytes.
    fn read(&self, _: &ContainerId, what: ReadFiles) -> FileAnswer<ByteStream> {
        let broken = matches!(what, ReadFiles::Path { path, .. } if path == "/broken");
        let first = stream::once(async { Ok("bytes".into()) });
        let last = stream::iter(broken.then(|| Err(io::Error::other("it ended: 100%"))));
        Box::pin(std::future::ready(Ok(first.chain(last).boxed())))
    }
    /// Counts what comes; `/full` takes nothing.
    fn write(&self, _: &ContainerId, how: WriteFiles, mut archive: ByteStream) -> FileAnswer<WrittenFiles> {
        Box::pin(async move {
            if how.path == "/full" {
                return Err(FileRefusal::Refused("no space is left there".into()));
            }
            let mut bytes = 0;
            while let Some(Ok(piece)) = archive.next().await {
                bytes += piece.len() as u64;
            }
            Ok(WrittenFiles { files: 1, bytes })
        })
    }
    fn changes(&self, _: &ContainerId) -> FileAnswer<Vec<FileChange>> {
        Box::pin(std::future::ready(Ok(vec![FileChange { path: "/a".into(), kind: FileChangeKind::Added }])))
    }
}

impl ExecDoor for Toy {
    /// `cat` copies; `stall` reads nothing and writes without an end; anything else is not there.
    fn exec(&self, _: &ContainerId, ask: ExecAsk) -> BoxFuture<'static, Result<ExecSession, ExecRefusal>> {
        let command = ask.command[0].clone();
        if command != "cat" && command != "stall" {
            return Box::pin(std::future::ready(Err(ExecRefusal::NotFound(format!("no {command}")))));
        }
        let (stdin, mut input) = tokio::io::duplex(1024);
        let (stdout, mut output) = tokio::io::duplex(1024);
        let (stderr, mut errors) = tokio::io::duplex(1024);
        let (told, mut hear) = mpsc::unbounded_channel::<String>();
        tokio::spawn(async move {
            while let Some(line) = hear.recv().await {
                errors.write_all(line.as_bytes()).await.unwrap();
            }
        });
        let code = async move {
            if command == "cat" {
                tokio::io::copy(&mut input, &mut output).await.unwrap();
                return Ok(ExecEnd { code: 7, signal: None, container_ended: false });
            }
            while output.write_all(&[0; 512]).await.is_ok() {}
            drop(input);
            Err("it was cut".to_owned())
        };
        let (done, ended) = oneshot::channel();
        tokio::spawn(async move { done.send(code.await) });
        let session = ExecSession {
            stdin: Some(Box::new(stdin)),
            stdout: Some(Box::new(stdout)),
            stderr: Some(Box::new(stderr)),
            control: Box::new(Told(told)),
            ended: Box::pin(async move { ended.await.unwrap() }),
        };
        Box::pin(std::future::ready(Ok(session)))
    }
}

impl SecretDoor for Toy {
    fn list(&self) -> BoxFuture<'_, Result<SecretList, Refusal>> {
        let secrets = vec![SecretEntry { name: "db".into(), set: Timestamp(0).into(), used_by: Vec::new() }];
        Box::pin(std::future::ready(Ok(SecretList { recipient: "age1toy".into(), secrets })))
    }

    fn set(&self, name: String, _secret: axum::body::Bytes) -> BoxFuture<'_, Result<SecretName, Refusal>> {
        Box::pin(std::future::ready(Ok(SecretName { name })))
    }

    fn remove(&self, name: String) -> BoxFuture<'_, Result<SecretName, Refusal>> {
        let unknown = Refusal::new(RefusalKind::NoSecret, format!("there is no secret {name:?} here"));
        Box::pin(std::future::ready(if name == "db" { Ok(SecretName { name }) } else { Err(unknown) }))
    }
}

impl RegistryDoor for Toy {
    fn login(
        &self,
        registry: String,
        username: String,
        password: Secret,
    ) -> BoxFuture<'_, Result<LoggedIn, LoginRefusal>> {
        let good = username == "bob" && password.0 == "hunter2";
        let denied = LoginRefusal::Denied(format!("{registry} does not take the login of {username:?}"));
        let done = LoggedIn { registry, helper: None, file: Some("/root/.docker/config.json".into()) };
        Box::pin(std::future::ready(if good { Ok(done) } else { Err(denied) }))
    }
    fn logout(&self, registry: String) -> BoxFuture<'_, Result<LoggedOut, LoginRefusal>> {
        Box::pin(std::future::ready(Ok(LoggedOut { registry, known: true })))
    }
}

/// Every container has used a second of CPU time more at each look, which comes after two seconds.
struct Counted;

impl Checks for Toy {
    fn made(&self, _id: &ContainerId) -> Option<(u32, Vec<CheckRun>)> {
        let (begun, ended) = (Timestamp(1_800_000_000_000).into(), Timestamp(1_800_000_000_250).into());
        Some((2, vec![CheckRun { begun, ended, exit_code: 1, output: "refused".into() }]))
    }
}

static LOOKS: AtomicU64 = AtomicU64::new(0);

impl Signals for Toy {
    fn send(&self, id: ContainerId, signal: Signal) -> BoxFuture<'static, Result<(), String>> {
        let _sent = (id, signal);
        Box::pin(async { Ok(()) })
    }
}

impl Numbers for Counted {
    fn usage(&self, ids: Vec<ContainerId>) -> BoxFuture<'static, Vec<ContainerUsage>> {
        let looks = LOOKS.fetch_add(1, Ordering::Relaxed) + 1;
        let each = |id: ContainerId| ContainerUsage {
            id: id.to_string(),
            container: format!("c-{}", id.short()),
            project: "shop".into(),
            service: "web".into(),
            uptime_us: looks * 2_000_000,
            cpu: Some(CpuUsage {
                usage_ns: looks * 1_000_000_000,
                user_ns: 0,
                system_ns: 0,
                periods: 0,
                throttled_periods: 0,
                throttled_ns: 0,
                percent: None,
            }),
            memory: None,
            pids: Some(PidUsage { current: 3, limit: None }),
            block: None,
            network: None,
            pressure: None,
        };
        Box::pin(std::future::ready(ids.into_iter().map(each).collect()))
    }

    fn processes(&self, ids: Vec<ContainerId>) -> BoxFuture<'static, Vec<Process>> {
        let each = |id: ContainerId| Process {
            container: format!("c-{}", id.short()),
            pid: 4711,
            inner_pid: 1,
            uid: 33,
            state: "S".into(),
            threads: 1,
            cpu_ms: 10,
            cpu_percent: 0.1,
            resident_bytes: 4096,
            age_ms: 10_000,
            command: "sleep 10".into(),
        };
        Box::pin(std::future::ready(ids.into_iter().map(each).collect()))
    }
}

/// A served daemon that decides nothing.
pub(crate) struct Served {
    pub(crate) socket: PathBuf,
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) events: Events,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) images: Arc<Shelf>,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) server: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

pub(crate) fn doors(logs: Arc<Logs>) -> (Doors, watch::Sender<Arc<View>>, mpsc::Receiver<Command>) {
    doors_with(logs, Arc::new(Shelf::default()))
}

fn doors_with(logs: Arc<Logs>, images: Arc<Shelf>) -> (Doors, watch::Sender<Arc<View>>, mpsc::Receiver<Command>) {
    let (sender, view) = watch::channel(Arc::new(view(5)));
    let (commands, received) = mpsc::channel(4);
    let counters = || vec![Metric::single("loop_steps", "Steps of the loop", MetricKind::Counter, 7.0)];
    let release = Release { version: "0.1.0".into(), commit: None, pid: 4711, started: Timestamp(1_800_000_000_000) };
    let doors = Doors {
        view,
        events: Events::new(),
        logs,
        checks: Arc::new(Toy),
        numbers: Arc::new(Counted),
        signals: Arc::new(Toy),
        execs: Arc::new(Toy),
        files: Arc::new(Toy),
        images,
        volumes: Arc::new(crate::volumes::Cellar),
        secrets: Arc::new(Toy),
        registries: Arc::new(Toy),
        commands,
        release,
        counters: Arc::new(counters),
    };
    (doors, sender, received)
}

pub(crate) fn serve_with(limits: Limits, logs: Logs) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let logs = Arc::new(logs);
    let images = Arc::new(Shelf::default());
    let (doors, view, commands) = doors_with(logs.clone(), images.clone());
    let events = doors.events.clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let router = router(doors);
    let server = tokio::spawn(async move {
        serve_unix(listener, router, limits, async { drop(stopped.await) }).await;
    });
    Served { socket, view, events, commands, logs, images, stop: Some(stop), server, _dir: dir }
}

pub(crate) fn serve() -> Served {
    serve_with(Limits::default(), Logs::default())
}

impl Served {
    pub(crate) async fn connect(&self) -> UnixStream {
        within(UnixStream::connect(&self.socket)).await.unwrap()
    }
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    }
    pub(crate) async fn ask(&self, request: &str) -> Answer {
        ask(self.connect().await, request).await
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|err| panic!("{err}: {}", self.body))
    }
    pub(crate) fn code(&self) -> (u16, String) {
        (self.status, self.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
    }
}

pub(crate) async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Answer {
    // The server may answer and close before it has read everything.
    let _ = within(stream.write_all(request.as_bytes())).await;
    let mut bytes = Vec::new();
    let _ = within(stream.read_to_end(&mut bytes)).await;
    parse(&bytes)
}

pub(crate) fn parse(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let body = if head.to_lowercase().contains("transfer-encoding: chunked") { unchunk(body) } else { body.into() };
    Answer { status, head: head.to_lowercase(), body }
}

/// Bodies in these tests are text, so a chunk's length in bytes is a place in the text.
pub(crate) fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap_or(0);
        if length == 0 || length > rest.len() {
            break;
        }
        whole.push_str(&rest[..length]);
        body = rest[length..].trim_start_matches("\r\n");
    }
    whole
}

/// Reads until the text holds `wanted`.
pub(crate) async fn read_until(stream: &mut (impl AsyncRead + Unpin), wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        let mut buffer = [0; 4096];
        let count = within(stream.read(&mut buffer)).await.unwrap();
        assert!(count > 0, "the stream ended before {wanted:?}: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    text
}
