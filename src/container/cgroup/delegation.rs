//! A part of systemd's tree that is ours by its own rules: one writer for each part.
//!
//! On a machine where systemd runs and cgroups are v2 alone, our containers are below one **transient unit** with `Delegate`:
//! what is below it systemd does not touch, whether it reads its units again, is executed again, or our daemon's own unit is
//! restarted. systemd clears a unit's cgroup away when nobody is in it; so a **keeper** sleeps in there, in a group of its own, because
//! v2 allows no process beside groups that have controllers. With `KillMode=process` nothing but the keeper dies with the unit.
//!
//! The daemon's own cgroup would not do: a service whose cgroup has controllers enabled for those below it cannot be started again. A
//! scope for each container would be a call of D-Bus and some milliseconds of systemd's for each start; this is one per daemon.
//!
//! ```text
//! longshore.slice/longshore-containers-INSTANCE.service/ID       a container
//!                                                      /shims    the keeper, and the containers' parents, who outlive the daemon
//! NAME.slice/longshore-containers-INSTANCE-NAME.service/…        those with cgroup_parent: NAME.slice
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::places::ParentError;

/// Where shims are, and the keeper.
const SHIMS: &str = "shims";
/// Our own slice.
const SLICE: &str = "longshore.slice";
/// The follower's argument that makes it a keeper.
const KEEPER: &str = "keep";
/// systemd answers within this, or not at all: starts of containers wait for it.
const ANSWER: Duration = Duration::from_secs(10);
/// A shim whose container has ended is waited for so long.
const ENDING: Duration = Duration::from_secs(1);
/// Between two looks at a program that has not ended.
const PAUSE: Duration = Duration::from_millis(2);

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
    /// It does not answer.
    #[error("systemd was asked for the unit {unit} that containers are put into, and did not answer within {} s", ANSWER.as_secs())]
    Silent { unit: String },
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
            return Ok(Self { name, slice: SLICE.to_owned() });
        };
        let stem = slice.strip_suffix(".slice").filter(|stem| is_slice(stem));
        let stem = stem.ok_or_else(|| ParentError::NoSlice(slice.to_owned()))?;
        Ok(Self { name: format!("longshore-containers-{instance}-{stem}.service"), slice: slice.to_owned() })
    }

    /// All that systemd has of an instance.
    pub(super) fn all(instance: &str) -> Vec<Self> {
        let begins = format!("longshore-containers-{instance}");
        let mut command = ask("systemctl");
        command.args(["list-units", "--plain", "--no-legend", &format!("{begins}*")]);
        let output = answer(&mut command, ANSWER);
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let names = text.lines().filter_map(|line| line.split_whitespace().next());
        let slices = names.filter_map(|name| name.strip_prefix(&begins)?.strip_suffix(".service"));
        let of = |stem: &str| match stem.strip_prefix('-') {
            Some(slice) => Self::of(instance, Some(&format!("{slice}.slice"))),
            None => Self::of(instance, None),
        };
        slices.filter_map(|stem| of(stem).ok()).collect()
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
    pub(super) fn ready(&self, mount: &Path, keeper: &Path, child: &str) -> Result<(), DelegationError> {
        let folder = self.folder(mount);
        let shims = folder.join(SHIMS);
        // Made after the unit, so that it tells that the unit was made whole.
        if !shims.is_dir() {
            self.make(keeper)?;
            create(&shims)?;
        }
        let (inside, there) = (folder.join("cgroup.procs"), shims.join("cgroup.procs"));
        for pid in read(&inside)?.lines() {
            write(&there, pid)?;
        }
        let enabled = folder.join("cgroup.subtree_control");
        let (names, have) = (read(&folder.join("cgroup.controllers"))?, read(&enabled)?);
        for name in names.split_whitespace().filter(|name| !have.split_whitespace().any(|have| have == *name)) {
            write(&enabled, &format!("+{name}"))?;
        }
        create(&folder.join(child))
    }

    fn make(&self, keeper: &Path) -> Result<(), DelegationError> {
        // One whose keeper was killed may be known still.
        let fail = |error: io::Error| match error.kind() {
            io::ErrorKind::TimedOut => DelegationError::Silent { unit: self.name.clone() },
            _ => DelegationError::Program(error),
        };
        for verb in ["stop", "reset-failed"] {
            match systemctl(&[verb, &self.name]) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(fail(error)),
                _ => {}
            }
        }
        let mut command = ask("systemd-run");
        command.args(["--quiet", "--collect", "--service-type=exec"]);
        command.arg(format!("--unit={}", self.name)).arg(format!("--slice={}", self.slice));
        command.arg("--description=Containers of Longshore");
        // No limit but the containers' own.
        for property in ["Delegate=yes", "KillMode=process", "TasksMax=infinity", "OOMScoreAdjust=-500"] {
            command.args(["-p", property]);
        }
        let output = answer(command.arg("--").arg(keeper).arg(KEEPER), ANSWER).map_err(fail)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(DelegationError::Refused { unit: self.name.clone(), said })
    }

    /// Takes it away where no container is in it any more.
    pub(super) fn retire(&self, mount: &Path) {
        let folder = self.folder(mount);
        let in_use = super::children(&folder).iter().any(|child| !child.ends_with(SHIMS));
        if in_use {
            return;
        }
        // A shim ends a moment after its container. Where it does not, its unit stays under it, for the next look.
        let until = Instant::now() + ENDING;
        while shim_in(&folder.join(SHIMS), Path::new("/proc")) {
            if Instant::now() > until {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        // Nobody is harmed by what is left: the next container is put into it. Where the keeper was killed systemd does not know the
        // unit any more; then its folders are ours to remove, if it did not.
        if folder.is_dir() {
            let _ = systemctl(&["stop", &self.name]);
            for path in [folder.join(SHIMS), folder.clone()] {
                let _ = fs::remove_dir(path);
            }
        }
        // Our own slice goes where it is empty; others are their owner's.
        let slice = folder.parent().filter(|slice| self.slice == SLICE && slice.is_dir());
        if slice.is_some_and(|slice| super::children(slice).is_empty()) {
            let _ = systemctl(&["stop", &self.slice]);
        }
    }
}

/// Whether anybody but the keeper is there.
fn shim_in(shims: &Path, proc: &Path) -> bool {
    let pids = fs::read_to_string(shims.join("cgroup.procs")).unwrap_or_default();
    pids.lines().any(|pid| match fs::read(proc.join(pid).join("cmdline")) {
        Ok(line) => line.split(|byte| *byte == 0).nth(1) != Some(KEEPER.as_bytes()),
        // It has ended meanwhile.
        Err(_) => false,
    })
}

/// A program of systemd's, which would take our own socket to systemd for its own.
fn ask(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_remove("NOTIFY_SOCKET").arg("--no-ask-password");
    command
}

fn systemctl(args: &[&str]) -> io::Result<Output> {
    answer(ask("systemctl").arg("--quiet").args(args), ANSWER)
}

/// Runs it to its end, or ends it. What it says is short enough for a pipe.
fn answer(command: &mut Command, limit: Duration) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let until = Instant::now() + limit;
    while child.try_wait()?.is_none() {
        if Instant::now() > until {
            let _ = child.kill();
            child.wait()?;
            let words = format!("{} did not answer within {} s", command.get_program().display(), limit.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, words));
        }
        std::thread::sleep(PAUSE);
    }
    child.wait_with_output()
}

