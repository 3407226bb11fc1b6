//! A volume as a tar archive: owners, modes, times, extended attributes, hard links. Blocks.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::AsFd as _;

use rustix::fs::{FileType, Stat, major, minor};
use tar::{Builder, EntryType, Header};

use super::attributes::{At, Attributes};
use super::error::{VolumeError, disk};
use super::front::Volumes;
use super::walk::{self, Found};
use crate::model::VolumeName;

impl Volumes {
    /// Writes what a volume holds. One with options is mounted where it is not, and stays so until it is released.
    pub fn export(&self, name: &VolumeName, to: impl Write + Send) -> Result<(), VolumeError> {
        let inner = &self.0;
        let gate = inner.gate(name);
        let Ok(_shared) = gate.content.try_read() else { return Err(VolumeError::Busy { name: name.clone() }) };
        inner.mount(&inner.made(name)?)?;
        let path = inner.data(name);
        write(&path, to).map_err(disk("writing a volume's archive", &path))
    }
}

fn write(path: &std::path::Path, to: impl Write) -> io::Result<()> {
    let root = walk::open(path)?;
    let mut out = Builder::new(io::BufWriter::with_capacity(256 << 10, to));
    let stat = rustix::fs::fstat(&root)?;
    member(&mut out, b"./", b"", EntryType::Directory, &At::Open(root.as_fd()).read(&stat)?, (0, 0), io::empty())?;
    let mut links: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    walk::walk(root.as_fd(), &mut |found| one(&mut out, found, &mut links))?;
    out.into_inner()?.flush()
}

fn one<W: Write>(out: &mut Builder<W>, found: &Found<'_>, links: &mut HashMap<(u64, u64), Vec<u8>>) -> io::Result<()> {
    let (dir, name) = (found.dir, found.name.as_bytes());
    let nothing = io::empty;
    if let Some(first) = found.identity().and_then(|identity| links.get(&identity)) {
        let attributes = Attributes { xattrs: Vec::new(), ..At::Link(dir, name).read(&found.stat)? };
        return member(out, found.path, first, EntryType::Link, &attributes, (0, 0), nothing());
    }
    let kind = found.kind();
    let done = match kind {
        FileType::RegularFile | FileType::Directory => {
            let Some(fd) = found.open()? else { return Ok(()) };
            let stat: Stat = rustix::fs::fstat(&fd)?;
            let attributes = At::Open(fd.as_fd()).read(&stat)?;
            if kind == FileType::Directory {
                let path = [found.path, b"/"].concat();
                member(out, &path, b"", EntryType::Directory, &attributes, (0, 0), nothing())
            } else {
                let size = u64::try_from(stat.st_size).unwrap_or(0);
                // A file that shrinks meanwhile ends in zeros.
                let data = File::from(fd).chain(io::repeat(0)).take(size);
                member(out, found.path, b"", EntryType::Regular, &attributes, (size, 0), data)
            }
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(dir, found.name, Vec::new())?;
            let attributes = At::Link(dir, name).read(&found.stat)?;
            member(out, found.path, target.as_bytes(), EntryType::Symlink, &attributes, (0, 0), nothing())
        }
        FileType::Fifo | FileType::CharacterDevice | FileType::BlockDevice => {
            let attributes = At::Named(dir, name).read(&found.stat)?;
            let entry = match kind {
                FileType::Fifo => EntryType::Fifo,
                FileType::CharacterDevice => EntryType::Char,
                _ => EntryType::Block,
            };
            member(out, found.path, b"", entry, &attributes, (0, found.stat.st_rdev), nothing())
        }
        FileType::Socket | FileType::Unknown => return Ok(()),
    };
    if let Some(identity) = found.identity() {
        links.insert(identity, found.path.to_vec());
    }
    done
}

/// What does not fit into the old header goes before it, as PAX records.
fn member<W: Write>(
    out: &mut Builder<W>,
    path: &[u8],
    link: &[u8],
    kind: EntryType,
    attributes: &Attributes,
    (size, device): (u64, u64),
    data: impl io::Read,
) -> io::Result<()> {
    let Attributes { uid, gid, mode, times, xattrs } = attributes;
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(*mode);
    header.set_uid(u64::from(*uid));
    header.set_gid(u64::from(*gid));
    header.set_size(size);
    let at = times.last_modification;
    header.set_mtime(u64::try_from(at.tv_sec).unwrap_or(0));
    header.set_device_major(major(device))?;
    header.set_device_minor(minor(device))?;
    let (begin, end) = (path.len().min(100), link.len().min(100));
    let old = header.as_old_mut();
    old.name[..begin].copy_from_slice(&path[..begin]);
    old.linkname[..end].copy_from_slice(&link[..end]);
    header.set_cksum();
    let mut records: Vec<(String, Vec<u8>)> = Vec::new();
    if path.len() > 100 {
        records.push(("path".to_owned(), path.to_vec()));
    }
    if link.len() > 100 {
        records.push(("linkpath".to_owned(), link.to_vec()));
    }
    if at.tv_nsec != 0 && at.tv_sec >= 0 {
        records.push(("mtime".to_owned(), format!("{}.{:09}", at.tv_sec, at.tv_nsec).into_bytes()));
    }
    for (name, value) in xattrs.iter().filter(|(name, _)| name != b"security.selinux") {
        if let Ok(name) = std::str::from_utf8(name) {
            records.push((format!("SCHILY.xattr.{name}"), value.clone()));
        }
    }
    if !records.is_empty() {
        out.append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), value.as_slice())))?;
    }
    out.append(&header, data)
}
