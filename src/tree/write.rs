//! Members of a tar archive, as every reader understands them: what does not fit into the old header goes before it, as PAX records.

use std::io::{self, Write};

use rustix::fs::{Stat, major, minor};
use tar::{EntryType, Header};

const BLOCK: usize = 512;

/// What is told of a member.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub path: Vec<u8>,
    /// Of links.
    pub link: Vec<u8>,
    pub kind: EntryType,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    pub device: u64,
    pub size: u64,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Head {
    pub(super) fn mark(path: Vec<u8>) -> Self {
        Self {
            path,
            link: Vec::new(),
            kind: EntryType::Regular,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            device: 0,
            size: 0,
            xattrs: Vec::new(),
        }
    }

    pub(crate) fn of(path: Vec<u8>, kind: EntryType, stat: &Stat) -> Self {
        Self {
            path,
            link: Vec::new(),
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            device: 0,
            size: 0,
            xattrs: Vec::new(),
        }
    }
}

/// Writes members one after another.
pub(crate) struct Writer<W>(W);

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> Self {
        Self(out)
    }

    pub(crate) fn head(&mut self, head: &Head) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(head.kind);
        header.set_mode(head.mode);
        header.set_uid(head.uid.into());
        header.set_gid(head.gid.into());
        header.set_size(head.size);
        header.set_mtime(u64::try_from(head.mtime.0).unwrap_or(0));
        header.set_device_major(major(head.device))?;
        header.set_device_minor(minor(head.device))?;
        let old = header.as_old_mut();
        let (name, link) = (head.path.len().min(100), head.link.len().min(100));
        old.name[..name].copy_from_slice(&head.path[..name]);
        old.linkname[..link].copy_from_slice(&head.link[..link]);
        header.set_cksum();
        let records = records(head);
        if !records.is_empty() {
            let mut before = Header::new_ustar();
            before.set_entry_type(EntryType::XHeader);
            before.set_mode(0o644);
            before.set_mtime(0);
            before.set_size(records.len() as u64);
            before.as_old_mut().name[..9].copy_from_slice(b"PaxHeader");
            before.set_cksum();
            self.0.write_all(before.as_bytes())?;
            self.data(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.0.write_all(header.as_bytes())
    }

    /// A part of the member's data.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// After all data of a member of this size.
    pub(crate) fn pad(&mut self, size: u64) -> io::Result<()> {
        let rest = usize::try_from(size.wrapping_neg() % BLOCK as u64).unwrap_or(0);
        self.0.write_all(&[0; BLOCK][..rest])
    }

    /// The end of the archive: one without it is not whole.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.0.write_all(&[0; 2 * BLOCK])?;
        self.0.flush()
    }
}

fn records(head: &Head) -> Vec<u8> {
    let mut all = Vec::new();
    if head.path.len() > 100 {
        record(&mut all, b"path", &head.path);
    }
    if head.link.len() > 100 {
        record(&mut all, b"linkpath", &head.link);
    }
    let (seconds, nanos) = head.mtime;
    if nanos != 0 && seconds >= 0 {
        record(&mut all, b"mtime", format!("{seconds}.{nanos:09}").as_bytes());
    }
    for (name, value) in &head.xattrs {
        record(&mut all, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    all
}

/// The length counts its own digits.
fn record(all: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() > rest.to_string().len() {
        length = rest + length.to_string().len();
    }
    all.extend_from_slice(format!("{length} ").as_bytes());
    all.extend_from_slice(key);
    all.push(b'=');
    all.extend_from_slice(value);
    all.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for length in [1, 89, 90, 91, 99, 100, 101, 980, 990, 1000, 3000] {
            let path = vec![b'a'; length];
            let head = Head {
                path: path.clone(),
                link: Vec::new(),
                kind: EntryType::Regular,
                mode: 0o4755,
                uid: 3_000_000_000,
                gid: 7,
                mtime: (1_800_000_000, 5),
                device: 0,
                size: 3,
                xattrs: vec![(b"user.x".to_vec(), vec![0, 1, b'\n'])],
            };
            let mut out = Vec::new();
            let mut writer = Writer::new(&mut out);
            writer.head(&head).unwrap();
            writer.data(b"abc").unwrap();
            writer.pad(3).unwrap();
            writer.finish().unwrap();
            let mut read = crate::untar::Archive::new(out.as_slice());
            let entry = read.next().unwrap().unwrap();
            assert_eq!((entry.path, entry.uid, entry.mode, entry.mtime), (path, head.uid, head.mode, head.mtime));
            assert_eq!(entry.xattrs, head.xattrs);
            assert_eq!(read.data().unwrap(), b"abc");
            read.used(3);
            assert!(read.next().unwrap().is_none());
        }
    }
}
