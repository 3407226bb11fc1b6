//! The sockets of containers, and who answers on them.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::answer::{Step, step};
use super::forward::Forwarder;
use super::redirect::{ADDRESS, PORT, redirect, redirected};
use super::wire::{Question, SIZE, Transport, code};
use super::zone::Zone;
use crate::model::ContainerId;

/// So many questions of one container are asked elsewhere at a time; more are refused, so that the others are not starved.
const UNDER_WAY: usize = 256;
/// So many connections one container may have; the next waits until one ends.
const CONNECTIONS: usize = 64;
/// So long a connection may be idle.
const IDLE: Duration = Duration::from_secs(10);
/// So many bytes of questions wait where they come faster than they are answered.
const QUEUE: usize = 1 << 20;

/// What the resolver needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whom the host asks: its `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self { resolv_conf: PathBuf::from("/etc/resolv.conf") }
    }
}

/// Opens the sockets on which a container's questions arrive, in the calling thread's network namespace.
///
/// They listen where the rules there lead ([`super::redirect()`]), and on port 53 where there are none.
pub fn sockets() -> io::Result<(UdpSocket, TcpListener)> {
    let port = if redirected()? { PORT } else { 53 };
    let udp = UdpSocket::bind((ADDRESS, port))?;
    // Who asks much at once waits rather than asks again after seconds.
    setsockopt(&udp, sockopt::RcvBufForce, &QUEUE).or_else(|_| setsockopt(&udp, sockopt::RcvBuf, &QUEUE))?;
    let tcp = TcpListener::bind((ADDRESS, port))?;
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    Ok((udp, tcp))
}

/// The same, with the rules put there first where they are gone.
pub fn open() -> io::Result<(UdpSocket, TcpListener)> {
    if !redirected()? {
        match redirect() {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            done => done?,
        }
    }
    sockets()
}

/// Answers containers. A clone is the same resolver.
#[derive(Debug, Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
    served: Arc<Mutex<HashMap<ContainerId, Served>>>,
}

#[derive(Debug)]
struct Shared {
    zone: RwLock<Arc<Zone>>,
    forwarder: Forwarder,
}

/// Ends with it.
#[derive(Debug)]
struct Served([AbortHandle; 2]);

