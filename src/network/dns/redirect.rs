//! The rules that lead questions to the resolver's port, told to the kernel by nfnetlink(7) without a program.
//!
//! ```text
//! table ip longshore_names {
//!     chain asked    { type filter hook output priority raw;    ip daddr 127.0.0.11 udp dport 53    udp dport set 61053   (tcp, too) }
//!     chain answered { type filter hook output priority filter; ip saddr 127.0.0.11 udp sport 61053 udp sport set 53      (tcp, too) }
//! }
//! ```
//! Ports are rewritten packet by packet. NAT would make an entry for each question, which stays for half a minute, and its table is
//! full after some ten thousand questions a second; it would also track all else that the container sends. Where the container has
//! rules of its own that track connections (priority -200), they see the high port both ways, and so one connection.

use std::io;
use std::net::Ipv4Addr;

use netlink_sys::constants::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

/// Where containers ask.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// Where the resolver listens: above the ports that the kernel gives to those that ask for none.
pub const PORT: u16 = 61053;

const TABLE: &str = "longshore_names";
const NAMES: u16 = 53;

// <linux/netfilter/nfnetlink.h>, <linux/netfilter/nf_tables.h>
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const FAMILY_NONE: u8 = 0;
const FAMILY_IPV4: u8 = 2;
const HOOK_OUTPUT: u32 = 3;
const PRIORITY_RAW: i32 = -300;
const PRIORITY_FILTER: i32 = 0;
const REGISTER: u32 = 1;
const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;
const META_PROTOCOL: u32 = 16;
const EQUAL: u32 = 0;
const CHECKSUM_INET: u32 = 1;

// <linux/netlink.h>
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;

/// Puts the rules into the calling thread's network namespace, or puts them right. One transaction; done twice it is done once.
///
/// A kernel that cannot says [`io::ErrorKind::Unsupported`]: then [`super::sockets`] listen on port 53 itself.
pub fn redirect() -> io::Result<()> {
    let mut batch = Batch::begin();
    // A table that is made first can be removed whether it was there or not.
    batch.message(NEW_TABLE, CREATE, &text(1, TABLE));
    batch.message(DELETE_TABLE, 0, &text(1, TABLE));
    batch.message(NEW_TABLE, CREATE, &text(1, TABLE));
    for (name, priority) in [("asked", PRIORITY_RAW), ("answered", PRIORITY_FILTER)] {
        let hook = [number(1, HOOK_OUTPUT), number(2, priority.cast_unsigned())].concat();
        let chain = [text(1, TABLE), text(3, name), nest(4, &hook), text(7, "filter")].concat();
        batch.message(NEW_CHAIN, CREATE, &chain);
    }
    // Protocol, and where its checksum is.
    for (protocol, checksum) in [(libc::IPPROTO_UDP, 6), (libc::IPPROTO_TCP, 16)] {
        let protocol = u8::try_from(protocol).unwrap_or_default();
        batch.message(NEW_RULE, CREATE | APPEND, &rule("asked", 16, protocol, 2, (NAMES, PORT), checksum));
        batch.message(NEW_RULE, CREATE | APPEND, &rule("answered", 12, protocol, 0, (PORT, NAMES), checksum));
    }
    exchange(&batch.end()).map(|_| ())
}

/// Whether the rules' table is in the calling thread's network namespace.
pub fn redirected() -> io::Result<bool> {
    let mut question = Vec::new();
    message(&mut question, GET_TABLE, REQUEST, 1, FAMILY_IPV4, 0, &text(1, TABLE));
    match exchange(&question) {
        Ok(answer) => Ok(answer == Some(NEW_TABLE)),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
        Err(error) => Err(error),
    }
}

