//! Who has a port, as `/proc` tells it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Place, conflict};
use crate::model::Protocol;

/// Who is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A program.
    Program {
        /// Its name.
        name: String,
        /// Its process.
        pid: i32,
    },
    /// Nothing but connections that were closed a moment ago.
    Closing,
}

/// A line of `/proc/net/tcp`.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    address: IpAddr,
    port: u16,
    state: u8,
    inode: u64,
}

/// `TCP_TIME_WAIT`, `TCP_NEW_SYN_RECV`: sockets that no program has any more, or not yet.
const WAITING: [u8; 2] = [6, 12];

/// Who has it, in the network namespace of the calling thread; none: nobody who can be seen.
#[must_use]
pub fn holder(place: &Place) -> Option<Holder> {
    match sockets(place) {
        (inodes, closing) if inodes.is_empty() => closing.then_some(Holder::Closing),
        (inodes, _) => program(&inodes),
    }
}

/// Whether some socket has it; whose is not looked for. In the network namespace of the calling thread.
pub(super) fn is_held(place: &Place) -> bool {
    !sockets(place).0.is_empty()
}

/// The sockets that have it, and whether there are some that nobody has any more.
fn sockets(place: &Place) -> (Vec<u64>, bool) {
    let (_, port, protocol) = place;
    let files: &[&str] = match protocol {
        Protocol::Tcp => &["tcp", "tcp6"],
        Protocol::Udp => &["udp", "udp6"],
        Protocol::Sctp => &[],
    };
    let mut closing = false;
    let mut inodes = Vec::new();
    for file in files {
        // Not `self`: this may be a thread in a namespace of its own.
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        for line in text.lines().skip(1).filter_map(read).filter(|line| line.port == *port) {
            // A socket on `::` mostly has the port of IPv4 too.
            let any = line.address == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
            let has = (if any { None } else { Some(line.address.to_canonical()) }, line.port, *protocol);
            if !conflict(place, &has) {
                continue;
            }
            if WAITING.contains(&line.state) || line.inode == 0 {
                closing = true;
            } else {
                inodes.push(line.inode);
            }
        }
    }
    (inodes, closing)
}

fn read(line: &str) -> Option<Line> {
    let mut words = line.split_whitespace().skip(1);
    let (address, port) = words.next()?.split_once(':')?;
    let state = u8::from_str_radix(words.nth(1)?, 16).ok()?;
    let inode = words.nth(5)?.parse().ok()?;
    Some(Line { address: parse(address)?, port: u16::from_str_radix(port, 16).ok()?, state, inode })
}

/// Each four bytes in the machine's order.
fn parse(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    if hex.len() == 8 {
        return Some(IpAddr::V4(Ipv4Addr::from(word(0)?)));
    }
    let mut bytes = [0; 16];
    for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
        part.copy_from_slice(&word(at * 8)?);
    }
    Some(IpAddr::V6(Ipv6Addr::from(bytes)))
}

/// Of several that share a socket the oldest: a server before its workers.
fn program(inodes: &[u64]) -> Option<Holder> {
    let names: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let mut pids: Vec<i32> =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    let has = |pid: &i32| {
        let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        open.flatten().any(|fd| {
            fs::read_link(fd.path()).is_ok_and(|to| to.to_str().is_some_and(|to| names.iter().any(|name| name == to)))
        })
    };
    let pid = pids.into_iter().find(has)?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(Holder::Program { name: name.trim().to_owned(), pid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let text = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000 100 0 0 10 0";
        let line = Line { address: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 8080, state: 10, inode: 4711 };
        if cfg!(target_endian = "little") {
            assert_eq!(read(text), Some(line));
            assert_eq!(parse("00000000000000000000000001000000"), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        }
        assert_eq!(read("  sl  local_address"), None);
        assert_eq!(parse("0100007"), None);
    }
}
