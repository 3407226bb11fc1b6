//! Links, addresses and routes by rtnetlink(7), blocking, on a socket of any network namespace.
//!
//! A socket belongs to the namespace that its thread was in when it was opened, wherever the thread goes afterwards. Requests are sent
//! together and answered one by one; each says what it is for, so that an error does. Nothing waits for longer than [`PATIENCE`].

mod request;
mod seen;

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST};
use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

pub use request::Request;
pub use seen::{SeenAddress, SeenLink, SeenRoute, Snapshot};
pub(super) use seen::{read_address, read_link, read_route};

/// The kernel answers at once; it waits for its own lock at most.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// A dump that others change under way is read again so often.
const TRIES: u32 = 8;
/// Their answers all fit into the socket.
const TOGETHER: usize = 64;
/// The kernel puts no more into one datagram.
const DATAGRAM: usize = 64 * 1024;
const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const MESSAGE_TEXT: u16 = 1;

/// What the kernel refused, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// A request.
    #[error("{what}{}", .said.as_ref().map(|said| format!(" ({said})")).unwrap_or_default())]
    Refused {
        /// What was not done.
        what: String,
        /// The kernel's own words, where it has some.
        said: Option<String>,
        /// Its number.
        #[source]
        source: io::Error,
    },
    /// The socket.
    #[error("the kernel's network cannot be asked")]
    Socket(#[from] io::Error),
}

impl NetlinkError {
    /// Whether this is what the kernel answered.
    #[must_use]
    pub fn is(&self, errno: i32) -> bool {
        matches!(self, Self::Refused { source, .. } if source.raw_os_error() == Some(errno))
    }
}

/// A socket of one network namespace.
#[derive(Debug)]
pub struct Socket {
    socket: netlink_sys::Socket,
    next: Cell<u32>,
}

impl Socket {
    /// Opens one in the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        // For the kernel's own words, without our message coming back with them. Kernels of before 4.12 have none.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        let patience = TimeVal::milliseconds(i64::try_from(PATIENCE.as_millis()).unwrap_or(i64::MAX));
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
        setsockopt(&socket, sockopt::SendTimeout, &patience)?;
        Ok(Self { socket, next: Cell::new(1) })
    }

    /// Does them in their order, all of them even where one fails; the first failure is the answer.
    pub fn all(&self, requests: &[Request]) -> Result<(), NetlinkError> {
        self.each(requests)?.into_iter().collect()
    }

    /// Does one.
    pub fn one(&self, request: Request) -> Result<(), NetlinkError> {
        self.all(&[request])
    }

    /// Does them in their order, and gives the answer to each.
    pub fn each(&self, requests: &[Request]) -> Result<Vec<Result<(), NetlinkError>>, NetlinkError> {
        let mut answers = Vec::with_capacity(requests.len());
        for some in requests.chunks(TOGETHER) {
            self.some(some, &mut answers)?;
        }
        Ok(answers)
    }

    fn some(&self, requests: &[Request], answers: &mut Vec<Result<(), NetlinkError>>) -> Result<(), NetlinkError> {
        let first = self.next.get();
        let mut bytes = Vec::new();
        for request in requests {
            self.write(&mut bytes, request.message.clone(), NLM_F_REQUEST | NLM_F_ACK | request.flags);
        }
        self.send(&bytes)?;
        let mut open: Vec<Option<Result<(), NetlinkError>>> = requests.iter().map(|_| None).collect();
        let until = Instant::now() + PATIENCE;
        while open.iter().any(Option::is_none) {
            self.receive(until, |message| {
                let place = message.sequence.wrapping_sub(first) as usize;
                if let (ERROR, Some(request)) = (message.kind, requests.get(place)) {
                    open[place] = Some(request.judge(message.errno(), message.said()));
                }
            })?;
        }
        answers.extend(open.into_iter().flatten());
        Ok(())
    }

    /// Every message of a dump; one that was changed under way is read again.
    pub(super) fn dump<T>(
        &self,
        what: &str,
        ask: &RouteNetlinkMessage,
        read: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..TRIES {
            if let Some(found) = self.try_dump(what, ask, &read)? {
                return Ok(found);
            }
        }
        Err(io::Error::other(format!("{what}: they change faster than they can be read")).into())
    }

    fn try_dump<T>(
        &self,
        what: &str,
        ask: &RouteNetlinkMessage,
        read: &impl Fn(u16, &[u8]) -> Option<T>,
    ) -> Result<Option<Vec<T>>, NetlinkError> {
        let sequence = self.next.get();
        let mut bytes = Vec::new();
        self.write(&mut bytes, ask.clone(), NLM_F_REQUEST | NLM_F_DUMP);
        self.send(&bytes)?;
        let (mut found, mut done, mut torn, mut errno) = (Vec::new(), false, false, 0);
        let until = Instant::now() + PATIENCE;
        while !done {
            let received = self.receive(until, |message| {
                if message.sequence != sequence {
                    return;
                }
                torn |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    DONE | ERROR => (done, errno) = (true, message.errno()),
                    kind => found.extend(read(kind, message.body)),
                }
            });
            match received {
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(None),
                received => received?,
            }
        }
        match -errno {
            0 => Ok((!torn).then_some(found)),
            libc::EINTR | libc::EBUSY => Ok(None),
            errno => Err(NetlinkError::Refused {
                what: what.to_owned(),
                said: None,
                source: io::Error::from_raw_os_error(errno),
            }),
        }
    }

    /// The answer to a question about one thing; none where the kernel says that there is none.
    pub(super) fn get<T>(
        &self,
        what: &str,
        ask: RouteNetlinkMessage,
        read: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> Result<Option<T>, NetlinkError> {
        let sequence = self.next.get();
        let mut bytes = Vec::new();
        self.write(&mut bytes, ask, NLM_F_REQUEST);
        self.send(&bytes)?;
        let mut answer = None;
        let until = Instant::now() + PATIENCE;
        while answer.is_none() {
            self.receive(until, |message| {
                if message.sequence == sequence {
                    answer = Some(match message.kind {
                        ERROR => Err((-message.errno(), message.said())),
                        kind => Ok(read(kind, message.body)),
                    });
                }
            })?;
        }
        match answer {
            Some(Ok(found)) => Ok(found),
            None | Some(Err((libc::ENODEV, _))) => Ok(None),
            Some(Err((errno, said))) => {
                Err(NetlinkError::Refused { what: what.to_owned(), said, source: io::Error::from_raw_os_error(errno) })
            }
        }
    }

    fn write(&self, bytes: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16) {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.next.replace(self.next.get().wrapping_add(1));
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let (start, len) = (bytes.len().next_multiple_of(4), message.buffer_len());
        bytes.resize(start + len, 0);
        message.serialize(&mut bytes[start..]);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            match self.socket.send(bytes, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return sent.map(drop),
            }
        }
    }

    /// Receives one datagram, and hands out the messages in it.
    fn receive(&self, until: Instant, take: impl FnMut(Message<'_>)) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(DATAGRAM);
        loop {
            match self.socket.recv(&mut bytes, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(silent()),
                received => {
                    received?;
                    break;
                }
            }
        }
        if Instant::now() > until {
            return Err(silent());
        }
        Message::all(&bytes).for_each(take);
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("it did not answer within {} s", PATIENCE.as_secs()))
}

