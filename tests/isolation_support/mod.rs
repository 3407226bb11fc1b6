//! A probe that says what it may do, run as a container: every line of its answer is a fact.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::StreamExt as _;
use longshore::container::{Containers, ImageDefaults, Runtime, Settings};
use longshore::logs::{LogStream, Select};
use longshore::model::{
    ContainerId, ContainerName, ContainerSpec, ContainerState, Digest, ImageReference, NetworkMode, Process,
    ProjectName, PullPolicy, RestartPolicy, Service, ServiceName, Slot, SpecHash, StopPolicy,
};

const LIMIT: Duration = Duration::from_secs(60);

/// What the probe says, one fact per line, with nothing in it that differs from run to run.
pub(crate) type Facts = BTreeMap<String, String>;

/// A data directory of its own; whatever a test leaves running is ended with it.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    containers: Option<Containers>,
}

impl Place {
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self::with(runtime, |_| {})
    }

    pub(crate) fn with(runtime: Runtime, change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let layer = dir.path().join("layer");
        for folder in ["etc", "tmp", "proc", "dev", "sys"] {
            fs::create_dir_all(layer.join(folder)).expect("a layer");
        }
        fs::copy(probe_program(), layer.join("probe")).expect("the probe");
        fs::set_permissions(layer.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("as it is everywhere");
        fs::write(layer.join("ok"), "").expect("a file");
        fs::write(layer.join("etc/group"), "logs:x:55:\n").expect("groups");
        fs::create_dir_all(dir.path().join("data")).expect("data");
        let mut settings = Settings::new(dir.path().join("data"), dir.path().join("run")).expect("settings");
        settings.exe = PathBuf::from(env!("CARGO_BIN_EXE_longshore"));
        settings.runtime = runtime;
        change(&mut settings);
        let (containers, _) = Containers::open(settings).expect("opens");
        Self { dir, containers: Some(containers) }
    }

    fn all(&self) -> &Containers {
        self.containers.as_ref().expect("open")
    }

    /// Starts a container; what it wrote, and its state at the end; or why it did not start.
    pub(crate) async fn run(&self, change: impl FnOnce(&mut Service)) -> Result<String, String> {
        let spec = spec(change);
        let image = ImageDefaults { environment: vec!["PATH=/".into()], ..ImageDefaults::default() };
        self.all().create(&spec, vec![self.dir.path().join("layer")], &image).await.expect("created");
        let started = self.all().start(&spec.id).await.map_err(|error| error.to_string());
        if started.is_ok() {
            self.ended(&spec.id).await;
        }
        let lines: Vec<_> = longshore::logs::read(&self.all().log_dir(&spec.id), &Select::default()).collect().await;
        let lines = lines.into_iter().map(|line| line.expect("a line")).filter(|line| line.stream == LogStream::Stdout);
        let said: Vec<u8> = lines.flat_map(|line| line.written()).collect();
        self.all().remove(&spec.id).await.expect("removed");
        started.map(|()| String::from_utf8_lossy(&said).into_owned())
    }

    async fn ended(&self, id: &ContainerId) {
        let mut changed = self.all().changed();
        let wait = async {
            loop {
                changed.borrow_and_update();
                if matches!(self.all().observe()[id].state, ContainerState::Exited { .. }) {
                    return;
                }
                changed.changed().await.expect("open");
            }
        };
        tokio::time::timeout(LIMIT, wait).await.expect("it ends");
    }

    pub(crate) async fn facts(&self, change: impl FnOnce(&mut Service)) -> Facts {
        facts(&self.run(change).await.expect("it starts"))
    }

    pub(crate) async fn error(&self, change: impl FnOnce(&mut Service)) -> String {
        self.run(change).await.expect_err("it does not start")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(containers) = self.containers.take() else { return };
        let clean = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                for id in containers.observe().keys() {
                    containers.remove(id).await.expect("removed");
                }
            });
        });
        let clean = clean.join();
        if !std::thread::panicking() {
            clean.expect("cleaned");
        }
    }
}

/// Compiled once.
fn probe_program() -> &'static Path {
    static PROGRAM: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    &PROGRAM
        .get_or_init(|| {
            let dir = tempfile::tempdir().expect("a temporary folder");
            let program = dir.path().join("probe");
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/probe.c");
            let status = Command::new("gcc").args(["-static", "-O1", "-w", "-o"]).arg(&program).arg(source).status();
            assert!(status.expect("gcc is installed").success());
            (dir, program)
        })
        .1
}

