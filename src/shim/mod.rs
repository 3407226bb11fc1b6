//! The role that is the parent of a container: `longshore shim ORDER`.
//!
//! Single-threaded; it forks. The daemon starts one for each start of a container, reads one report from its standard output, and
//! is not needed afterwards.
//!
//! ```text
//! lock ─▶ session, subreaper ─▶ own mount namespace (and network, with its links) ─▶ root ─▶ user, files, configuration ─▶ create ─▶ start record
//!   ─▶ start ─▶ report ─▶ follower (same process)
//! ```
//! What it mounts nobody else sees; so whatever kills it at whatever step, nothing but a cgroup and folders that have a fixed name
//! can be left, and the next start takes those away.
//!
//! The **follower** is a tiny program of its own (`follower/`) that shares the files `entry`, `lines` and `supervise` with the library.

pub mod supervise;

mod asked;
mod embedded;
mod etc;
mod executor;
mod external;
mod files;
mod guard;
mod handover;
mod layered;
mod mounts;
mod net;
mod ports;
mod stage;
mod streams;
mod userns;

use std::fs;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpid, setsid};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

// Named `entry` for `supervise`, which the follower compiles with the file beside it.
use crate::container::link::{EXIT, EXIT_DRAFT, EXIT_LEN, LOGS, Order, Report, START, StartRecord};
use crate::container::process::start_ticks;
use crate::container::userns::PROBE;
use crate::logs::entry;
use crate::model::ProcessId;
use handover::Handover;
use stage::{Stage, write_whole};
use streams::Streams;

/// So long a shim waits for the end of the last one.
const CLAIM_LIMIT: Duration = Duration::from_secs(2);

