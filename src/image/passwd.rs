//! Who `user: name:group` is, looked up inside an image with the care its files deserve.
//!
//! The rules are Docker's: a number needs no entry, a name does; without a group the entry's group and the groups that
//! list the user count. Malformed lines are skipped, never read as zero (CVE-2024-40635).

use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// A user file of an image is never larger.
const FILE: u64 = 16 << 20;
/// NGROUPS_MAX of Linux.
const GROUPS: usize = 65_536;

/// The numbers a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserIds {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
    /// Home directory; `/` where there is no entry.
    pub home: String,
}

/// Why a user cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No such name.
    #[error("the image has no user {name:?} in /etc/passwd")]
    NoUser { name: String },
    /// No such group.
    #[error("the image has no group {name:?} in /etc/group")]
    NoGroup { name: String },
    /// Beyond what Docker, and some programs, can count.
    #[error("the id {id} is out of range; ids go from 0 to 2147483647")]
    Range { id: String },
    /// More groups than Linux gives a process.
    #[error("the user is in {count} groups of the image; Linux allows {GROUPS}")]
    Groups { count: usize },
    /// The file is not a file, or too large.
    #[error("the image's {file} is refused: {why}")]
    File { file: &'static str, why: &'static str },
    /// The disk.
    #[error("cannot read the image's {file}")]
    Io {
        file: &'static str,
        #[source]
        source: std::io::Error,
    },
}

/// Looks a user up in the root filesystem at `rootfs`. An empty user is root.
pub fn lookup_user(rootfs: &Path, user: &str) -> Result<UserIds, UserError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, rootfs, flags, Mode::empty())
        .map_err(|e| UserError::Io { file: "root", source: e.into() })?;
    let passwd = read(root.as_fd(), "etc/passwd")?;
    let group = read(root.as_fd(), "etc/group")?;
    resolve(&passwd, &group, user)
}

/// The content of a regular file inside the root; empty where there is none.
fn read(root: BorrowedFd<'_>, file: &'static str) -> Result<Vec<u8>, UserError> {
    // A FIFO would hang a plain open for ever.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // Asked before it is opened for reading: merely opening a device can do something.
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let io = |e: Errno| UserError::Io { file, source: e.into() };
    let regular = |mode| FileType::from_raw_mode(mode) == FileType::RegularFile;
    let not_regular = UserError::File { file, why: "it is not a regular file" };
    match rustix::fs::openat2(root, file, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how) {
        Ok(path) if !regular(rustix::fs::fstat(&path).map_err(io)?.st_mode) => return Err(not_regular),
        Ok(_) => {}
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        Err(Errno::LOOP) => return Err(UserError::File { file, why: "it is a loop of links" }),
        Err(error) => return Err(io(error)),
    }
    let open = std::fs::File::from(rustix::fs::openat2(root, file, flags, Mode::empty(), how).map_err(io)?);
    if !regular(rustix::fs::fstat(&open).map_err(io)?.st_mode) {
        return Err(not_regular);
    }
    let mut bytes = Vec::new();
    open.take(FILE + 1).read_to_end(&mut bytes).map_err(|source| UserError::Io { file, source })?;
    if bytes.len() as u64 > FILE {
        return Err(UserError::File { file, why: "it is larger than 16 MiB" });
    }
    Ok(bytes)
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn resolve(passwd: &[u8], group: &[u8], spec: &str) -> Result<UserIds, UserError> {
    let (user, wanted_group) = spec.split_once(':').unwrap_or((spec, ""));
    let user = if user.is_empty() { "0" } else { user };
    let number = number(user)?;
    let entry = users(passwd).find(|u| number.map_or(u.name == user, |n| u.uid == n));
    let (uid, gid) = match (&entry, number) {
        (Some(entry), _) => (entry.uid, entry.gid),
        (None, Some(uid)) => (uid, 0),
        (None, None) => return Err(UserError::NoUser { name: user.chars().take(100).collect() }),
    };
    let home = entry.as_ref().map(|e| e.home).filter(|h| !h.is_empty()).unwrap_or("/").to_owned();
    if !wanted_group.is_empty() {
        return Ok(UserIds { uid, gid: group_id(group, wanted_group)?, additional_gids: Vec::new(), home });
    }
    let additional_gids = entry.map_or_else(Vec::new, |e| memberships(group, e.name));
    if additional_gids.len() > GROUPS {
        return Err(UserError::Groups { count: additional_gids.len() });
    }
    Ok(UserIds { uid, gid, additional_gids, home })
}

fn group_id(group: &[u8], wanted: &str) -> Result<u32, UserError> {
    let number = number(wanted)?;
    let entry = groups(group).find(|g| number.map_or(g.name == wanted, |n| g.gid == n));
    entry.map(|g| g.gid).or(number).ok_or_else(|| UserError::NoGroup { name: wanted.chars().take(100).collect() })
}

fn memberships(group: &[u8], user: &str) -> Vec<u32> {
    groups(group).filter(|g| g.members.split(',').any(|m| m == user)).map(|g| g.gid).collect()
}

/// A number in range, or none for a name.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    let id = text.parse::<u32>().ok().filter(|id| i32::try_from(*id).is_ok());
    id.map(Some).ok_or_else(|| UserError::Range { id: text.chars().take(30).collect() })
}

fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| i32::try_from(*id).is_ok())
}

fn lines(file: &[u8]) -> impl Iterator<Item = &str> {
    file.split(|b| *b == b'\n').filter_map(|l| std::str::from_utf8(l).ok()).map(str::trim)
}

fn users(file: &[u8]) -> impl Iterator<Item = User<'_>> {
    lines(file).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, id(fields.next()?)?, id(fields.next()?)?);
        let home = fields.nth(1).unwrap_or_default();
        (!name.is_empty()).then_some(User { name, uid, gid, home })
    })
}

fn groups(file: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(file).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, id(fields.next()?)?);
        (!name.is_empty()).then_some(Group { name, gid, members: fields.next().unwrap_or_default() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nbad line\nbig:x:4294967296:0::/:/\nhex:x:0x0:0::/:/\n\
        user:x:1000:1001::/home/user:/bin/sh\nnohome:x:7:7\n";
    const GROUP: &[u8] = b"root:x:0:\nusers:x:1001:\nextra:x:2000:other,user\nbroken:x:-1:user\nwheel:x:10:root\n";

    #[test]
    fn users_are_found_as_docker_finds_them() {
        let ids = |spec: &str| resolve(PASSWD, GROUP, spec).map(|u| (u.uid, u.gid, u.additional_gids, u.home)).ok();
        let table: &[(&str, Option<(u32, u32, &[u32], &str)>)] = &[
            ("", Some((0, 0, &[10], "/root"))),
            ("0", Some((0, 0, &[10], "/root"))),
            ("user", Some((1000, 1001, &[2000], "/home/user"))),
            ("1000", Some((1000, 1001, &[2000], "/home/user"))),
            ("1000:5", Some((1000, 5, &[], "/home/user"))),
            ("user:extra", Some((1000, 2000, &[], "/home/user"))),
            ("4242", Some((4242, 0, &[], "/"))),
            ("4242:users", Some((4242, 1001, &[], "/"))),
            ("nohome", Some((7, 7, &[], "/"))),
            (":extra", Some((0, 2000, &[], "/root"))),
            ("2147483647", Some((2147483647, 0, &[], "/"))),
            ("2147483648", None),
            ("4294967296", None),
            ("-1", None),
            ("0x0", None),
            ("big", None),
            ("hex", None),
            ("nobody", None),
            ("user:nogroup", None),
            ("user:4294967296", None),
        ];
        for (spec, expected) in table {
            let expected = expected.map(|(u, g, more, home)| (u, g, more.to_vec(), home.to_owned()));
            assert_eq!(ids(spec), expected, "{spec:?}");
        }
    }
}
