//! The helper that copies files: it enters a container that runs, or mounts the root of one that does not, and packs or unpacks there.
//!
//! ```text
//! order ─▶ descriptors of the host's /proc ─▶ the container's mounts and root ─▶ its users ─▶ pack: standard output
//!                                                                                   └───────▶ unpack: the rest of the socket
//! ```
//! It executes nothing and makes no process. It cannot be traced, and is not in the container's PID namespace: nothing in there reaches
//! its descriptors. Paths are resolved by the kernel with the container's root as `/`, and from there no link
//! leads out, whoever swaps it.

mod place;

use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat};
use rustix::io::Errno;

use super::exec::{settle, told};
use crate::container::copy::link::{CopyDone, CopyFailure, CopyOrder, CopyReport, CopyWork};
use crate::tree::{Packer, Packing, Placing, Reach, Reason, Unpack, UnpackError};
use place::Place;

/// What is told after a path.
const SIDE: &str = " in the container";
const PIECE: usize = 256 << 10;

pub(super) fn main() -> ExitCode {
    let Ok(mut daemon) = settle() else { return ExitCode::FAILURE };
    let order: CopyOrder = match told(&mut daemon) {
        Ok(order) => order,
        Err(Some(words)) => return end(&daemon, &CopyReport::Failed(CopyFailure::Failed(words))),
        Err(None) => return ExitCode::FAILURE,
    };
    let report = match run(&daemon, order) {
        Ok(done) => CopyReport::Done(done),
        Err(failure) => CopyReport::Failed(failure),
    };
    end(&daemon, &report)
}

