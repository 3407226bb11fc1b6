//! Questions that no container is the answer to: asked elsewhere, once for all who ask the same.
//!
//! It cannot go in a circle. Servers are asked from the host's network namespace, where nothing of ours listens; a container that is a
//! name server itself is not asked what it asks; and where its answer comes back as a question by another way (a published port), that
//! is the same question, which waits for the first one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::cache::Cache;
use super::redirect::ADDRESS;
use super::resolv::{PORT, ResolvConf, Servers};
use super::upstream;
use super::wire::{Answer, Question, Transport, code};
use super::zone::Member;

/// All that is tried for one question ends then: before who asks (the C library waits five seconds) asks again.
const LIMIT: Duration = Duration::from_millis(4500);
/// No server has less time than this.
const LEAST: Duration = Duration::from_millis(500);
/// So many questions are under way for all containers together: each has a socket.
const UNDER_WAY: usize = 4096;
/// A server that did not answer is asked after the others for so long.
const SILENT: Duration = Duration::from_secs(10);
/// Of so many it is known.
const SILENT_MOST: usize = 64;

/// What makes two questions the same one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    name: Vec<u8>,
    kind: u16,
    flags: u16,
    dnssec: bool,
    servers: Vec<SocketAddr>,
}

/// None: nobody answered.
type Outcome = Option<Arc<Answer>>;

/// Asks others. A clone is the same.
#[derive(Debug, Clone)]
pub(super) struct Forwarder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    host: Mutex<ResolvConf>,
    cache: Mutex<Cache>,
    under_way: Mutex<HashMap<Key, watch::Receiver<Option<Outcome>>>>,
    silent: Mutex<HashMap<SocketAddr, Instant>>,
}

impl Forwarder {
    pub(super) fn new(resolv_conf: PathBuf) -> Self {
        Self(Arc::new(Shared {
            host: Mutex::new(ResolvConf::new(resolv_conf)),
            cache: Mutex::default(),
            under_way: Mutex::default(),
            silent: Mutex::default(),
        }))
    }
    /// The answer to this container's question.
    pub(super) async fn ask(&self, member: &Member, question: &Question, transport: Transport) -> Vec<u8> {
        let servers = self.0.servers(member);
        if servers.addresses.is_empty() {
            return question.refusal(code::SERVER);
        }
        let key = Key {
            name: question.name.to_ascii_lowercase(),
            kind: question.kind,
            flags: question.flags(),
            dnssec: question.wants_dnssec(),
            servers: servers.addresses.clone(),
        };
        if let Some((answer, age)) = lock(&self.0.cache).find(&key, Instant::now()) {
            return question.passed_on(&answer, age, transport);
        }
        let Some(mut outcome) = self.join(key, servers, question, transport) else {
            return question.refusal(code::SERVER);
        };
        // An error: what asked came to an end without an outcome.
        let answer = outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone().flatten());
        match answer {
            Some(answer) => question.passed_on(&answer, 0, transport),
            None => question.refusal(code::SERVER),
        }
    }
    /// The outcome of the same question that is under way, or of this one, which then is. None: too many are.
    fn join(
        &self,
        key: Key,
        servers: Servers,
        question: &Question,
        transport: Transport,
    ) -> Option<watch::Receiver<Option<Outcome>>> {
        let mut all = lock(&self.0.under_way);
        if let Some(outcome) = all.get(&key) {
            return Some(outcome.clone());
        }
        if all.len() >= UNDER_WAY {
            return None;
        }
        let (tell, outcome) = watch::channel(None);
        all.insert(key.clone(), outcome.clone());
        let (under_way, question) = (UnderWay { shared: Arc::clone(&self.0), key }, question.clone());
        // It goes on though who asked first goes away: others may have joined.
        tokio::spawn(async move {
            let answer = under_way.shared.ask_all(&servers, &question, transport).await.map(Arc::new);
            if let Some(answer) = &answer {
                lock(&under_way.shared.cache).keep(under_way.key.clone(), Arc::clone(answer), Instant::now());
            }
            drop(under_way);
            tell.send_replace(Some(answer));
        });
        Some(outcome)
    }
}

/// Ends with it.
struct UnderWay {
    shared: Arc<Shared>,
    key: Key,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.shared.under_way).remove(&self.key);
    }
}

impl Shared {
    /// Whom this container's questions are asked.
    fn servers(&self, member: &Member) -> Servers {
        let mut servers = {
            let mut host = lock(&self.host);
            let (servers, changed) = host.look(Instant::now());
            if changed {
                lock(&self.cache).clear();
            }
            servers.clone()
        };
        // Our own address, which files name that were written for Docker, is nobody there.
        let own: Vec<_> = member.upstreams.iter().filter(|address| **address != ADDRESS).collect();
        if !own.is_empty() {
            servers.addresses = own.into_iter().map(|address| SocketAddr::new(*address, PORT)).collect();
        }
        servers.addresses.retain(|server| !member.has(server.ip()));
        servers
    }
    /// The first server's answer that is one; else the last that is a refusal.
    async fn ask_all(&self, servers: &Servers, question: &Question, transport: Transport) -> Option<Answer> {
        let end = Instant::now() + LIMIT;
        let mut left = self.by_silence(&servers.addresses);
        let tries = u32::try_from(left.len()).unwrap_or(1).saturating_mul(servers.attempts).max(1);
        let each = servers.timeout.min(LIMIT / tries).max(LEAST);
        let mut refusal = None;
        for _ in 0..servers.attempts {
            let mut again = Vec::new();
            for server in left {
                let limit = each.min(end.saturating_duration_since(Instant::now()));
                if limit.is_zero() {
                    return refusal;
                }
                match upstream::ask(server, question, transport, limit).await {
                    Ok(answer) if matches!(answer.code, code::SERVER | code::REFUSED | code::NOT_IMPLEMENTED) => {
                        refusal = Some(answer);
                    }
                    Ok(answer) => {
                        lock(&self.silent).remove(&server);
                        return Some(answer);
                    }
                    Err(error) => {
                        tracing::debug!(%server, %error, "a name server did not answer");
                        self.note_silence(server);
                        again.push(server);
                    }
                }
            }
            left = again;
        }
        refusal
    }
    /// Those that answered last time first.
    fn by_silence(&self, servers: &[SocketAddr]) -> Vec<SocketAddr> {
        let now = Instant::now();
        let silent = lock(&self.silent);
        let mut servers = servers.to_vec();
        servers.sort_by_key(|server| silent.get(server).is_some_and(|until| *until > now));
        servers
    }
    fn note_silence(&self, server: SocketAddr) {
        let now = Instant::now();
        let mut silent = lock(&self.silent);
        if silent.len() >= SILENT_MOST {
            silent.retain(|_, until| *until > now);
        }
        if silent.len() < SILENT_MOST {
            silent.insert(server, now + SILENT);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
