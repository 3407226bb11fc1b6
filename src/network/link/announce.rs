//! Who has an address that another container had is told to everybody on the wire: they may still send to the other's MAC address,
//! for seconds. The kernel's own announcement (`arp_notify`) comes before the bridge's port carries anything, so this is sent when the
//! container's command runs.
#![expect(unsafe_code, reason = "a frame is sent to an address of the link layer")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use crate::model::{Attachment, Mac};
use crate::network::netlink::{SeenLink, Socket};

const EVERYBODY: Mac = Mac([0xff; 6]);
/// That of `ff02::1`.
const EVERY_NODE: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;

/// Tells it for every address of the link. The calling thread is in the container's namespace. Best effort: those who are not told
/// find out by themselves.
pub fn announce(inside: &Socket, attachment: &Attachment) -> io::Result<()> {
    let link = inside.link(&attachment.interface).map_err(io::Error::other)?;
    let Some(SeenLink { index, mac: Some(mac), .. }) = link else { return Ok(()) };
    let socket = socket()?;
    for cidr in &attachment.addresses {
        match cidr.address {
            IpAddr::V4(address) => send(&socket, index, EVERYBODY, ARP, &arp(mac, address))?,
            IpAddr::V6(address) => send(&socket, index, EVERY_NODE, IPV6, &advertisement(mac, address))?,
        }
    }
    Ok(())
}

/// "Who has this address? Tell it": asked by its owner, as RFC 5227 says.
fn arp(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    [&head[..], &mac.0, &address.octets(), &[0; 6], &address.octets()].concat()
}

/// A neighbour advertisement that nobody asked for, with its IPv6 header.
fn advertisement(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    const NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const ICMP: u8 = 58;
    // Override what is known; the link-layer address follows.
    let mut body = [&[136, 0, 0, 0, 0x20, 0, 0, 0], &address.octets()[..], &[2, 1], &mac.0].concat();
    let len = u8::try_from(body.len()).unwrap_or(u8::MAX);
    let ends = [address.octets(), NODES.octets()].concat();
    let sum = checksum(&[&ends[..], &[0, 0, 0, len, 0, 0, 0, ICMP], &body].concat());
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    [&[0x60, 0, 0, 0, 0, len, ICMP, 255], &ends[..], &body].concat()
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b))).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: numbers only. With protocol 0 it receives nothing.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just made, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn send(socket: &OwnedFd, index: u32, to: Mac, protocol: u16, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: all bytes zero is a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = libc::c_int::try_from(index).unwrap_or(0);
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&to.0);
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: a valid slice and a valid address of that length, alive during the call.
    let sent = unsafe {
        libc::sendto(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0, (&raw const address).cast(), len)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_are_well_formed() {
        let mac = Mac([2, 0, 0, 0, 0, 9]);
        let arp = arp(mac, Ipv4Addr::new(10, 0, 0, 7));
        assert_eq!(arp.len(), 28);
        assert_eq!((&arp[8..14], &arp[14..18], &arp[24..]), (&mac.0[..], &[10, 0, 0, 7][..], &[10, 0, 0, 7][..]));
        let advertisement = advertisement(mac, "fd00::7".parse().unwrap());
        assert_eq!(advertisement.len(), 40 + 32);
        let pseudo = [&advertisement[8..40], &[0, 0, 0, 32, 0, 0, 0, 58], &advertisement[40..]].concat();
        assert_eq!(checksum(&pseudo), 0, "with its own sum in it");
    }
}
