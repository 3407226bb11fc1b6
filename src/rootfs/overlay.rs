//! The overlay mount of one container, or of an image that it sees.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen, mount, move_mount,
};

/// What is mounted.
#[derive(Debug, Clone)]
pub struct Overlay<'a> {
    /// The layers, the lowest first.
    pub layers: &'a [PathBuf],
    /// Where is written; none: nowhere, it is read-only.
    pub writes: Option<Writes<'a>>,
    /// Whether device nodes in it cannot be opened.
    pub nodev: bool,
    /// The SELinux label of all files in it.
    pub context: Option<&'a str>,
}

/// Where the container writes.
#[derive(Debug, Clone, Copy)]
pub struct Writes<'a> {
    /// What it wrote.
    pub upper: &'a Path,
    /// The overlay's own folder, on the same file system.
    pub work: &'a Path,
}

/// Why a root was not mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The image has none.
    #[error("the image has no layers")]
    NoLayers,
    /// A layer's folder is not there.
    #[error("the layer {} cannot be used", layer.display())]
    Layer { layer: PathBuf, source: std::io::Error },
    /// The kernel refused.
    #[error("the layers were not mounted on {} ({step})", at.display())]
    Mount { at: PathBuf, step: &'static str, source: Errno },
}

impl Overlay<'_> {
    /// Mounts it. The layers are given one by one where the kernel can take them so (6.5); else as one list of short names,
    /// since all options of the older call must fit on one page.
    pub fn mount(&self, at: &Path) -> Result<(), MountError> {
        if self.layers.is_empty() {
            return Err(MountError::NoLayers);
        }
        for layer in self.layers {
            std::fs::metadata(layer).map_err(|source| MountError::Layer { layer: layer.clone(), source })?;
        }
        match self.mount_one_by_one(at) {
            Err(MountError::Mount { source: Errno::INVAL | Errno::NOSYS | Errno::PERM, .. }) => self.mount_as_list(at),
            done => done,
        }
    }

    fn mount_one_by_one(&self, at: &Path) -> Result<(), MountError> {
        let fail = |step| move |source| MountError::Mount { at: at.to_owned(), step, source };
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(fail("fsopen"))?;
        let fs = context.as_fd();
        for layer in self.layers.iter().rev() {
            fsconfig_set_string(fs, "lowerdir+", layer).map_err(fail("lowerdir+"))?;
        }
        if let Some(Writes { upper, work }) = self.writes {
            fsconfig_set_string(fs, "upperdir", upper).map_err(fail("upperdir"))?;
            fsconfig_set_string(fs, "workdir", work).map_err(fail("workdir"))?;
        }
        if let Some(context) = self.context {
            fsconfig_set_string(fs, "context", context).map_err(fail("context"))?;
        }
        fsconfig_create(fs).map_err(fail("create"))?;
        let flags = if self.nodev { MountAttrFlags::MOUNT_ATTR_NODEV } else { MountAttrFlags::empty() };
        let mounted = fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, flags).map_err(fail("fsmount"))?;
        move_mount(mounted.as_fd(), "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(fail("move_mount"))
    }

    fn mount_as_list(&self, at: &Path) -> Result<(), MountError> {
        let mut held = Vec::new();
        let mut name = |path: &Path| {
            let open = File::options().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path);
            let file = open.map_err(|source| MountError::Layer { layer: path.to_owned(), source })?;
            let name = format!("/proc/self/fd/{}", file.as_raw_fd());
            held.push(file);
            Ok(name)
        };
        let lower: Vec<String> = self.layers.iter().rev().map(|l| name(l)).collect::<Result<_, _>>()?;
        let mut options = format!("lowerdir={}", lower.join(":"));
        if let Some(Writes { upper, work }) = self.writes {
            options += &format!(",upperdir={},workdir={}", name(upper)?, name(work)?);
        }
        let context = self.context.map_or_else(String::new, |context| format!(",context=\"{context}\""));
        let options = options + &context;
        let options = std::ffi::CString::new(options).map_err(|_| MountError::NoLayers)?;
        let flags = if self.nodev { MountFlags::NODEV } else { MountFlags::empty() };
        mount("overlay", at, "overlay", flags, options.as_c_str()).map_err(|source| MountError::Mount {
            at: at.to_owned(),
            step: "mount",
            source,
        })
    }
}
