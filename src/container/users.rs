//! `user:` by Docker's rules, looked up in the image's own `/etc/passwd` and `/etc/group`.

use std::path::Path;

use super::oci::Identity;
use crate::rootfs::{InsideError, read_file};

/// No sane image has larger ones.
const LIMIT: u64 = 1024 * 1024;
/// Beyond this the kernel refuses a list of groups.
const MAX_GROUPS: usize = 65_536;

/// Why a user could not be found.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A name that the image does not have.
    #[error("no user {name:?} in /etc/passwd of the image")]
    NoUser { name: String },
    /// A name that the image does not have.
    #[error("no group {name:?} in /etc/group of the image")]
    NoGroup { name: String },
    /// An entry that would make it root, or something else that nobody asked for, if it were guessed at.
    #[error("the entry of {name:?} in /etc/passwd of the image has {number:?} where a user or group id is due")]
    BadId { name: String, number: String },
    /// Its files cannot be read.
    #[error(transparent)]
    File(#[from] InsideError),
}

/// Finds `name|uid[:group|gid]`; empty is root. Its group is among the further ones, too: who gives it up by a set-group-id program
/// must not lose what the group is refused.
pub fn look_up(root: &Path, user: &str) -> Result<Identity, UserError> {
    let file = |path| -> Result<String, InsideError> {
        Ok(read_file(root, path, LIMIT)?.map_or_else(String::new, |b| String::from_utf8_lossy(&b).into_owned()))
    };
    find(&file("etc/passwd")?, &file("etc/group")?, user)
}

/// The ids of further groups, by name or number.
pub fn look_up_groups(root: &Path, names: &[String]) -> Result<Vec<u32>, UserError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let text = read_file(root, "etc/group", LIMIT)?;
    let text = text.map_or_else(String::new, |bytes| String::from_utf8_lossy(&bytes).into_owned());
    names.iter().map(|name| find_group(&text, name)).collect()
}

fn find_group(groups: &str, name: &str) -> Result<u32, UserError> {
    let listed = lines(groups, 4).find(|e| e[0] == name).and_then(|e| id(e[2]));
    listed.or_else(|| id(name)).ok_or_else(|| UserError::NoGroup { name: name.to_owned() })
}

fn find(passwd: &str, groups: &str, user: &str) -> Result<Identity, UserError> {
    let (user, group) = user.split_once(':').map_or((user, None), |(u, g)| (u, Some(g)));
    let user = if user.is_empty() { "0" } else { user };
    let number = id(user);
    // A name first, even one made of digits, as Docker does; then the number.
    let entry = lines(passwd, 6).find(|e| e[0] == user).or_else(|| {
        let wanted = number?;
        lines(passwd, 6).find(|e| id(e[2]) == Some(wanted))
    });
    let (uid, own_gid, home, name) = match (&entry, number) {
        (Some(e), _) => (own_id(e, 2)?, own_id(e, 3)?, e[5], Some(e[0])),
        (None, Some(uid)) => (uid, 0, "/", None),
        (None, None) => return Err(UserError::NoUser { name: user.to_owned() }),
    };
    let home = if home.is_empty() { "/".to_owned() } else { home.to_owned() };
    let Some(group) = group.filter(|g| !g.is_empty()) else {
        let member = |e: &Vec<&str>| name.is_some_and(|name| e[3].split(',').any(|m| m == name));
        let further = lines(groups, 4).filter(member).filter_map(|e| id(e[2])).filter(|gid| *gid != own_gid);
        let groups = std::iter::once(own_gid).chain(further).take(MAX_GROUPS).collect();
        return Ok(Identity { uid, gid: own_gid, groups, home });
    };
    let gid = find_group(groups, group)?;
    Ok(Identity { uid, gid, groups: vec![gid], home })
}

/// A number of an entry of /etc/passwd.
fn own_id(entry: &[&str], field: usize) -> Result<u32, UserError> {
    let bad = || UserError::BadId { name: entry[0].to_owned(), number: entry[field].to_owned() };
    id(entry[field]).ok_or_else(bad)
}

fn lines(text: &str, fields: usize) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(move |e| e.len() >= fields)
}

/// A number that can be an id; -1 means "unchanged" to the kernel, and others do not fit.
fn id(text: &str) -> Option<u32> {
    text.parse::<u32>().ok().filter(|id| i32::try_from(*id).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/var/www:/bin/sh\n1000:x:7:8::/odd:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\nlog:x:4:web,other\nadm:x:5:other\n";

    #[test]
    fn further_groups_are_found_by_name_and_number() {
        let seen = |name| find_group(GROUP, name).map_err(|e| e.to_string());
        assert_eq!((seen("log"), seen("4711")), (Ok(4), Ok(4711)));
        for name in ["nobody", "-1", "4294967295", ""] {
            assert_eq!(seen(name), Err(format!("no group {name:?} in /etc/group of the image")));
        }
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        let seen =
            |user| find(PASSWD, GROUP, user).map(|i| (i.uid, i.gid, i.groups, i.home)).map_err(|e| e.to_string());
        let found = |uid, gid, groups: &[u32], home: &str| Ok((uid, gid, groups.to_vec(), home.to_owned()));
        assert_eq!(seen(""), found(0, 0, &[0], "/root"));
        assert_eq!(seen("web"), found(33, 33, &[33, 4], "/var/www"));
        assert_eq!(seen("33"), found(33, 33, &[33, 4], "/var/www"));
        assert_eq!(seen("web:adm"), found(33, 5, &[5], "/var/www"));
        assert_eq!(seen("4711:815"), found(4711, 815, &[815], "/"));
        assert_eq!(seen("4711"), found(4711, 0, &[0], "/"));
        assert_eq!(seen("1000"), found(7, 8, &[8], "/odd"));
        assert_eq!(seen("nobody"), Err("no user \"nobody\" in /etc/passwd of the image".into()));
        assert_eq!(seen("web:nobody"), Err("no group \"nobody\" in /etc/group of the image".into()));
        assert!(seen("4294967295").is_err() && seen("-1").is_err());
        // What does not fit is never taken for root's number.
        for entry in ["x:x:4294967296:1::/:/sh", "x:x:1:4294967296::/:/sh", "x:x::1::/:/sh", "x:x:a:1::/:/sh"] {
            let error = find(entry, "", "x").map(|i| i.uid).map_err(|e| e.to_string());
            assert!(error.as_ref().is_err_and(|e| e.contains("\"x\" in /etc/passwd")), "{entry}: {error:?}");
        }
    }
}
