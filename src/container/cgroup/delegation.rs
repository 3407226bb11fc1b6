//! A part of systemd's tree that is ours by its own rules: one writer for each part.
//!
//! On a machine where systemd runs and cgroups are v2 alone, our containers are below one **transient unit** (`Type=oneshot`,
//! `RemainAfterExit`, `Delegate`): it has no process of its own, exists until it is stopped, and what is below it systemd
//! does not touch, whether it reads its units again, is executed again, or our daemon's own unit is restarted. The daemon's own
//! cgroup would not do: a service whose cgroup has controllers enabled for those below it cannot be started again (v2 allows
//! no process there). A scope for each container would be one call of D-Bus and some milliseconds of systemd's per start; this
//! is one per daemon.
//!
//! ```text
//! longshore.slice/longshore-containers-INSTANCE.service/ID       a container
//!                                                      /shims    their parents, who outlive the daemon and its unit
//! NAME.slice/longshore-containers-INSTANCE-NAME.service/…        those with cgroup_parent: NAME.slice
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::places::ParentError;

/// Where shims are.
const SHIMS: &str = "shims";

/// Such a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    name: String,
    slice: String,
}

/// The unit was not made.
#[derive(Debug, thiserror::Error)]
pub enum DelegationError {
    /// systemd-run was not started.
    #[error("systemd-run was not started")]
    Program(#[source] io::Error),
    /// It says why.
    #[error("systemd did not make the unit {unit} that containers are put into: {said}")]
    Refused { unit: String, said: String },
    /// It is there, but cannot be used.
    #[error("the cgroup {} cannot be used", path.display())]
    Folder { path: PathBuf, source: io::Error },
}

impl Unit {
    /// The unit in this slice; without one, in ours.
    pub(super) fn of(instance: &str, slice: Option<&str>) -> Result<Self, ParentError> {
        let Some(slice) = slice else {
            let name = format!("longshore-containers-{instance}.service");
            return Ok(Self { name, slice: "longshore.slice".to_owned() });
        };
        let stem = slice.strip_suffix(".slice").filter(|stem| is_slice(stem));
        let stem = stem.ok_or_else(|| ParentError::NoSlice(slice.to_owned()))?;
        Ok(Self { name: format!("longshore-containers-{instance}-{stem}.service"), slice: slice.to_owned() })
    }

    /// `a-b.slice` is in `a.slice`, and `-.slice` is the root.
    pub(super) fn path(&self) -> PathBuf {
        let stem = self.slice.trim_end_matches(".slice");
        let mut path = PathBuf::from("/");
        if stem != "-" {
            let ends = stem.match_indices('-').map(|(at, _)| at).chain([stem.len()]);
            path.extend(ends.map(|end| format!("{}.slice", &stem[..end])));
        }
        path.join(&self.name)
    }

    /// The folder of the shims of those in it.
    pub(super) fn shims(&self, mount: &Path) -> PathBuf {
        self.folder(mount).join(SHIMS)
    }

    fn folder(&self, mount: &Path) -> PathBuf {
        super::below(mount, &self.path())
    }

    /// Makes it unless it is there, with every controller that systemd hands on, and a folder for `child` in it.
    pub(super) fn ready(&self, mount: &Path, child: &str) -> Result<(), DelegationError> {
        let folder = self.folder(mount);
        if !folder.is_dir() {
            self.make()?;
        }
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source| DelegationError::Folder { path, source }
        };
        let controllers = folder.join("cgroup.controllers");
        let names = fs::read_to_string(&controllers).map_err(fail(&controllers))?;
        let enabled = folder.join("cgroup.subtree_control");
        let have = fs::read_to_string(&enabled).map_err(fail(&enabled))?;
        for name in names.split_whitespace().filter(|name| !have.split_whitespace().any(|have| have == *name)) {
            fs::write(&enabled, format!("+{name}")).map_err(fail(&enabled))?;
        }
        for path in [folder.join(SHIMS), folder.join(child)] {
            match fs::create_dir(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(fail(&path)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn make(&self) -> Result<(), DelegationError> {
        let mut command = Command::new("systemd-run");
        command.args(["--quiet", "--no-ask-password", "--collect", "--service-type=oneshot", "--remain-after-exit"]);
        command.arg(format!("--unit={}", self.name)).arg(format!("--slice={}", self.slice));
        command.arg("--description=Containers of Longshore; stopping this ends them");
        // No limit but the containers' own. Our daemon is stopped first, so that it does not start again what is ended.
        for property in ["Delegate=yes", "TasksMax=infinity", "TimeoutStopSec=10", "Before=longshore.service"] {
            command.args(["-p", property]);
        }
        let output = command.args(["--", "true"]).output().map_err(DelegationError::Program)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(DelegationError::Refused { unit: self.name.clone(), said })
    }

    /// Takes it away where nobody is in it any more.
    pub(super) fn retire(&self, mount: &Path) {
        let folder = self.folder(mount);
        let in_use = super::children(&folder).iter().any(|child| !child.ends_with(SHIMS));
        if in_use || !folder.is_dir() {
            return;
        }
        // Nobody is harmed by a unit that is left: the next container is put into it.
        let stopped = Command::new("systemctl").args(["--quiet", "--no-ask-password", "stop", &self.name]).output();
        if stopped.is_ok_and(|output| output.status.success()) {
            let slice = super::below(mount, Path::new(&self.path())).parent().map(Path::to_owned);
            // Ours alone is stopped where it is empty; others are their owner's.
            if self.slice == "longshore.slice" && slice.is_some_and(|slice| super::children(&slice).is_empty()) {
                let _ = Command::new("systemctl").args(["--quiet", "--no-ask-password", "stop", &self.slice]).output();
            }
        }
    }
}

/// The name of a slice without its end: `-` alone, or names joined by single dashes.
fn is_slice(stem: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '.' | '\\' | '@');
    stem == "-" || stem.split('-').all(|part| !part.is_empty() && part.chars().all(legal))
}

/// Whether systemd runs this machine, and can be spoken to.
pub(super) fn systemd_answers() -> Result<(), String> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Err("systemd does not run on this machine".to_owned());
    }
    let ask = Command::new("systemctl").args(["--no-ask-password", "show", "-p", "Version", "--value"]).output();
    match ask {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("systemctl was not started: {error}")),
    }
}
