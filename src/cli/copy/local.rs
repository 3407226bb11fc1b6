//! This machine's side of a copy.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use hyper::body::Bytes;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, openat};
use rustix::io::Errno;
use tokio::io::AsyncWriteExt as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::client::Pieces;
use crate::cli::failure::Failure;
use crate::cli::upload::{self, Fault};
use crate::tree::{Packer, Packing, Placing, Reach, Unpack, UnpackError, Unpacked};

/// A container may have changed much.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// Refuses what cannot become of it anyway, before anything is asked for.
pub(super) fn beforehand(to: &Path) -> Result<(), Failure> {
    let above = to.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !to.is_dir() && !above.is_dir() {
        return Err(Failure::Said(format!("{} does not exist; make that folder first", above.display())));
    }
    Ok(())
}

/// Unpacks what comes, on a thread of its own.
pub(super) async fn unpack(mut pieces: Pieces, to: &Path, owners: bool) -> Result<Unpacked, Failure> {
    let (reading, writing) = io::pipe().map_err(Failure::Runtime)?;
    let mut writing = tokio::net::unix::pipe::Sender::from_owned_fd(writing.into()).map_err(Failure::Runtime)?;
    let to = to.to_owned();
    let work = tokio::task::spawn_blocking(move || run(File::from(OwnedFd::from(reading)), &to, owners));
    // Kept over all pieces: a signal that comes while one is written is heard after it.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Runtime)?;
    let mut broken = None;
    loop {
        // A piece that is given up is not wanted any more.
        let piece = tokio::select! {
            biased;
            _ = interrupt.recv() => Err(Failure::Said("given up: what was copied so far is not all".to_owned())),
            piece = pieces.next() => piece,
        };
        match piece {
            // Who does not take it has failed, and says why.
            Ok(Some(piece)) => match writing.write_all(&piece).await {
                Ok(()) => {}
                Err(_) => break,
            },
            Ok(None) => break,
            Err(failure) => {
                broken = Some(failure);
                break;
            }
        }
    }
    drop(writing);
    let done = work.await.unwrap_or_else(|_| Err(Failure::Said("an internal check failed".to_owned())));
    match broken {
        Some(failure) => Err(failure),
        None => done,
    }
}

fn run(from: File, to: &Path, owners: bool) -> Result<Unpacked, Failure> {
    let reach = Reach::open().map_err(Failure::Runtime)?;
    let open = |path: &[u8], flags: OFlags| -> Result<OwnedFd, Errno> {
        openat(CWD, if path.is_empty() { b"." } else { path }, flags | OFlags::CLOEXEC, Mode::empty())
    };
    let unpack = Unpack {
        reach: &reach,
        open: &open,
        resolve: ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        dest: to.as_os_str().as_bytes(),
        placing: Placing::Copy,
        owners,
        owner: None,
        devices: false,
        side: "",
        check: &|_| Ok(()),
        go_on: &|| Ok(()),
    };
    unpack.run(BufReader::with_capacity(256 << 10, from)).map_err(|error| match error {
        UnpackError::Archive(error) => Failure::Said(format!("what comes from the container is not whole: {error}")),
        error => Failure::Said(error.to_string()),
    })
}

/// Packs a file or a folder as it is sent.
pub(super) fn pack(
    source: &Path,
    follow: bool,
) -> Result<(impl Stream<Item = io::Result<Bytes>> + use<>, Fault), Failure> {
    let text = source.as_os_str().as_bytes();
    let cannot = |error: io::Error| Failure::Said(format!("cannot read {}: {error}", source.display()));
    let whole = follow || text.ends_with(b"/") || text.ends_with(b"/.");
    let flags = if whole { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
    let held = openat(CWD, source, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|e| cannot(e.into()))?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&held).map_err(|e| cannot(e.into()))?.st_mode);
    match kind {
        FileType::Socket => {
            return Err(Failure::Said(format!("{} is a socket, which cannot be copied", source.display())));
        }
        FileType::Directory => {}
        _ if text.ends_with(b"/") => return Err(Failure::Said(format!("{} is no folder", source.display()))),
        _ => {}
    }
    let name = name(source);
    let (pieces, fault) = upload::pieces(source.display().to_string(), move |to| {
        let reach = Reach::open()?;
        let enter = |_: BorrowedFd<'_>, _: &Stat| true;
        let how = Packing { reach: &reach, enter: &enter, attributes: true };
        let mut packer = Packer::new(&mut *to, &how);
        let packed = packer.tree(held.as_fd(), &name).and_then(|()| packer.finish());
        packed.map_err(|error| {
            let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<io::Error>());
            let kind = cause.map_or(io::ErrorKind::Other, io::Error::kind);
            let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
            io::Error::new(kind, format!("{error}{cause}"))
        })?;
        to.flush()
    })?;
    Ok((stream::unfold(pieces, |mut pieces| async { Some((pieces.recv().await?, pieces)) }), fault))
}

/// As the root of the archive is called: what is in a folder has none.
fn name(source: &Path) -> Vec<u8> {
    let text = source.as_os_str().as_bytes();
    if text.ends_with(b"/.") || text == b"." {
        return b".".to_vec();
    }
    source.file_name().unwrap_or(OsStr::new(".")).as_bytes().to_vec()
}
