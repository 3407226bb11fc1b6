//! A small file system of its own, for tests that fill it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::base::new_dir;

/// An ext4 in a file. The loop device goes with the mount, and the mount with the lab below whose folder it is, however the
/// test ends.
pub(crate) struct Disk {
    at: PathBuf,
    mounted: bool,
}

impl Disk {
    /// Mounts so many MiB at `at`, which is made.
    pub(crate) fn mount(at: &Path, mib: u64) -> Self {
        let image = new_dir().join("disk.img");
        File::create(&image).and_then(|file| file.set_len(mib << 20)).expect("a sparse file");
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image));
        fs::create_dir_all(at).expect("a folder");
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(at));
        Self { at: at.to_owned(), mounted: true }
    }

    /// In percent, as `df` counts.
    pub(crate) fn used(&self) -> u64 {
        let seen = nix::sys::statvfs::statvfs(&self.at).expect("mounted");
        let used = seen.blocks() - seen.blocks_free();
        used * 100 / (used + seen.blocks_available())
    }

    /// Fills it up to so many percent.
    pub(crate) fn fill(&self, percent: u64) {
        let seen = nix::sys::statvfs::statvfs(&self.at).expect("mounted");
        let used = seen.blocks() - seen.blocks_free();
        let wanted = (used + seen.blocks_available()) * percent / 100;
        let bytes = wanted.checked_sub(used).expect("it is fuller than that") * seen.fragment_size();
        run(Command::new("fallocate").args(["-l", &bytes.to_string()]).arg(self.at.join("filler")));
    }

    pub(crate) fn unmount(mut self) {
        self.mounted = false;
        run(Command::new("umount").arg(&self.at));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            // What still uses it is ended by the lab; with the last user the device goes.
            let ended = Command::new("umount").arg("-l").arg(&self.at).status();
            assert!(std::thread::panicking() || ended.is_ok_and(|s| s.success()), "unmounted");
        }
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(status.success(), "{command:?}: {status}");
}
