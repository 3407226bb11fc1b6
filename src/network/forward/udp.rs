//! Datagrams: a socket towards the container for each who asks, for as long as something comes or goes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, getsockname, recvmsg, sendmsg, setsockopt, sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Carried;

/// Who asks no more for so long is forgotten.
const IDLE: Duration = Duration::from_secs(60);
/// Of one port; the next is not served until one is forgotten.
const MOST_CLIENTS: usize = 1024;
/// The longest there is.
const DATAGRAM: usize = 65_535;

/// The port on the host.
pub(super) struct Port {
    socket: UdpSocket,
}

/// Who asks, and the address of ours that was asked: the answer comes from there.
type Client = (SocketAddr, IpAddr);

struct Flow {
    socket: UdpSocket,
    last: Cell<Instant>,
}

impl Port {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        let name: SockaddrStorage = getsockname(socket.as_raw_fd())?;
        if name.as_sockaddr_in6().is_some() {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        let socket = std::net::UdpSocket::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UdpSocket::from_std(socket)? })
    }

    async fn receive(&self, bytes: &mut [u8]) -> io::Result<(usize, Client)> {
        let bytes = RefCell::new(bytes);
        self.socket.async_io(Interest::READABLE, || receive(&self.socket, &mut bytes.borrow_mut())).await
    }

    async fn answer(&self, bytes: &[u8], client: Client) -> io::Result<()> {
        self.socket.async_io(Interest::WRITABLE, || send(&self.socket, bytes, client)).await
    }
}

/// For ever, while it is its turn.
pub(super) async fn carry(port: Port, carried: Carried, mut turn: watch::Receiver<bool>) {
    let port = Rc::new(port);
    let flows: Rc<RefCell<HashMap<Client, Rc<Flow>>>> = Rc::default();
    let mut bytes = vec![0; DATAGRAM];
    loop {
        if turn.wait_for(|mine| *mine).await.is_err() {
            return;
        }
        let received = tokio::select! {
            // What was not received waits in the kernel.
            received = port.receive(&mut bytes) => received,
            _ = turn.changed() => continue,
        };
        // An error is that of an answer that nobody took.
        let Ok((count, client)) = received else { continue };
        let known = flows.borrow().get(&client).cloned();
        let flow = match known {
            Some(flow) => flow,
            None if flows.borrow().len() >= MOST_CLIENTS => continue,
            None => {
                let Ok(socket) = open(&carried, client.0.ip()).await else { continue };
                let flow = Rc::new(Flow { socket, last: Cell::new(Instant::now()) });
                flows.borrow_mut().insert(client, Rc::clone(&flow));
                let (port, flow_back, flows) = (Rc::clone(&port), Rc::clone(&flow), Rc::clone(&flows));
                tokio::task::spawn_local(async move {
                    back(&port, &flow_back, client).await;
                    flows.borrow_mut().remove(&client);
                });
                flow
            }
        };
        flow.last.set(Instant::now());
        // What cannot be sent is lost, as datagrams are.
        let _ = flow.socket.send(&bytes[..count]).await;
    }
}

async fn open(carried: &Carried, asker: IpAddr) -> io::Result<UdpSocket> {
    let target = carried.target(asker).ok_or(io::ErrorKind::AddrNotAvailable)?;
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(target).await?;
    Ok(socket)
}

/// Answers go back until nothing came or went for long enough.
async fn back(port: &Port, flow: &Flow, client: Client) {
    let mut bytes = vec![0; DATAGRAM];
    loop {
        let until = flow.last.get() + IDLE;
        match timeout_at(until, flow.socket.recv(&mut bytes)).await {
            Ok(Ok(count)) => {
                flow.last.set(Instant::now());
                let _ = port.answer(&bytes[..count], client).await;
            }
            // Nobody listens in the container (now); that is no answer.
            Ok(Err(_)) => {}
            Err(_) if flow.last.get() + IDLE <= Instant::now() => return,
            Err(_) => {}
        }
    }
}

fn receive(socket: &UdpSocket, bytes: &mut [u8]) -> io::Result<(usize, Client)> {
    let mut parts = [IoSliceMut::new(bytes)];
    let mut space = nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo);
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())?;
    let from = message.address.as_ref().and_then(address).ok_or(io::ErrorKind::InvalidData)?;
    let asked = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr))),
        _ => None,
    });
    Ok((message.bytes, (from, asked.ok_or(io::ErrorKind::InvalidData)?)))
}

fn send(socket: &UdpSocket, bytes: &[u8], (to, from): Client) -> io::Result<()> {
    let parts = [IoSlice::new(bytes)];
    let to = SockaddrStorage::from(to);
    let v4;
    let v6;
    let control = match from {
        IpAddr::V4(from) => {
            let none = libc::in_addr { s_addr: 0 };
            let address = libc::in_addr { s_addr: u32::from(from).to_be() };
            v4 = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: none };
            ControlMessage::Ipv4PacketInfo(&v4)
        }
        IpAddr::V6(from) => {
            v6 = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: from.octets() }, ipi6_ifindex: 0 };
            ControlMessage::Ipv6PacketInfo(&v6)
        }
    };
    sendmsg(socket.as_raw_fd(), &parts, &[control], MsgFlags::empty(), Some(&to))?;
    Ok(())
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::from(std::net::SocketAddrV4::from(*v4)));
    }
    storage.as_sockaddr_in6().map(|v6| SocketAddr::from(std::net::SocketAddrV6::from(*v6)))
}
