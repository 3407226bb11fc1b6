//! Files with a content in a tmpfs of their own: in memory alone, not swapped out where the kernel can keep it so.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use zeroize::Zeroizing;

use super::given_files::FileOrder;
use crate::model::Owner;
use crate::rootfs::IdRange;

/// Whose a file is on the host, and its permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    owner: Owner,
    mode: u32,
}

impl Owned {
    /// As the host has it.
    #[must_use]
    pub const fn known(owner: Owner, mode: u32) -> Self {
        Self { owner, mode }
    }

    /// In a container whose command runs as `user`, with the users that are its own.
    pub fn of(file: &FileOrder, user: Owner, ids: Option<IdRange>) -> Result<Self, String> {
        let Owner { uid, gid } = Owner { uid: file.uid.unwrap_or(user.uid), gid: file.gid.unwrap_or(user.gid) };
        let owner = match ids {
            None => Owner { uid, gid },
            Some(range) if uid.max(gid) < range.size => Owner { uid: range.uid + uid, gid: range.gid + gid },
            Some(range) => {
                let size = range.size;
                let asked = uid.max(gid) + 1;
                return Err(format!(
                    "{} belongs to {uid}:{gid}, which is not among the {size} ids of the container's own users; ask for more: userns_mode: auto:size={asked}",
                    file.title
                ));
            }
        };
        Ok(Self { owner, mode: file.mode })
    }
}

/// Makes a tmpfs at `place` (a folder that is made) in this mount namespace, with the files `0`, `1` and so on, and closes it.
pub fn write(place: &Path, files: &[Owned], contents: &[Zeroizing<Vec<u8>>]) -> io::Result<()> {
    fs::create_dir_all(place)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // Pages, and some for the file system itself.
    let bytes: usize = contents.iter().map(|content| content.len().next_multiple_of(1 << 16)).sum();
    // Users of a container's own find the files by their paths, and see no list of them.
    let options = format!("mode=0711,size={},nr_inodes={}", bytes + (1 << 16), files.len() + 16);
    let tmpfs = |options: &str| mount(Some("tmpfs"), place, Some("tmpfs"), flags, Some(options));
    // Kernels before 6.4 do not know it.
    tmpfs(&format!("{options},noswap")).or_else(|_| tmpfs(&options))?;
    for (number, (file, content)) in files.iter().zip(contents).enumerate() {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut written = options.open(place.join(number.to_string()))?;
        written.write_all(content)?;
        fchown(&written, Some(file.owner.uid), Some(file.owner.gid))?;
        written.set_permissions(Permissions::from_mode(file.mode))?;
    }
    let none = None::<&str>;
    mount(none, place, none, MsFlags::MS_PRIVATE, none)?;
    Ok(mount(none, place, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | flags, none)?)
}
