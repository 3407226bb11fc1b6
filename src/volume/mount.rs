//! What options name, mounted and unmounted, in the mount namespace of whoever calls. What is mounted is read from the kernel.

use std::collections::BTreeSet;
use std::ffi::{CString, OsString};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use rustix::io::Errno;

use super::child::{self, Call, Ended};
use super::error::MountError;
use super::options::Asked;

/// How long a mount may take.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// Places where a process hangs.
#[derive(Debug, Clone, Default)]
pub(super) struct Stuck(Arc<Mutex<BTreeSet<PathBuf>>>);

impl Stuck {
    fn at(&self, place: &Path) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(place)
    }

    /// Remembers the place until the process has ended.
    fn until(&self, place: &Path, process: child::Abandoned) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(place.to_owned());
        let (all, place) = (Arc::clone(&self.0), place.to_owned());
        let wait = move || {
            process.wait();
            all.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
        };
        std::thread::Builder::new().name("stuck mount".to_owned()).spawn(wait).map(drop)
    }
}

/// Where something is mounted, as this thread sees it.
pub(super) fn points() -> io::Result<BTreeSet<PathBuf>> {
    let table = std::fs::read("/proc/thread-self/mountinfo")?;
    let point = |line: &[u8]| line.split(|byte| *byte == b' ').nth(4).map(unescaped);
    Ok(table.split(|byte| *byte == b'\n').filter_map(point).collect())
}

/// Whether something is mounted on this folder or below it.
pub(super) fn anything_below(folder: &Path) -> io::Result<bool> {
    Ok(points()?.iter().any(|point| point.starts_with(folder)))
}

/// `\040` is a space.
fn unescaped(text: &[u8]) -> PathBuf {
    let (mut plain, mut rest) = (Vec::new(), text);
    while let [first, behind @ ..] = rest {
        let code = (*first == b'\\').then(|| behind.get(..3)).flatten();
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(code.unwrap_or(*first));
        rest = if code.is_some() { &behind[3..] } else { behind };
    }
    PathBuf::from(OsString::from_vec(plain))
}

/// Mounts it.
pub(super) fn mount(asked: Asked, at: &Path, limit: Duration, stuck: &Stuck) -> Result<(), MountError> {
    let what = asked.what();
    if stuck.at(at) {
        return Err(MountError::Stuck { what });
    }
    let asked = addressed(asked, limit)?;
    let calls = calls(&asked, at).map_err(|source| MountError::Host { doing: "passing on the options", source })?;
    let ended = child::run(&calls, limit).map_err(|source| MountError::Host { doing: "starting a process", source })?;
    match ended {
        Ended::Done => Ok(()),
        Ended::Failed(0, error) => Err(MountError::Refused { why: why(&asked, error), source: error.into() }),
        Ended::Failed(_, error) => {
            // Mounted, but not as it was asked for: better not at all.
            unmount(at, limit, stuck)?;
            Err(MountError::Refused { why: why(&asked, error), source: error.into() })
        }
        Ended::Late => {
            // It may have been done at the last moment.
            if points().is_ok_and(|points| points.contains(at)) {
                unmount(at, limit, stuck)?;
            }
            Err(MountError::Silent { what, limit })
        }
        Ended::Stuck(process) => {
            stuck.until(at, process).map_err(|source| MountError::Host { doing: "starting a thread", source })?;
            Err(MountError::Silent { what, limit })
        }
    }
}

