//! The number that the kernel gives each state of its packet filter: it grows with every change, whoever makes it.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

/// `NFT_MSG_GETGEN` of the subsystem `NFNL_SUBSYS_NFTABLES`.
const ASK: u16 = 10 << 8 | 16;
/// `NFT_MSG_NEWGEN`.
const TELL: u16 = 10 << 8 | 15;
const NLM_F_REQUEST: u16 = 1;
const NFTA_GEN_ID: u16 = 1;
/// `struct nlmsghdr`, then `struct nfgenmsg`.
const HEADERS: usize = 16 + 4;

/// Of the network namespace of the calling thread.
pub(super) fn now() -> io::Result<u32> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut ask = Vec::with_capacity(HEADERS);
    ask.extend(u32::try_from(HEADERS).unwrap_or(0).to_ne_bytes());
    ask.extend(ASK.to_ne_bytes());
    ask.extend(NLM_F_REQUEST.to_ne_bytes());
    ask.extend([0; 12]);
    socket.send(&ask, 0)?;
    // The kernel answers before `send` returns; what is not there by now does not come.
    let mut answer = Vec::with_capacity(512);
    socket.recv(&mut answer, libc::MSG_DONTWAIT)?;
    read(&answer).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

fn read(answer: &[u8]) -> Option<u32> {
    let short = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    if short(4)? != TELL {
        return None;
    }
    let mut at = HEADERS;
    loop {
        let length = usize::from(short(at)?);
        if short(at + 2)? == NFTA_GEN_ID {
            return Some(u32::from_be_bytes(answer.get(at + 4..at + 8)?.try_into().ok()?));
        }
        at += length.max(4).next_multiple_of(4);
    }
}