/// One message as it came.
pub(super) struct Message<'a> {
    /// What it is.
    pub(super) kind: u16,
    flags: u16,
    sequence: u32,
    /// What is in it.
    pub(super) body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The messages of a datagram.
    pub(super) fn all(bytes: &'a [u8]) -> impl Iterator<Item = Self> {
        let mut rest = bytes;
        std::iter::from_fn(move || {
            let (message, after) = Self::read(rest)?;
            rest = after;
            Some(message)
        })
    }

    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let u16_at = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let u32_at = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let len = u32_at(0)? as usize;
        let body = bytes.get(HEADER..len)?;
        let after = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((Self { kind: u16_at(4)?, flags: u16_at(6)?, sequence: u32_at(8)?, body }, after))
    }

    /// 0, or the negative number of an error.
    fn errno(&self) -> i32 {
        self.body.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes)
    }

    /// The kernel's own words.
    fn said(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let original = u32::from_ne_bytes(self.body.get(4..8)?.try_into().ok()?) as usize;
        let skip = if self.flags & NLM_F_CAPPED == 0 { original.next_multiple_of(4) } else { HEADER };
        let attributes = NlasIterator::new(self.body.get(4 + skip..)?);
        let text = attributes.flatten().find(|attribute| attribute.kind() == MESSAGE_TEXT)?;
        let text = String::from_utf8_lossy(text.value()).trim_end_matches('\0').trim().to_owned();
        (!text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
pub(in crate::network) mod tests {
    use super::*;
    use nix::sched::{CloneFlags, unshare};

    /// Runs it on a thread of its own in a network namespace of its own.
    pub(in crate::network) fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    #[test]
    fn requests_are_answered_one_by_one_and_errors_say_what_for() {
        apart(|| {
            let socket = Socket::open().unwrap();
            let make = |name: &str| Request::make_bridge(&format!("bridge {name}"), name, None, None);
            let answers =
                socket.each(&[make("a"), make("a"), make("b"), Request::remove("c", "c").unless_gone()]).unwrap();
            let failed: Vec<String> =
                answers.iter().filter_map(|a| a.as_ref().err()).map(ToString::to_string).collect();
            assert_eq!(failed, ["bridge a was not made"]);
            assert!(answers[1].as_ref().unwrap_err().is(libc::EEXIST));
            let mut names: Vec<String> = socket.links().unwrap().into_iter().map(|link| link.name).collect();
            names.retain(|name| ["a", "b", "lo"].contains(&name.as_str()));
            names.sort();
            assert_eq!(names, ["a", "b", "lo"]);
            let lo = socket.link("lo").unwrap().unwrap();
            assert!(!lo.up && socket.link("c").unwrap().is_none());
            socket.one(Request::up(&lo)).unwrap();
            assert!(socket.link("lo").unwrap().unwrap().up);
            let error = socket.one(Request::mtu(&socket.link("a").unwrap().unwrap(), 1)).unwrap_err().to_string();
            assert!(error.starts_with("the MTU of a was not set to 1"), "{error}");
        });
    }

    #[test]
    fn many_requests_and_long_dumps() {
        apart(|| {
            let socket = Socket::open().unwrap();
            let names: Vec<String> = (0..300).map(|number| format!("b{number}")).collect();
            let make = |name: &String| Request::make_bridge(name, name, None, None);
            socket.all(&names.iter().map(make).collect::<Vec<_>>()).unwrap();
            let links = socket.links().unwrap();
            assert_eq!(links.iter().filter(|link| link.name.starts_with('b')).count(), 300);
            let first = links.iter().find(|link| link.name == "b0").unwrap();
            let cidr = |n: usize| crate::model::Cidr::parse(&format!("10.1.{}.{}/24", n / 250, n % 250 + 1)).unwrap();
            socket.all(&(0..1000).map(|n| Request::address(first, cidr(n))).collect::<Vec<_>>()).unwrap();
            assert_eq!(socket.addresses().unwrap().iter().filter(|a| a.index == first.index).count(), 1000);
        });
    }
}
