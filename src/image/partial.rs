//! What a download that broke off had brought, kept for the next pull: `partial/<algorithm>-<hex>` holds the first bytes
//! of a blob. Nothing in there is believed: all of it is hashed again with the rest.
//!
//! It is a convenience: where it cannot be written the pull goes on without it.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _, BufWriter};

use super::manifest::Descriptor;
use crate::model::Digest;

/// Smaller layers are fetched again.
const WORTH: u64 = 1 << 20;
/// What nobody asked for in this time is removed when the store opens.
const OLD: Duration = Duration::from_secs(7 * 24 * 3600);
/// Bytes that are read or written at once.
const PIECE: usize = 256 << 10;

/// The directory, and which of its files are in use.
#[derive(Debug)]
pub(super) struct Partials {
    dir: PathBuf,
    busy: Mutex<BTreeSet<Digest>>,
}

impl Partials {
    /// Below the store in `dir`. Removes what is old.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let dir = dir.join("partial");
        std::fs::create_dir_all(&dir)?;
        for entry in std::fs::read_dir(&dir)?.flatten() {
            let age = entry.metadata().and_then(|m| m.modified()).map(|at| at.elapsed().unwrap_or_default());
            if age.is_ok_and(|age| age > OLD) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(Self { dir, busy: Mutex::default() })
    }

    /// The file for a blob; none where it is not worth it, does not work, or another pull has it.
    pub(super) async fn take(self: &Arc<Self>, of: &Descriptor) -> Option<Partial> {
        if of.size < WORTH || !self.busy().insert(of.digest.clone()) {
            return None;
        }
        let claim = Claim { of: Arc::clone(self), digest: of.digest.clone() };
        let path = self.path(of);
        let (size, at) = (of.size, path.clone());
        let opened = tokio::task::spawn_blocking(move || open(&at, size)).await.map_err(io::Error::other).flatten();
        match opened {
            Ok(file) => {
                let file = Some(BufWriter::with_capacity(PIECE, File::from_std(file)));
                Some(Partial { path, file, _claim: claim })
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a download will not survive a break");
                None
            }
        }
    }

    /// What is kept of a blob that nobody needs any more, unless a pull is at it.
    pub(super) async fn discard(&self, of: &Descriptor) {
        if of.size >= WORTH && !self.busy().contains(&of.digest) {
            let _ = tokio::fs::remove_file(self.path(of)).await;
        }
    }

    fn path(&self, of: &Descriptor) -> PathBuf {
        self.dir.join(format!("{}-{}", of.digest.algorithm(), of.digest.hex()))
    }

    fn busy(&self) -> std::sync::MutexGuard<'_, BTreeSet<Digest>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that holds more than the blob has is of no use.
fn open(path: &Path, size: u64) -> io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(path)?;
    if file.metadata()?.len() > size {
        file.set_len(0)?;
    }
    // Its age counts from the last time that someone wanted it.
    file.set_modified(std::time::SystemTime::now())?;
    Ok(file)
}

#[derive(Debug)]
struct Claim {
    of: Arc<Partials>,
    digest: Digest,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.of.busy().remove(&self.digest);
    }
}

/// One blob's first bytes: first read to the end, then written on.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    _claim: Claim,
}

impl Drop for Partial {
    /// Nothing came, or nothing that is of use: no file stays.
    fn drop(&mut self) {
        if self.file.is_some() && std::fs::metadata(&self.path).is_ok_and(|found| found.len() == 0) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Partial {
    /// The next bytes that an earlier download left.
    pub(super) async fn read(&mut self) -> io::Result<Option<Bytes>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        let mut piece = Vec::with_capacity(PIECE);
        let got = file.get_mut().read_buf(&mut piece).await?;
        Ok((got > 0).then(|| Bytes::from(piece)))
    }

    /// Keeps bytes that came.
    pub(super) async fn write(&mut self, bytes: &Bytes) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = file.write_all(bytes).await {
            tracing::warn!(path = %self.path.display(), %error, "a download will not survive a break");
            self.remove().await;
        }
    }

    /// The download broke off: what came so far is kept.
    pub(super) async fn keep(&mut self) {
        if let Some(file) = &mut self.file
            && file.flush().await.is_err()
        {
            self.remove().await;
        }
    }

    /// It is of no further use.
    pub(super) async fn remove(&mut self) {
        if self.file.take().is_some() {
            let _ = tokio::fs::remove_file(&self.path).await;
        }
    }

    /// What is in there is wrong: begins anew.
    pub(super) async fn clear(&mut self) {
        let Some(file) = &mut self.file else { return };
        // Seeking writes out what is buffered, which then goes with the rest.
        let begun = file.seek(io::SeekFrom::Start(0)).await;
        if begun.is_err() || file.get_mut().set_len(0).await.is_err() {
            self.remove().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_pull_writes_and_the_next_reads() {
        let temp = tempfile::tempdir().unwrap();
        let partials = Arc::new(Partials::open(temp.path()).unwrap());
        let digest = Digest::parse(&format!("sha256:{}", "a".repeat(64))).unwrap();
        let of = |size| Descriptor { media_type: String::new(), digest: digest.clone(), size };
        assert!(partials.take(&of(10)).await.is_none());
        let mut first = partials.take(&of(WORTH)).await.unwrap();
        assert!(partials.take(&of(WORTH)).await.is_none(), "one at a time");
        assert_eq!(first.read().await.unwrap(), None);
        first.write(&Bytes::from_static(b"abc")).await;
        first.keep().await;
        drop(first);
        let mut second = partials.take(&of(WORTH)).await.unwrap();
        assert_eq!(second.read().await.unwrap().unwrap(), "abc");
        assert_eq!(second.read().await.unwrap(), None);
        second.write(&Bytes::from_static(b"def")).await;
        second.keep().await;
        let path = second.path.clone();
        assert_eq!(std::fs::read(&path).unwrap(), b"abcdef");
        second.write(&Bytes::from_static(b"wrong")).await;
        second.clear().await;
        assert_eq!(second.read().await.unwrap(), None);
        second.write(&Bytes::from_static(b"anew")).await;
        second.keep().await;
        assert_eq!(std::fs::read(&path).unwrap(), b"anew");
        second.clear().await;
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
        // Too long, and too old.
        std::fs::write(&path, vec![0; (WORTH + 1) as usize]).unwrap();
        assert_eq!(partials.take(&of(WORTH)).await.unwrap().read().await.unwrap(), None);
        assert!(!path.exists(), "what is empty does not stay");
        std::fs::write(&path, "abc").unwrap();
        let long_ago = std::time::SystemTime::now() - 2 * OLD;
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        Partials::open(temp.path()).unwrap();
        assert!(!path.exists());
    }
}