/// Packets with our address at this offset and `from` as their port there get `to` instead.
fn rule(chain: &str, address: u32, protocol: u8, port: u32, (from, to): (u16, u16), checksum: u32) -> Vec<u8> {
    let expressions = [
        load(BASE_NETWORK, address, 4),
        compare(&ADDRESS.octets()),
        expression("meta", &[number(1, REGISTER), number(2, META_PROTOCOL)]),
        compare(&[protocol]),
        load(BASE_TRANSPORT, port, 2),
        compare(&from.to_be_bytes()),
        expression("immediate", &[number(1, REGISTER), nest(2, &attribute(1, &to.to_be_bytes()))]),
        expression(
            "payload",
            &[
                number(5, REGISTER),
                number(2, BASE_TRANSPORT),
                number(3, port),
                number(4, 2),
                number(6, CHECKSUM_INET),
                number(7, checksum),
            ],
        ),
    ];
    [text(1, TABLE), text(2, chain), nest(4, &expressions.concat())].concat()
}

fn load(base: u32, offset: u32, len: u32) -> Vec<u8> {
    expression("payload", &[number(1, REGISTER), number(2, base), number(3, offset), number(4, len)])
}

fn compare(value: &[u8]) -> Vec<u8> {
    expression("cmp", &[number(1, REGISTER), number(2, EQUAL), nest(3, &attribute(1, value))])
}

fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
    nest(1, &[text(1, name), nest(2, &data.concat())].concat())
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn nest(kind: u16, value: &[u8]) -> Vec<u8> {
    attribute(kind | NESTED, value)
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}

/// Messages that take effect together or not at all.
struct Batch {
    bytes: Vec<u8>,
    sequence: u32,
}

impl Batch {
    fn begin() -> Self {
        let mut bytes = Vec::with_capacity(2048);
        message(&mut bytes, BATCH_BEGIN, REQUEST, 1, FAMILY_NONE, SUBSYSTEM, &[]);
        Self { bytes, sequence: 1 }
    }
    fn message(&mut self, kind: u16, flags: u16, payload: &[u8]) {
        self.sequence += 1;
        message(&mut self.bytes, kind, REQUEST | ACK | flags, self.sequence, FAMILY_IPV4, 0, payload);
    }
    fn end(mut self) -> Vec<u8> {
        message(&mut self.bytes, BATCH_END, REQUEST, self.sequence + 1, FAMILY_NONE, SUBSYSTEM, &[]);
        self.bytes
    }
}

fn message(bytes: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, family: u8, resource: u16, payload: &[u8]) {
    let len = u32::try_from(20 + payload.len()).unwrap_or(u32::MAX);
    bytes.extend(len.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(payload);
}

/// Sends, and reads all that the kernel says to it: the kind of what it has, if it has anything, else the first error.
///
/// The kernel has answered when the call that sends returns, so nothing is waited for.
fn exchange(request: &[u8]) -> io::Result<Option<u16>> {
    let mut socket = Socket::new(NETLINK_NETFILTER).map_err(unsupported)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    if socket.send(request, 0)? != request.len() {
        return Err(io::Error::other("a message to the packet filter was cut"));
    }
    let (mut seen, mut had) = (false, None);
    loop {
        let mut buffer = Vec::with_capacity(8192);
        match socket.recv(&mut buffer, libc::MSG_DONTWAIT) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
        let mut rest = buffer.as_slice();
        while let Some((kind, body, next)) = split(rest) {
            seen = true;
            match (kind, body.first_chunk::<4>().map(|code| i32::from_ne_bytes(*code))) {
                (ERROR, Some(0)) => {}
                (ERROR, Some(code)) if request_is_look(request) && -code == libc::ENOENT => {}
                (ERROR, Some(code)) => return Err(unsupported(io::Error::from_raw_os_error(-code))),
                (kind, _) => had = Some(kind),
            }
            rest = next;
        }
    }
    if seen { Ok(had) } else { Err(io::Error::other("the packet filter did not answer")) }
}

/// To look for what is not there is no error.
fn request_is_look(request: &[u8]) -> bool {
    request.get(4..6) == Some(&GET_TABLE.to_ne_bytes())
}

/// The first message's kind and body, and what follows it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes([*bytes.get(4)?, *bytes.get(5)?]);
    let body = bytes.get(16..len)?;
    Some((kind, body, bytes.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

/// What a kernel says that has no nf_tables, or not these expressions.
fn unsupported(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP | libc::ENOENT | libc::EAFNOSUPPORT | libc::EINVAL) => {
            io::Error::new(io::ErrorKind::Unsupported, error)
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests;
