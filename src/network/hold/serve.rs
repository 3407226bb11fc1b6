//! What the holder does.

use std::cell::Cell;
use std::ffi::CString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{HoldOrder, Said, Told};
use crate::network::forward::{close_others, inherit};
use crate::network::namespace;

/// What a process that holds ports is called.
const NAME: &str = "longshore-holds";
/// So long whoever is led to may take to listen.
const READY: Duration = Duration::from_secs(10);
/// One try to connect.
const CONNECT: Duration = Duration::from_secs(3);
/// After a refusal.
const PAUSE: Duration = Duration::from_millis(20);
/// So long after the rules led past us connections may still come, whose first packet came before: it is sent again until then.
const LATE: Duration = Duration::from_secs(8);

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Waits,
    Expired,
    Leads(Vec<Option<SocketAddr>>),
}

struct Holding {
    order: HoldOrder,
    phase: watch::Sender<Phase>,
    /// Connections that are carried.
    carried: Cell<usize>,
    ended: watch::Sender<bool>,
}

pub(super) fn run(order: HoldOrder) -> io::Result<()> {
    nix::sys::prctl::set_name(&CString::new(NAME)?)?;
    let all = order.led.iter().chain(&order.carried).chain(&order.kept).chain([&order.control]);
    close_others(all.copied().collect());
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    // Everybody outside speaks to it; it needs nothing more than its sockets.
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    set_no_new_privs(true)?;
    let _kept: Vec<OwnedFd> = order.kept.iter().map(|socket| inherit(*socket)).collect();
    let path = order.path.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = tokio::task::LocalSet::new().block_on(&runtime, hold(order));
    // One that cannot be removed refuses whoever comes.
    let _ = fs::remove_file(path);
    done
}

async fn hold(order: HoldOrder) -> io::Result<()> {
    let control = std::os::unix::net::UnixListener::from(inherit(order.control));
    control.set_nonblocking(true)?;
    let control = UnixListener::from_std(control)?;
    let limit = Duration::from_millis(order.limit_ms);
    let (phase, ended) = (watch::channel(Phase::Waits).0, watch::channel(false).0);
    let holding = Rc::new(Holding { order, phase, carried: Cell::new(0), ended });
    for (index, socket) in holding.order.led.iter().enumerate() {
        tokio::task::spawn_local(led(Rc::clone(&holding), listener(*socket)?, index));
    }
    for socket in &holding.order.carried {
        tokio::task::spawn_local(carried(Rc::clone(&holding), listener(*socket)?));
    }
    let expires = async {
        sleep(limit).await;
        holding.phase.send_if_modified(|phase| {
            let waits = *phase == Phase::Waits;
            if waits {
                *phase = Phase::Expired;
            }
            waits
        });
        std::future::pending::<()>().await;
    };
    let talks = async {
        loop {
            match control.accept().await {
                Ok((stream, _)) => drop(tokio::task::spawn_local(talk(Rc::clone(&holding), stream))),
                Err(_) => sleep(PAUSE).await,
            }
        }
    };
    let mut ends = holding.ended.subscribe();
    tokio::select! {
        () = expires => {}
        () = talks => {}
        () = spent(&holding) => {}
        _ = ends.wait_for(|ended| *ended) => {}
    }
    Ok(())
}

fn listener(socket: RawFd) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(inherit(socket));
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Until it leads, nobody comes late any more, and the last connection has ended.
async fn spent(holding: &Holding) {
    let mut phase = holding.phase.subscribe();
    let _ = phase.wait_for(|phase| matches!(phase, Phase::Leads(_))).await;
    sleep(LATE).await;
    while holding.carried.get() > 0 {
        sleep(PAUSE * 10).await;
    }
}

/// One port that is led here.
async fn led(holding: Rc<Holding>, listener: TcpListener, index: usize) {
    let mut phase = holding.phase.subscribe();
    loop {
        if phase.wait_for(|phase| *phase != Phase::Waits).await.is_err() {
            return;
        }
        // What is not taken waits in the kernel.
        let Ok((client, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let to = match &*phase.borrow() {
            Phase::Leads(to) => to.get(index).copied().flatten(),
            Phase::Waits | Phase::Expired => None,
        };
        let Some(to) = to else {
            close(&client);
            continue;
        };
        let holding = Rc::clone(&holding);
        holding.carried.set(holding.carried.get() + 1);
        tokio::task::spawn_local(async move {
            carry(client, to).await;
            holding.carried.set(holding.carried.get() - 1);
        });
    }
}

/// A port that a process carries: whoever has its turn takes what waits, unless nobody gets it in time.
async fn carried(holding: Rc<Holding>, listener: TcpListener) {
    let mut phase = holding.phase.subscribe();
    loop {
        if phase.wait_for(|phase| *phase == Phase::Expired).await.is_err() {
            return;
        }
        tokio::select! {
            // What was not taken waits in the kernel.
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => close(&client),
                Err(_) => sleep(PAUSE).await,
            },
            _ = phase.changed() => {}
        }
    }
}

/// As near to a refusal as one gets after the connection was taken.
fn close(client: &TcpStream) {
    let _ = client.set_zero_linger();
}

/// Whoever is led to may just begin to listen.
async fn carry(mut client: TcpStream, to: SocketAddr) {
    let until = Instant::now() + READY;
    loop {
        match timeout(CONNECT, TcpStream::connect(to)).await {
            Ok(Ok(mut container)) => {
                let _ = (client.set_nodelay(true), container.set_nodelay(true));
                // Both have said all, or one of them is gone: either way it has ended.
                let _ = copy_bidirectional(&mut client, &mut container).await;
                return;
            }
            Ok(Err(_)) | Err(_) if Instant::now() < until => sleep(PAUSE).await,
            Ok(Err(_)) | Err(_) => return close(&client),
        }
    }
}

/// With one who came to the socket: a daemon.
async fn talk(holding: Rc<Holding>, stream: UnixStream) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let mut phase = holding.phase.subscribe();
    let own = namespace::identity(std::process::id().cast_signed())?;
    let (expired, led) = match &*phase.borrow_and_update() {
        Phase::Waits => (false, false),
        Phase::Expired => (true, false),
        Phase::Leads(_) => (false, true),
    };
    let held = holding.order.held.clone();
    let holds = Said::Holds { held, pid: own.pid, start_ticks: own.start_ticks, expired, led };
    say(&mut write, &holds).await?;
    let mut lines = BufReader::new(read).lines();
    loop {
        tokio::select! {
            // A line that is half read stays in the reader's buffer.
            line = lines.next_line() => match serde_json::from_str(&line.ok()??).ok()? {
                Told::Lead(to) => drop(holding.phase.send_replace(Phase::Leads(to))),
                Told::End => drop(holding.ended.send_replace(true)),
            },
            changed = phase.changed() => {
                changed.ok()?;
                if *phase.borrow() == Phase::Expired {
                    say(&mut write, &Said::Expired).await?;
                }
            }
        }
    }
}

async fn say(write: &mut tokio::net::unix::OwnedWriteHalf, said: &Said) -> Option<()> {
    let mut line = serde_json::to_vec(said).ok()?;
    line.push(b'\n');
    timeout_at(Instant::now() + CONNECT, write.write_all(&line)).await.ok()?.ok()
}
