//! The members of an archive as files of our own, because what says how to read them usually comes last.
//!
//! A member's name is a key and nothing else; on disk it is a number.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};

use super::{ArchiveError, disk, refused};
use crate::image::error::shown;
use crate::image::settings::Limits;
use crate::image::unpack::ingest::Ingest;
use crate::untar::{Archive, Kind};

/// Three for each layer of some hundred images.
const MEMBERS: u64 = 100_000;
/// Bytes of all names.
const NAMES: usize = 16 << 20;
/// What an archive must leave free for everyone else.
const SPARE: u64 = 64 << 20;
/// Links from member to member; docker writes one.
const LINKS: usize = 8;

/// Files by member names.
pub(super) struct Spool {
    ingest: Ingest,
    files: BTreeMap<String, PathBuf>,
    links: BTreeMap<String, String>,
}

impl Spool {
    /// Reads the whole archive.
    pub(super) fn fill(ingest: Ingest, from: impl Read, limits: &Limits) -> Result<Self, ArchiveError> {
        let mut spool = Self { ingest, files: BTreeMap::new(), links: BTreeMap::new() };
        let mut archive = Archive::new(BufReader::with_capacity(128 << 10, from));
        let (mut members, mut names) = (0u64, 0);
        while let Some(entry) = archive.next()? {
            members += 1;
            let name = clean(&entry.path)?;
            names += name.len();
            if members > MEMBERS || names > NAMES {
                return refused(format!("it has more than {MEMBERS} members, or too long names"));
            }
            match entry.kind {
                Kind::Directory => {}
                Kind::File { size } => spool.file(name, size, members, &mut archive, limits)?,
                Kind::Symlink(to) => {
                    let to = beside(&name, &to)?;
                    spool.links.insert(name, to);
                }
                Kind::Hardlink(to) => {
                    let to = clean(&to)?;
                    spool.links.insert(name, to);
                }
                Kind::Character(..) | Kind::Block(..) | Kind::Fifo => {
                    return refused(format!("{} is a device or a pipe", shown(name.as_bytes())));
                }
            }
        }
        // Whoever writes into a pipe is not cut off in the padding.
        let _ = std::io::copy(&mut archive.into_inner().take(1 << 20), &mut std::io::sink());
        Ok(spool)
    }

    fn file<R: BufRead>(
        &mut self,
        name: String,
        size: u64,
        number: u64,
        archive: &mut Archive<R>,
        limits: &Limits,
    ) -> Result<(), ArchiveError> {
        // Content-addressed members may come twice, since they are compared with their name; others mean two things.
        if self.files.contains_key(&name) && !name.starts_with("blobs/") {
            return refused(format!("it has two members {:?}", shown(name.as_bytes())));
        }
        if size > limits.layer_bytes {
            return refused(format!(
                "{:?} has {size} bytes; at most {} are allowed",
                shown(name.as_bytes()),
                limits.layer_bytes
            ));
        }
        let dir = self.ingest.path();
        let disk = disk(dir);
        if room(dir)? < size.saturating_add(SPARE) {
            return Err(ArchiveError::NoSpace { dir: dir.to_owned() });
        }
        let path = self.ingest.diff().join(number.to_string());
        let mut file = File::create_new(&path).map_err(&disk)?;
        loop {
            let piece = archive.data()?;
            if piece.is_empty() {
                break;
            }
            file.write_all(piece).map_err(&disk)?;
            let got = piece.len();
            archive.used(got);
        }
        self.files.insert(name, path);
        Ok(())
    }

    /// The file of a member, over links.
    pub(super) fn path(&self, name: &str) -> Option<&Path> {
        let mut name = name;
        for _ in 0..=LINKS {
            if let Some(path) = self.files.get(name) {
                return Some(path);
            }
            name = self.links.get(name)?;
        }
        None
    }
}

fn room(dir: &Path) -> Result<u64, ArchiveError> {
    let found = rustix::fs::statvfs(dir).map_err(|e| disk(dir)(e.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// A member's name as a key: relative, without `.` and `..`.
pub(super) fn clean(name: &[u8]) -> Result<String, ArchiveError> {
    beside("", name)
}

/// Where a link at `name` leads to, inside the archive.
fn beside(name: &str, to: &[u8]) -> Result<String, ArchiveError> {
    let bad = |why: &str| refused(format!("{:?} {why}", shown(to)));
    let Ok(text) = std::str::from_utf8(to) else { return bad("is not text") };
    if text.starts_with('/') || text.len() > 1024 {
        return bad("is an absolute or very long name");
    }
    let mut parts: Vec<&str> = name.split('/').filter(|p| !p.is_empty()).collect();
    parts.pop();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_some() => {}
            ".." => return bad("leads out of the archive"),
            part => parts.push(part),
        }
    }
    // Only links may go up.
    if name.is_empty() && text.split('/').any(|p| p == "..") {
        return bad("holds \"..\"");
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        let names =
            [("./a//b/", Ok("a/b")), ("a/../b", Err(())), ("/etc/passwd", Err(())), ("../x", Err(())), ("", Ok(""))];
        for (name, expected) in names {
            assert_eq!(clean(name.as_bytes()).map_err(|_| ()), expected.map(ToOwned::to_owned), "{name}");
        }
        let links = [
            ("a/layer.tar", "../b/layer.tar", Ok("b/layer.tar")),
            ("a/l", "../../etc/passwd", Err(())),
            ("l", "x", Ok("x")),
        ];
        for (name, to, expected) in links {
            assert_eq!(beside(name, to.as_bytes()).map_err(|_| ()), expected.map(ToOwned::to_owned), "{name} to {to}");
        }
    }
}