/// Why a container did not start.
#[derive(Debug, thiserror::Error)]
enum ShimError {
    #[error("{what}")]
    Io {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("{0} is not an order for a shim")]
    Order(String),
    #[error("another shim of this container is alive: it holds the lock of {}; try again", .0.display())]
    Claimed(PathBuf),
    #[error(transparent)]
    Record(#[from] crate::container::record::RecordError),
    #[error(transparent)]
    Mount(#[from] crate::rootfs::MountError),
    #[error(transparent)]
    Idmap(#[from] crate::rootfs::IdmapError),
    #[error(transparent)]
    User(#[from] crate::container::users::UserError),
    #[error(transparent)]
    Resources(#[from] crate::container::resources::ResourceError),
    #[error(transparent)]
    Inside(#[from] crate::rootfs::InsideError),
    #[error(transparent)]
    Asked(#[from] asked::AskedError),
    #[error(transparent)]
    Netlink(#[from] crate::network::netlink::NetlinkError),
    #[error(transparent)]
    Link(#[from] crate::network::link::LinkError),
    #[error(transparent)]
    Seccomp(#[from] crate::container::seccomp::ProfileError),
    /// What the runtime says, or our executor.
    #[error("{0}")]
    Runtime(String),
}

/// For `map_err`: what was being done.
fn doing<E: Into<std::io::Error>>(what: &'static str) -> impl FnOnce(E) -> ShimError {
    move |source| ShimError::Io { what, source: source.into() }
}

/// The role. `args` are those after `shim`.
#[must_use]
pub fn main(args: &[String]) -> ExitCode {
    if let [PROBE, folder] = args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return userns::probe(Path::new(folder));
    }
    let report = match run(args) {
        // Not reached where it went well: the process is the follower by then.
        Ok(never) => match never {},
        Err(error) => Report::Failed(chain(&error)),
    };
    reap_all();
    say(&report);
    ExitCode::FAILURE
}

fn run(args: &[String]) -> Result<std::convert::Infallible, ShimError> {
    let order = args.first().map_or("", String::as_str);
    let order: Order = serde_json::from_str(order).map_err(|error| ShimError::Order(error.to_string()))?;
    let folder = claim(&order.folder)?;
    setsid().map_err(doing("making a session"))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    nix::sys::prctl::set_child_subreaper(true).map_err(doing("becoming the reaper"))?;
    let stage = Stage::set(&order)?;
    let mut streams = Streams::new(stage.spec.service.process.tty, stage.spec.service.process.stdin_open, &order.run)?;
    streams.give(stage.owner)?;
    prepare_exit(&order)?;
    let oom_score = fs::read_to_string(stage::OOM_SCORE);
    let started = match &order.runtime {
        None => embedded::create(&stage, &order, &mut streams)?,
        Some(runtime) => external::create(runtime, &stage, &order, &mut streams)?,
    };
    if let Ok(score) = oom_score {
        // libcontainer gave the container its score by way of ours. Where we may not go back we are less protected, no more.
        let _ = fs::write(stage::OOM_SCORE, score.trim());
    }
    let init = started.pid();
    let record = guard::refuse_devices(&order, &stage.device_rules)
        .and_then(|()| stage.limit(&order))
        .and_then(|()| stage.join_network(init))
        .and_then(|()| record(&order, init));
    let record = record.and_then(|record| started.start(&order).map(|()| record));
    if record.is_ok() {
        stage.net.announce();
    }
    let record = record.inspect_err(|_| {
        let _ = nix::sys::signal::kill(init, nix::sys::signal::Signal::SIGKILL);
        let _ = fs::remove_file(order.folder.join(START));
    })?;
    follow(&order, folder, &record, streams, init, stage.net.hand_over())
}

/// The container's folder, locked for as long as this process lives (the follower keeps the descriptor). A daemon that was killed
/// after it started a shim knows nothing of it, and starts another. The last shim may just be ending; so it is waited for a little.
fn claim(folder: &Path) -> Result<OwnedFd, ShimError> {
    let claimed = fs::File::open(folder).map_err(doing("opening the container's folder"))?;
    let until = Instant::now() + CLAIM_LIMIT;
    loop {
        match flock(&claimed, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(claimed.into()),
            Err(Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
            Err(Errno::WOULDBLOCK) => return Err(ShimError::Claimed(folder.to_owned())),
            Err(Errno::INTR) => {}
            Err(error) => return Err(doing("locking the container's folder")(error)),
        }
    }
}

/// The exit record's place is taken before anything runs, and the last one's is cleared.
fn prepare_exit(order: &Order) -> Result<(), ShimError> {
    let draft = order.folder.join(EXIT_DRAFT);
    fs::write(&draft, [b' '; EXIT_LEN]).map_err(doing("making room for the exit record"))?;
    match fs::remove_file(order.folder.join(EXIT)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(doing("clearing the last exit record")(error))
        }
        _ => Ok(()),
    }
}

/// Written before the command runs: a daemon that dies now still finds it.
fn record(order: &Order, init: Pid) -> Result<StartRecord, ShimError> {
    let id = |pid: Pid| -> Result<ProcessId, ShimError> {
        let start_ticks = start_ticks(pid.as_raw()).map_err(doing("reading the start time of the container"))?;
        Ok(ProcessId { pid: pid.as_raw(), start_ticks })
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let record = StartRecord {
        v: 1,
        shim: id(getpid())?.into(),
        init: id(init)?.into(),
        boot_id: order.boot_id.clone(),
        started_ns: u64::try_from(now.as_nanos()).unwrap_or(0),
    };
    let json = serde_json::to_vec(&record).map_err(|e| ShimError::Runtime(e.to_string()))?;
    write_whole(&order.folder, START, &json).map_err(doing("writing the start record"))?;
    Ok(record)
}

fn follow(
    order: &Order,
    folder: OwnedFd,
    record: &StartRecord,
    streams: Streams,
    init: Pid,
    kept: Vec<OwnedFd>,
) -> Result<std::convert::Infallible, ShimError> {
    let logs = order.folder.join(LOGS);
    let next = crate::logs::prepare(&logs).map_err(doing("opening the log"))?;
    let open = |path: &Path| fs::File::options().read(true).custom_flags(libc::O_CLOEXEC).open(path);
    let (stdout, stderr, stdin) = streams.into_parts()?;
    let count = 1 + u32::from(stderr.is_some());
    let handover = Handover {
        stdout,
        stderr,
        folder,
        logs: open(&logs).map_err(doing("opening the log folder"))?.into(),
        oom: open(&order.oom_counter).ok().map(OwnedFd::from),
        stdin,
        kept,
    };
    let args: Vec<String> = vec![
        "longshore-follower".into(),
        init.to_string(),
        order.log_bytes.to_string(),
        order.log_files.to_string(),
        next.to_string(),
        record.started_ns.to_string(),
        order.boot_id.clone(),
        count.to_string(),
    ];
    say(&Report::Started(record.clone()));
    if let Some(shims) = &order.shims {
        // After the report: moving takes the kernel some milliseconds. Where it fails the unit's own KillMode spares us.
        let _ = fs::write(shims.join("cgroup.procs"), "0");
    }
    // The daemon reads to the end of the pipe, which the follower must not hold open.
    let null = fs::File::options().read(true).write(true).open("/dev/null").map_err(doing("opening /dev/null"))?;
    nix::unistd::dup2_stdout(&null).map_err(doing("closing the report"))?;
    nix::unistd::dup2_stderr(&null).map_err(doing("closing the report"))?;
    Err(doing("becoming the follower")(handover.execute(&order.init, &args)))
}

fn say(report: &Report) {
    if let Ok(mut json) = serde_json::to_vec(report) {
        json.push(b'\n');
        let _ = std::io::stdout().write_all(&json);
    }
}

/// After a failed start every child is dead or dying; as their reaper we take them all.
fn reap_all() {
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(nix::sys::wait::WaitStatus::StillAlive) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