fn spec(change: impl FnOnce(&mut Service)) -> ContainerSpec {
    let name = ServiceName::parse("probe").expect("a name");
    let mut service = Service {
        name: name.clone(),
        image: None,
        platform: None,
        pull: PullPolicy::Missing,
        replicas: 1,
        container_name: None,
        process: Process { command: Some(vec!["/probe".into()]), ..Process::default() },
        hostname: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        restart: RestartPolicy::No,
        stop: StopPolicy { signal: None, grace_ms: 10_000 },
        network: NetworkMode::None,
        read_only: false,
        hold_port: false,
        mounts: Vec::new(),
        pace: Default::default(),
        health: Default::default(),
        required_mounts: Vec::new(),
        depends: Vec::new(),
        schedule: None,
        hooks: longshore::model::Hooks::default(),
        files: Vec::new(),
        names: Default::default(),
        isolation: Default::default(),
        resources: Default::default(),
        pinned: None,
        taking: Default::default(),
        loosenings: Vec::new(),
        wishes: Vec::new(),
        suspended: false,
        holds: Vec::new(),
        hash: SpecHash::of(b"probe"),
    };
    change(&mut service);
    let slot = Slot { project: ProjectName::parse("iso").expect("a name"), service: name, number: 1 };
    let digest = Digest::parse(&format!("sha256:{}", "a".repeat(64))).expect("a digest");
    ContainerSpec {
        id: ContainerId::derive(&slot, &SpecHash::of(format!("{service:?}").as_bytes()), &digest),
        name: ContainerName::parse("iso-probe-1").expect("a name"),
        image: ImageReference::parse("probe").expect("a reference"),
        image_digest: digest,
        mounted: Default::default(),
        purpose: Default::default(),
        slot,
        service,
    }
}

/// One fact per line of the probe's answer; lists become one fact per member.
pub(crate) fn facts(json: &str) -> Facts {
    let answer: BTreeMap<String, String> = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {json}"));
    let mut facts = Facts::new();
    for (key, value) in answer {
        match key.as_str() {
            "limits" => {
                for line in value.lines().skip(1) {
                    let (name, values) = line.split_at(26);
                    let values: Vec<&str> = values.split_whitespace().take(2).collect();
                    facts.insert(format!("limit {}", name.trim()), values.join(" "));
                }
            }
            "environ" => {
                for line in value.lines() {
                    let (name, value) = line.split_once('=').unwrap_or((line, ""));
                    facts.insert(format!("variable {name}"), without_ids(value));
                }
            }
            "namespaces" => {
                for (name, link) in value.split(' ').filter_map(|one| one.split_once("->")) {
                    let host = fs::read_link(format!("/proc/self/ns/{name}")).is_ok_and(|l| l == Path::new(link));
                    facts.insert(format!("namespace {name}"), if host { "the host's" } else { "its own" }.into());
                }
            }
            "open fds" => {
                let kinds = value.split(' ').filter_map(|one| one.split_once("->"));
                let kinds: Vec<String> = kinds
                    .map(|(fd, to)| {
                        format!("{fd}->{}", if to.starts_with("pipe:") { "pipe".to_owned() } else { without_ids(to) })
                    })
                    .collect();
                facts.insert(key, kinds.join(" "));
            }
            "abstract sockets" => {
                // One without a name can be reached by nobody: a pair of the runtime's that is just being closed.
                let named = value.lines().filter(|line| line.split_whitespace().count() >= 8);
                facts.insert(key, named.collect::<Vec<_>>().join("\n"));
            }
            "devices.list" => {
                let lines: BTreeSet<&str> = value.lines().collect();
                facts.insert(key, lines.into_iter().collect::<Vec<_>>().join(", "));
            }
            "mountinfo" => {
                for line in value.lines() {
                    let fields: Vec<&str> = line.split(' ').collect();
                    let dash = fields.iter().position(|f| *f == "-").expect("a mount");
                    facts.insert(format!("mount {}", fields[4]), format!("{} {}", fields[dash + 1], fields[5]));
                }
            }
            _ => {
                facts.insert(key, without_ids(&value));
            }
        }
    }
    facts
}

/// Ids of containers, and what comes before them in the name of a cgroup.
fn without_ids(text: &str) -> String {
    let words = text.split_inclusive(|c: char| !c.is_ascii_hexdigit());
    let plain = words.map(|word| {
        let (hex, rest) = match word.find(|c: char| !c.is_ascii_hexdigit()) {
            Some(at) => word.split_at(at),
            None => (word, ""),
        };
        if matches!(hex.len(), 12 | 64) { format!("ID{rest}") } else { word.to_owned() }
    });
    plain.collect::<String>()
}

/// The facts that are not the same, with both.
pub(crate) fn differences(one: &Facts, other: &Facts) -> BTreeMap<String, (String, String)> {
    let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let value = |facts: &Facts, key| facts.get(key).cloned().unwrap_or_else(|| "-".to_owned());
    let pairs = keys.into_iter().map(|key| (key.clone(), (value(one, key), value(other, key))));
    pairs.filter(|(_, (one, other))| one != other).collect()
}

/// For `--nocapture`.
pub(crate) fn print(title: &str, differences: &BTreeMap<String, (String, String)>) {
    println!("\n{title}");
    for (key, (one, other)) in differences {
        println!("  {key:<50} {one:<40} -> {other}");
    }
}
