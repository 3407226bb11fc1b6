//! Copies of the sockets by which other processes of ours keep ports: those of a container of the same slot that runs, or ran until a
//! moment ago. With a copy there is no moment in which the port is free: the socket is the same, and lives as long as any of them.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{SockType, SockaddrStorage, getpeername, getsockname, getsockopt, sockopt};
use rustix::io::Errno;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use super::{MOST_KEPT, PATIENCE, Place, PortError, claim_one, conflict, place, socket};
use crate::model::{ProcessId, Protocol, Published};
use crate::network::namespace;

/// What others of ours have of the ports that are asked for.
#[derive(Debug, Default)]
pub struct Copies(Vec<(Place, OwnedFd)>);

impl Copies {
    /// Of these processes; one that has ended has none.
    pub fn of(keepers: &[ProcessId], asked: &[Published]) -> io::Result<Self> {
        let asked: Vec<Place> = asked.iter().map(place).collect();
        let mut copies: Vec<(Place, OwnedFd)> = Vec::new();
        for keeper in keepers {
            let Some(process) = namespace::pidfd(*keeper)? else { continue };
            for entry in fs::read_dir(format!("/proc/{}/fd", keeper.pid))? {
                let entry = entry?;
                let is_socket = fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
                let number = entry.file_name().to_str().and_then(|name| name.parse().ok()).filter(|_| is_socket);
                let Some(number) = number else { continue };
                let copy = match pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
                    Ok(copy) => copy,
                    // It was just closed, or the process has ended.
                    Err(Errno::BADF | Errno::SRCH) => continue,
                    Err(error) => return Err(error.into()),
                };
                let found = at(&copy).filter(|at| asked.iter().any(|asked| conflict(asked, at)));
                copies.extend(found.map(|at| (at, copy)));
            }
        }
        Ok(Self(copies))
    }

    /// Sockets that keep these ports: copies where there are, others where the port is free. All of them where they are few enough to be
    /// kept, else none.
    pub fn keep(&self, published: &[Published]) -> Result<Vec<OwnedFd>, PortError> {
        let mut kept = Vec::new();
        for one in published {
            kept.extend(self.keep_one(one)?);
            if published.len() > MOST_KEPT {
                kept.clear();
            }
        }
        Ok(kept)
    }

    fn keep_one(&self, published: &Published) -> Result<Vec<OwnedFd>, PortError> {
        if let Some(same) = self.same(published)? {
            return Ok(vec![same]);
        }
        let near = self.near(published)?;
        match claim_one(published, PATIENCE) {
            // On other addresses than before, by us: what keeps those keeps it, too.
            Err(PortError::Program { .. } | PortError::Unknown { .. } | PortError::Closing { .. })
                if !near.is_empty() =>
            {
                Ok(near)
            }
            claimed => claimed.map(|socket| vec![socket]),
        }
    }

    /// A socket for a port that a process carries. None: another one of our slot has it on other addresses, for as long as it runs.
    pub fn carry_one(&self, published: &Published) -> Result<Option<OwnedFd>, PortError> {
        if let Some(same) = self.same(published)? {
            if published.protocol == Protocol::Tcp {
                // It may have been led by the packet filter before. For one that listens this changes nothing.
                rustix::net::listen(&same, socket::BACKLOG).map_err(|error| io_error(published, error.into()))?;
            }
            return Ok(Some(same));
        }
        let near = !self.near(published)?.is_empty();
        match claim_one(published, PATIENCE) {
            Err(PortError::Program { .. } | PortError::Unknown { .. } | PortError::Closing { .. }) if near => Ok(None),
            claimed => claimed.map(Some),
        }
    }

    /// All of them.
    #[must_use]
    pub fn into_all(self) -> Vec<OwnedFd> {
        self.0.into_iter().map(|(_, copy)| copy).collect()
    }

    fn same(&self, published: &Published) -> Result<Option<OwnedFd>, PortError> {
        let place = place(published);
        let same = self.0.iter().find(|(at, _)| *at == place);
        same.map(|(_, copy)| copy.try_clone()).transpose().map_err(|error| io_error(published, error))
    }

    fn near(&self, published: &Published) -> Result<Vec<OwnedFd>, PortError> {
        let place = place(published);
        let near = self.0.iter().filter(|(at, _)| conflict(at, &place));
        near.map(|(_, copy)| copy.try_clone()).collect::<io::Result<_>>().map_err(|error| io_error(published, error))
    }
}

fn io_error(published: &Published, source: io::Error) -> PortError {
    PortError::Io { place: place(published), source }
}

/// Where it keeps a port; none for a connection, and for what is no socket of the internet.
fn at(socket: &OwnedFd) -> Option<Place> {
    let name: SockaddrStorage = getsockname(socket.as_raw_fd()).ok()?;
    if getpeername::<SockaddrStorage>(socket.as_raw_fd()).is_ok() {
        return None;
    }
    let on = match (name.as_sockaddr_in(), name.as_sockaddr_in6()) {
        (Some(v4), _) => SocketAddr::from(std::net::SocketAddrV4::from(*v4)),
        (_, Some(v6)) => SocketAddr::from(std::net::SocketAddrV6::from(*v6)),
        (None, None) => return None,
    };
    let protocol =
        match (getsockopt(socket, sockopt::SockType).ok()?, rustix::net::sockopt::socket_protocol(socket).ok()?) {
            (_, Some(rustix::net::ipproto::SCTP)) => Protocol::Sctp,
            (SockType::Stream, _) => Protocol::Tcp,
            (SockType::Datagram, _) => Protocol::Udp,
            _ => return None,
        };
    let both = match on.ip() {
        IpAddr::V6(v6) => v6.is_unspecified() && !rustix::net::sockopt::ipv6_v6only(socket).ok()?,
        IpAddr::V4(v4) => v4.is_unspecified() && !socket::dual(),
    };
    Some(((!both).then_some(on.ip()), on.port(), protocol))
}
