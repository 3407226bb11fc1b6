//! Whom the host asks: resolv.conf(5), followed when it changes.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The port of name servers.
pub(super) const PORT: u16 = 53;
/// So often, at most, it is looked whether the file is another.
const LOOK: Duration = Duration::from_secs(1);
/// As many as the C library reads.
const MOST: usize = 3;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Servers {
    /// `nameserver`.
    pub(super) addresses: Vec<SocketAddr>,
    /// `options timeout:`.
    pub(super) timeout: Duration,
    /// `options attempts:`.
    pub(super) attempts: u32,
}

impl Default for Servers {
    fn default() -> Self {
        Self { addresses: Vec::new(), timeout: Duration::from_secs(5), attempts: 2 }
    }
}

impl Servers {
    /// Reads the text of the file. `scope` knows the number of an interface by its name.
    pub(super) fn parse(text: &str, scope: impl Fn(&str) -> Option<u32>) -> Self {
        let mut servers = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => servers.addresses.extend(words.next().and_then(|word| address(word, &scope))),
                Some("options") => words.for_each(|word| servers.option(word)),
                _ => {}
            }
        }
        servers.addresses.truncate(MOST);
        servers
    }
    /// Limits as in the C library.
    fn option(&mut self, word: &str) {
        let Some((name, Ok(value))) = word.split_once(':').map(|(name, value)| (name, value.parse::<u32>())) else {
            return;
        };
        match name {
            "timeout" => self.timeout = Duration::from_secs(u64::from(value.clamp(1, 30))),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }
}

fn address(word: &str, scope: &impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    if let Some((address, interface)) = word.split_once('%') {
        let scope = interface.parse().ok().or_else(|| scope(interface))?;
        return Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, scope).into());
    }
    word.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, PORT))
}

/// The file, and what it said last.
#[derive(Debug)]
pub(super) struct ResolvConf {
    path: PathBuf,
    servers: Servers,
    seen: Option<Seen>,
    looked: Option<Instant>,
    told: bool,
}

/// What differs when a file differs, also when a link leads to another one.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    place: (u64, u64),
    changed: [(i64, i64); 2],
    size: u64,
}

impl ResolvConf {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, servers: Servers::default(), seen: None, looked: None, told: false }
    }
    /// What it says now, and whether that is another than before.
    pub(super) fn look(&mut self, now: Instant) -> (&Servers, bool) {
        let due = self.looked.is_none_or(|last| now.saturating_duration_since(last) >= LOOK);
        let changed = due && self.look_again();
        if due {
            self.looked = Some(now);
        }
        (&self.servers, changed)
    }
    fn look_again(&mut self) -> bool {
        let read = seen(&self.path).and_then(|seen| {
            let same = self.seen.as_ref() == Some(&seen);
            let text = if same { None } else { Some(fs::read_to_string(&self.path)?) };
            self.seen = Some(seen);
            Ok(text)
        });
        let servers = match read {
            Ok(None) => return false,
            Ok(Some(text)) => Servers::parse(&text, interface),
            Err(error) => {
                self.seen = None;
                if !self.told {
                    let file = self.path.display();
                    tracing::warn!(%file, %error, "names that no container has cannot be asked for: write the file");
                }
                self.told = true;
                Servers::default()
            }
        };
        if !servers.addresses.is_empty() {
            self.told = false;
        } else if !self.told {
            let file = self.path.display();
            tracing::warn!(%file, "it names no server: names that no container has cannot be asked for");
            self.told = true;
        }
        let changed = servers != self.servers;
        self.servers = servers;
        changed
    }
}

fn seen(path: &Path) -> io::Result<Seen> {
    let meta = fs::metadata(path)?;
    let changed = [(meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())];
    Ok(Seen { place: (meta.dev(), meta.ino()), changed, size: meta.size() })
}

fn interface(name: &str) -> Option<u32> {
    if name.contains('/') {
        return None;
    }
    fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