impl Drop for Served {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl Resolver {
    /// One that knows nobody yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let shared = Shared { zone: RwLock::default(), forwarder: Forwarder::new(settings.resolv_conf) };
        Self { shared: Arc::new(shared), served: Arc::default() }
    }
    /// From now on these run.
    pub fn set(&self, zone: Zone) {
        *self.shared.zone.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(zone);
    }
    /// Answers what arrives on these sockets, for this container, instead of those that were served for it before. To be called within
    /// the asynchronous runtime.
    pub fn serve(&self, container: ContainerId, udp: UdpSocket, tcp: TcpListener) -> io::Result<()> {
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let udp = Arc::new(tokio::net::UdpSocket::from_std(udp)?);
        let tcp = tokio::net::TcpListener::from_std(tcp)?;
        let client = Client {
            container: container.clone(),
            shared: Arc::clone(&self.shared),
            under_way: Arc::new(Semaphore::new(UNDER_WAY)),
        };
        let datagrams = tokio::spawn(client.clone().datagrams(udp)).abort_handle();
        let connections = tokio::spawn(client.connections(tcp)).abort_handle();
        self.lock().insert(container, Served([datagrams, connections]));
        Ok(())
    }
    /// Closes the sockets of a container.
    pub fn close(&self, container: &ContainerId) {
        self.lock().remove(container);
    }
    /// Whether sockets of this container are served.
    #[must_use]
    pub fn serves(&self, container: &ContainerId) -> bool {
        self.lock().get(container).is_some_and(|served| served.0.iter().all(|task| !task.is_finished()))
    }
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ContainerId, Served>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn zone(&self) -> Arc<Zone> {
        Arc::clone(&self.zone.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One container that asks.
#[derive(Debug, Clone)]
struct Client {
    container: ContainerId,
    shared: Arc<Shared>,
    under_way: Arc<Semaphore>,
}

impl Client {
    async fn datagrams(self, socket: Arc<tokio::net::UdpSocket>) {
        let mut elsewhere = JoinSet::new();
        let mut buffer = [0; SIZE as usize];
        let mut failed = 0;
        loop {
            let (len, peer) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) if failed < 100 => {
                    tracing::debug!(container = self.container.short(), %error, "a question was not received");
                    failed += 1;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(container = self.container.short(), %error, "no more questions by UDP are received");
                    return;
                }
            };
            failed = 0;
            while elsewhere.try_join_next().is_some() {}
            match step(&self.shared.zone(), &self.container, &buffer[..len], Transport::Udp) {
                Step::Silent => {}
                Step::Reply(reply) => self.send(&socket, &reply, peer).await,
                Step::Forward(question) => {
                    let Ok(permit) = Arc::clone(&self.under_way).try_acquire_owned() else {
                        self.send(&socket, &question.refusal(code::SERVER), peer).await;
                        continue;
                    };
                    let (client, socket) = (self.clone(), Arc::clone(&socket));
                    elsewhere.spawn(async move {
                        let reply = client.forward(&question, Transport::Udp).await;
                        drop(permit);
                        client.send(&socket, &reply, peer).await;
                    });
                }
            }
        }
    }
    async fn send(&self, socket: &tokio::net::UdpSocket, reply: &[u8], peer: SocketAddr) {
        if let Err(error) = socket.send_to(reply, peer).await {
            tracing::debug!(container = self.container.short(), %peer, %error, "an answer was not sent");
        }
    }
    async fn connections(self, listener: tokio::net::TcpListener) {
        let mut open = JoinSet::new();
        let mut failed = 0;
        loop {
            if open.len() >= CONNECTIONS {
                open.join_next().await;
            }
            match listener.accept().await {
                Ok((stream, _)) => {
                    failed = 0;
                    open.spawn(self.clone().connection(stream));
                }
                Err(error) if failed < 100 => {
                    tracing::debug!(container = self.container.short(), %error, "a connection was not accepted");
                    failed += 1;
                }
                Err(error) => {
                    tracing::warn!(container = self.container.short(), %error, "no more questions by TCP are accepted");
                    return;
                }
            }
            while open.try_join_next().is_some() {}
        }
    }
    /// Answers one question after the other until the other end closes, says what is no question, or is idle.
    async fn connection(self, mut stream: TcpStream) {
        let mut message = Vec::new();
        while let Ok(Ok(())) = timeout(IDLE, receive(&mut stream, &mut message)).await {
            let reply = match step(&self.shared.zone(), &self.container, &message, Transport::Tcp) {
                Step::Silent => return,
                Step::Reply(reply) => reply,
                Step::Forward(question) => match self.under_way.try_acquire() {
                    Ok(_permit) => self.forward(&question, Transport::Tcp).await,
                    Err(_) => question.refusal(code::SERVER),
                },
            };
            let Ok(len) = u16::try_from(reply.len()) else { return };
            let framed = [&len.to_be_bytes(), reply.as_slice()].concat();
            if !matches!(timeout(IDLE, stream.write_all(&framed)).await, Ok(Ok(()))) {
                return;
            }
        }
    }
    async fn forward(&self, question: &Question, transport: Transport) -> Vec<u8> {
        let zone = self.shared.zone();
        match zone.member(&self.container) {
            Some(member) => self.shared.forwarder.ask(member, question, transport).await,
            None => question.refusal(code::REFUSED),
        }
    }
}

async fn receive(stream: &mut TcpStream, message: &mut Vec<u8>) -> io::Result<()> {
    let len = stream.read_u16().await?;
    message.resize(usize::from(len), 0);
    stream.read_exact(message).await.map(|_| ())
}