fn read(path: &Path) -> Result<String, DelegationError> {
    fs::read_to_string(path).map_err(|source| DelegationError::Folder { path: path.to_owned(), source })
}

fn write(path: &Path, text: &str) -> Result<(), DelegationError> {
    match fs::write(path, text) {
        // A process that has ended meanwhile.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        done => done.map_err(|source| DelegationError::Folder { path: path.to_owned(), source }),
    }
}

fn create(path: &Path) -> Result<(), DelegationError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done.map_err(|source| DelegationError::Folder { path: path.to_owned(), source }),
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
    match answer(ask("systemctl").args(["show", "-p", "Version", "--value"]), ANSWER) {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(error.to_string()),
        Err(error) => Err(format!("systemctl was not started: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_a_shim_is_in_is_in_use() {
        let dir = tempfile::tempdir().expect("a folder");
        let process = |pid: &str, line: &str| {
            fs::create_dir_all(dir.path().join(pid)).expect("made");
            fs::write(dir.path().join(pid).join("cmdline"), line).expect("written");
        };
        let shim = |pids: &str| {
            fs::write(dir.path().join("cgroup.procs"), pids).expect("written");
            shim_in(dir.path(), dir.path())
        };
        process("7", "/data/bin/longshore-follower\0keep\0");
        process("8", "longshore\0shim\0");
        assert!(shim("7\n8\n") && shim("8\n"));
        assert!(!shim("7\n") && !shim("") && !shim("7\n9\n"), "the keeper, and one that is gone");
    }

    #[test]
    fn systemd_that_does_not_answer_is_not_waited_for() {
        let started = Instant::now();
        let error = answer(Command::new("sleep").arg("60"), Duration::from_millis(50)).expect_err("it sleeps");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().starts_with("sleep did not answer") && started.elapsed() < Duration::from_secs(10));
        let said = answer(Command::new("sh").args(["-c", "echo yes; echo no >&2; exit 3"]), ANSWER).expect("it ends");
        assert_eq!(
            (said.status.code(), &*said.stdout, &*said.stderr),
            (Some(3), b"yes\n".as_slice(), b"no\n".as_slice())
        );
    }
}