fn end(daemon: &UnixStream, report: &CopyReport) -> ExitCode {
    match say(daemon, report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn say(mut daemon: &UnixStream, report: &CopyReport) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    daemon.write_all(&line)
}

fn failed<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> CopyFailure {
    move |error| CopyFailure::Failed(format!("{what}: {error}"))
}

fn run(daemon: &UnixStream, order: CopyOrder) -> Result<CopyDone, CopyFailure> {
    // Of the host's /proc, before the container's takes its place.
    let reach = Reach::open().map_err(failed("our own descriptors cannot be reached"))?;
    let place = Place::enter(order.place, matches!(order.work, CopyWork::Export))?;
    match order.work {
        CopyWork::Pack { path, follow } => packed(daemon, &reach, &place, &path, follow),
        CopyWork::Export => {
            say(daemon, &CopyReport::Ready).map_err(failed("the daemon is gone"))?;
            let enter = |_: BorrowedFd<'_>, _: &Stat| false;
            write(&place, place.root.as_fd(), b"", &Packing { reach: &reach, enter: &enter, attributes: true })
        }
        CopyWork::Unpack { path, place: placing, owners } => {
            unpacked(daemon, &reach, &place, &path, if placing { Placing::Copy } else { Placing::Extract }, owners)
        }
    }
}

fn packed(
    daemon: &UnixStream,
    reach: &Reach,
    place: &Place,
    path: &str,
    follow: bool,
) -> Result<CopyDone, CopyFailure> {
    // With a slash at its end it is the folder that a link leads to.
    let flags = if follow || path.ends_with('/') { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
    let held = place.open(path.as_bytes(), flags).map_err(|error| missing(path, error))?;
    let stat = fstat(&held).map_err(failed(path))?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Socket {
        return Err(CopyFailure::Refused(format!("{path}{SIDE} is a socket, which cannot be copied")));
    }
    place.readable(&held, &stat).map_err(|reason| CopyFailure::Refused(format!("{path}{SIDE} {reason}")))?;
    say(daemon, &CopyReport::Ready).map_err(failed("the daemon is gone"))?;
    let enter = |fd: BorrowedFd<'_>, stat: &Stat| place.worth_entering(fd, stat);
    write(place, held.as_fd(), name(path), &Packing { reach, enter: &enter, attributes: true })
}

fn missing(path: &str, error: Errno) -> CopyFailure {
    match error {
        Errno::NOENT => CopyFailure::NotFound(format!("{path} does not exist{SIDE}")),
        Errno::NOTDIR => CopyFailure::NotFound(format!("{path} does not exist{SIDE}: a part of it is no folder")),
        Errno::LOOP => CopyFailure::Refused(format!(
            "{path}{SIDE} cannot be reached: its links lead in a circle, or by /proc to what processes have open"
        )),
        error => CopyFailure::Failed(format!("{path}{SIDE} cannot be opened: {error}")),
    }
}

/// As the root of the archive is called.
fn name(path: &str) -> &[u8] {
    if path.ends_with("/.") || path.ends_with("/..") {
        return b".";
    }
    match path.trim_end_matches('/').rsplit('/').next() {
        None | Some("" | "." | "..") => b".",
        Some(name) => name.as_bytes(),
    }
}

fn write(place: &Place, from: BorrowedFd<'_>, name: &[u8], how: &Packing<'_>) -> Result<CopyDone, CopyFailure> {
    let out = BufWriter::with_capacity(PIECE, io::stdout().lock());
    let mut packer = Packer::new(out, how);
    let written = packer.tree(from, name).and_then(|()| packer.finish());
    match written {
        Ok(()) => Ok(CopyDone::default()),
        Err(_) if place.ended() => Err(CopyFailure::ContainerEnded),
        Err(error) => {
            let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
            Err(CopyFailure::Failed(format!("{error}{cause}")))
        }
    }
}

fn unpacked(
    daemon: &UnixStream,
    reach: &Reach,
    place: &Place,
    path: &str,
    placing: Placing,
    owners: bool,
) -> Result<CopyDone, CopyFailure> {
    say(daemon, &CopyReport::Ready).map_err(failed("the daemon is gone"))?;
    let open = |path: &[u8], flags: OFlags| place.open(path, flags);
    let check = |fd: BorrowedFd<'_>| place.writable(fd);
    let go_on = || if place.ended() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) };
    let unpack = Unpack {
        reach,
        open: &open,
        // From `/`, which is the container's: links lead where they lead for its own processes.
        resolve: ResolveFlags::NO_MAGICLINKS,
        dest: path.as_bytes(),
        placing,
        owners,
        owner: Some((0, 0)),
        devices: true,
        side: SIDE,
        check: &check,
        go_on: &go_on,
    };
    let mut from = BufReader::with_capacity(PIECE, daemon);
    if let Some(by) = compression(from.fill_buf().map_err(failed("the archive does not come"))?) {
        let words = format!("the archive is compressed by {by}: decompress it first, as by `{by} -dc`");
        return Err(CopyFailure::Refused(words));
    }
    match unpack.run(from) {
        Ok(done) => Ok(CopyDone { files: done.files, bytes: done.bytes }),
        Err(_) if place.ended() => Err(CopyFailure::ContainerEnded),
        Err(error @ UnpackError::Place { reason: Reason::Missing, .. }) => {
            Err(CopyFailure::NotFound(error.to_string()))
        }
        Err(UnpackError::GivenUp(_)) => Err(CopyFailure::ContainerEnded),
        Err(error @ (UnpackError::Place { .. } | UnpackError::Member { .. })) => {
            Err(CopyFailure::Refused(error.to_string()))
        }
        Err(UnpackError::Archive(error)) => {
            let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
            Err(CopyFailure::Refused(format!("{error}{cause}")))
        }
    }
}

/// By its first bytes.
fn compression(first: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 4] =
        [(&[0x1f, 0x8b], "gzip"), (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz")];
    known.into_iter().find(|(magic, _)| first.starts_with(magic)).map(|(_, by)| by)
}

/// Opens below a root: no link in the path leads out of it.
fn open_in(root: &OwnedFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how)
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn the_root_of_an_archive_is_called_as_its_path_ends() {
        for (path, expected) in [
            ("/etc/hosts", "hosts"),
            ("/etc/", "etc"),
            ("/etc/.", "."),
            ("/", "."),
            ("", "."),
            (".", "."),
            ("/a/..", "."),
            ("etc", "etc"),
        ] {
            assert_eq!(name(path), expected.as_bytes(), "{path}");
        }
    }
}