/// Unmounts what is there, all of it.
pub(super) fn unmount(at: &Path, limit: Duration, stuck: &Stuck) -> Result<(), MountError> {
    let what = format!("what is mounted on {}", at.display());
    let host = |doing| move |source| MountError::Host { doing, source };
    let path = CString::new(at.as_os_str().as_bytes()).map_err(io::Error::from).map_err(host("passing on the path"))?;
    loop {
        if stuck.at(at) {
            return Err(MountError::Stuck { what });
        }
        if !points().map_err(host("reading the mounts"))?.contains(at) {
            return Ok(());
        }
        match child::run(&[Call::Unmount { at: path.clone() }], limit).map_err(host("starting a process"))? {
            Ended::Done | Ended::Failed(_, Errno::INVAL) => {}
            Ended::Failed(_, error) => {
                return Err(MountError::Refused { why: format!("{what} cannot be unmounted"), source: error.into() });
            }
            Ended::Late => return Err(MountError::Silent { what, limit }),
            Ended::Stuck(process) => {
                stuck.until(at, process).map_err(host("starting a thread"))?;
                return Err(MountError::Silent { what, limit });
            }
        }
    }
}

/// With the server's name looked up.
fn addressed(asked: Asked, limit: Duration) -> Result<Asked, MountError> {
    let Some(server) = asked.server().map(str::to_owned) else { return Ok(asked) };
    let address = if server.parse::<std::net::IpAddr>().is_ok() { server } else { looked_up(&server, limit)? };
    Ok(asked.at(&address))
}

/// The resolver has no limit that we could set.
fn looked_up(server: &str, limit: Duration) -> Result<String, MountError> {
    let failed = |source| MountError::Address { server: server.to_owned(), source };
    let (tell, told) = mpsc::channel();
    let name = server.to_owned();
    let look = move || tell.send((name.as_str(), 0).to_socket_addrs().map(Iterator::collect::<Vec<SocketAddr>>));
    std::thread::Builder::new().name("server name".to_owned()).spawn(look).map_err(failed)?;
    let silent = |_| failed(io::Error::new(io::ErrorKind::TimedOut, "the name servers did not answer in time"));
    let found = told.recv_timeout(limit).map_err(silent)?.map_err(failed)?;
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    let nothing = || failed(io::Error::new(io::ErrorKind::NotFound, "it has none"));
    first.map(|address| address.ip().to_string()).ok_or_else(nothing)
}

fn calls(asked: &Asked, at: &Path) -> io::Result<Vec<Call>> {
    let at = CString::new(at.as_os_str().as_bytes())?;
    let call = |device: &str, kind: &str, flags: u64, data: &str| -> io::Result<Call> {
        let (device, kind, data) = (CString::new(device)?, CString::new(kind)?, CString::new(data)?);
        Ok(Call::Mount { device, at: at.clone(), kind, flags, data })
    };
    let mut calls = vec![call(&asked.device, &asked.kind, asked.flags, &asked.data.join(","))?];
    if let Some(flags) = asked.again() {
        calls.push(call("", "", flags, "")?);
    }
    if asked.propagation != 0 {
        calls.push(call("", "", asked.propagation, "")?);
    }
    Ok(calls)
}

/// What the kernel means.
fn why(asked: &Asked, error: Errno) -> String {
    let Asked { device, kind, data, .. } = asked;
    let what = asked.what();
    match error {
        Errno::NOENT if asked.is_bind() => format!("{what} does not exist; make it, or change the volume's device"),
        Errno::NOENT => format!("there is no {device}, or nothing there has that name"),
        Errno::NODEV => format!("this kernel knows no file system {kind:?}; is its module installed?"),
        Errno::INVAL if !data.is_empty() => {
            format!("{kind} refused the options {:?}, or what is on {device}", data.join(","))
        }
        Errno::NOTDIR => format!("{what} is not a folder"),
        Errno::NOTBLK => format!("{device} is not a block device"),
        Errno::BUSY => format!("{device} is in use"),
        Errno::ACCESS | Errno::PERM => format!("{what} does not let us in"),
        Errno::CONNREFUSED | Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN => {
            format!("{what} cannot be reached; it is tried again")
        }
        Errno::TIMEDOUT => format!("{what} did not answer; it is tried again"),
        _ => format!("{what} was refused by the kernel"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_spaces_are_read() {
        assert_eq!(unescaped(br"/a\040b\134c\x"), Path::new(r"/a b\c\x"));
        assert!(points().unwrap().contains(Path::new("/proc")));
    }
}
