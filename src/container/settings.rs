//! How containers are kept: folders, runtimes, defaults.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{CgroupDriver, KeptLogLimits, StartError, cdi, privileges, subids};
use crate::model::BootId;

/// Which program creates containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Runtime {
    /// libcontainer, in the shim.
    Embedded,
    /// runc, crun, or what else has their command line.
    External(PathBuf),
}

/// How containers are kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What must last.
    pub data_dir: PathBuf,
    /// What need not outlive the machine's run.
    pub run_dir: PathBuf,
    /// Tells the cgroups of several daemons apart; see [`instance_of`].
    pub instance: String,
    /// Which program creates containers.
    pub runtime: Runtime,
    /// Who makes the folder that their cgroups are in.
    pub cgroup_driver: CgroupDriver,
    /// Where containers with users of their own get their ids from.
    pub ids: subids::Sources,
    /// Further programs that create containers, by the names that files give them.
    pub runtimes: BTreeMap<String, PathBuf>,
    /// Where CDI files are looked for.
    pub cdi_dirs: Vec<PathBuf>,
    /// What a container may do whose file says nothing.
    pub defaults: privileges::Defaults,
    /// A log file is rotated before it grows beyond this.
    pub log_bytes: u64,
    /// So many log files are kept.
    pub log_files: u64,
    /// How much is kept of the output of containers that are gone.
    pub kept_logs: KeptLogLimits,
    /// This boot.
    pub boot_id: BootId,
    /// The program to start as `… shim`: `/proc/self/exe` but in tests.
    pub exe: PathBuf,
}

impl Settings {
    /// The defaults: embedded runtime, 5 log files of 10 MiB, our own program, this boot.
    pub fn new(data_dir: impl Into<PathBuf>, run_dir: impl Into<PathBuf>) -> io::Result<Self> {
        let (data_dir, run_dir) = (data_dir.into(), run_dir.into());
        Ok(Self {
            instance: instance_of(&data_dir)?,
            data_dir,
            run_dir,
            runtime: Runtime::Embedded,
            cgroup_driver: CgroupDriver::Auto,
            ids: subids::Sources::default(),
            runtimes: BTreeMap::new(),
            cdi_dirs: cdi::FOLDERS.map(PathBuf::from).to_vec(),
            defaults: privileges::Defaults::default(),
            log_bytes: 10 * 1024 * 1024,
            log_files: 5,
            kept_logs: KeptLogLimits::default(),
            boot_id: this_boot()?,
            exe: PathBuf::from("/proc/self/exe"),
        })
    }
}

/// What `runtime:` calls the embedded one.
const BUILT_IN: &str = "builtin";

impl Settings {
    /// The runtime of this name. The names that other engines have for runc and crun mean those, where they are configured.
    pub(super) fn runtime_named(&self, name: Option<&str>) -> Result<Runtime, StartError> {
        let Some(name) = name else { return Ok(self.runtime.clone()) };
        let short = name.strip_prefix("io.containerd.").and_then(|n| n.strip_suffix(".v2")).unwrap_or(name);
        if let Some(program) = self.runtimes.get(name).or_else(|| self.runtimes.get(short)) {
            return Ok(Runtime::External(program.clone()));
        }
        match &self.runtime {
            Runtime::External(program) if program.file_name().is_some_and(|file| file == short) => {
                Ok(self.runtime.clone())
            }
            _ if name == BUILT_IN => Ok(Runtime::Embedded),
            _ => {
                let known = self.runtimes.keys().map(String::as_str).chain([BUILT_IN]).collect::<Vec<_>>().join(", ");
                Err(StartError::Runtime { name: name.to_owned(), known })
            }
        }
    }
}

/// Eight hex digits of the hash of the data directory's real path. It must exist.
pub fn instance_of(data_dir: &Path) -> io::Result<String> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = data_dir.canonicalize()?;
    Ok(crate::model::SpecHash::of(path.as_os_str().as_bytes()).as_str()[..8].to_owned())
}

pub(super) fn this_boot() -> io::Result<BootId> {
    Ok(BootId(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_are_known_by_their_names() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut settings = Settings::new(dir.path(), dir.path()).expect("settings");
        let named = |settings: &Settings, name| settings.runtime_named(name).map_err(|error| error.to_string());
        let external = |path: &str| Ok(Runtime::External(path.into()));
        assert_eq!(named(&settings, None), Ok(Runtime::Embedded));
        assert_eq!(named(&settings, Some("builtin")), Ok(Runtime::Embedded));
        assert!(named(&settings, Some("runc")).is_err_and(|e| e.contains("there are builtin (")));
        settings.runtime = Runtime::External("/usr/sbin/runc".into());
        settings.runtimes.insert("kata".into(), "/opt/kata".into());
        for (name, wanted) in [
            (None, external("/usr/sbin/runc")),
            (Some("runc"), external("/usr/sbin/runc")),
            (Some("io.containerd.runc.v2"), external("/usr/sbin/runc")),
            (Some("kata"), external("/opt/kata")),
            (Some("io.containerd.kata.v2"), external("/opt/kata")),
            (Some("builtin"), Ok(Runtime::Embedded)),
        ] {
            assert_eq!(named(&settings, name), wanted, "{name:?}");
        }
        assert!(named(&settings, Some("crun")).is_err_and(|e| e.contains("there are kata, builtin (")));
    }
}
