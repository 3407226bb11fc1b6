//! Those who enter: a child of the helper, and its sibling that becomes the command.
//!
//! Whatever fails is said on a socket that `execve` closes, so that the helper knows exactly whether the command runs.
#![expect(unsafe_code, reason = "a child that is its maker's sibling: no safe call makes one")]

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::prctl;
use nix::sys::resource::setrlimit;
use nix::sys::stat::{Mode, fstat, major, minor, umask};
use nix::unistd::{
    Gid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, pipe2, setgroups, setresgid, setresuid, setsid,
};
use serde::{Deserialize, Serialize};

use super::job::{Job, named};
use super::target::Target;
use crate::container::confine::{self, Confinement, end_with_parent, reset_signals};
use crate::container::exec::link::{ExecFailure, ExecStreams};
use crate::container::exec::{socket, terminal};
use crate::container::oci::Identity;
use crate::container::program::{Program, ProgramError};
use crate::container::users;

/// What is said to the helper, one message each.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// The sibling's number on the host.
    Sibling(i32),
    /// The helper's ends of the streams come with this.
    Streams,
    /// It is over.
    Failed(ExecFailure),
}

/// The socket to the helper.
pub(super) struct Voice(pub(super) OwnedFd);

impl Voice {
    fn say(&self, word: &Word, descriptors: &[OwnedFd]) -> io::Result<()> {
        socket::send(&self.0, &serde_json::to_vec(word)?, descriptors)
    }
}

/// The child's whole life.
pub(super) fn main(target: &Target, job: &Job, voice: &Voice) -> ExitCode {
    let failure = match enter(target, job, voice) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    // Nobody hears it where the helper is gone; the code says the same.
    let _ = voice.say(&Word::Failed(failure), &[]);
    ExitCode::FAILURE
}

/// Returns in the child, once its sibling is made; in the sibling only where something fails.
fn enter(target: &Target, job: &Job, voice: &Voice) -> Result<(), ExecFailure> {
    end_with_parent().map_err(failed("it cannot be tied to its helper"))?;
    // Of the host's /proc, before the container's takes its place: what is written there decides what the command may do.
    let proc = open("/proc", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(failed("/proc cannot be opened"))?;
    for (resource, soft, hard) in &job.limits {
        setrlimit(*resource, *soft, *hard).map_err(failed(&format!("{resource:?} cannot be set")))?;
    }
    // Where we may not go down to it, it is killed a little earlier than the container's own: no reason to refuse it.
    let _ = std::fs::write("/proc/self/oom_score_adj", job.oom_score.to_string());
    // None of ours goes along; in there it may not be allowed any more to give them up.
    setgroups(&[]).map_err(failed("our own groups cannot be given up"))?;
    target.join_cgroups().map_err(failed("the container's cgroups cannot be joined"))?;
    target.join_namespaces().map_err(failed("the container's namespaces cannot be entered"))?;
    match sibling().map_err(failed("no process can be made in the container"))? {
        0 => become_command(target, job, voice, proc).map(|never| match never {}),
        pid => voice.say(&Word::Sibling(pid), &[]).map_err(failed("the helper is gone")),
    }
}

/// As fork(2), but what it makes is a child of the caller's parent.
fn sibling() -> io::Result<i32> {
    let flags = libc::CLONE_PARENT as usize | libc::SIGCHLD as usize;
    // SAFETY: without a stack and CLONE_VM it goes on here on a copy of everything, as after fork(2); there is one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(pid).map_err(io::Error::other) }
}

fn become_command(target: &Target, job: &Job, voice: &Voice, proc: OwnedFd) -> Result<Infallible, ExecFailure> {
    setsid().map_err(failed("no session can be made"))?;
    umask(Mode::from_bits_truncate(0o022));
    if target.own_users() {
        be(0, 0, &[]).map_err(failed("the container's root cannot be become"))?;
    }
    // From here on `/` is the container's root: no link in it leads elsewhere.
    let mut who = users::look_up(Path::new("/"), &job.user).map_err(failed("the user cannot be become"))?;
    for group in users::look_up_groups(Path::new("/"), &job.groups).map_err(failed("the user cannot be become"))? {
        if !who.groups.contains(&group) {
            who.groups.push(group);
        }
    }
    prctl::set_keepcaps(true).map_err(failed("capabilities cannot be kept"))?;
    be(who.uid, who.gid, &who.groups).map_err(failed("the user cannot be become"))?;
    confine::raise_permitted().map_err(failed("capabilities cannot be kept"))?;
    let streams = streams(job.streams)?;
    voice.say(&Word::Streams, &streams.kept).map_err(failed("the helper is gone"))?;
    streams.take()?;
    change_folder(&job.working_dir)?;
    label(&proc, &job.labels)?;
    drop(proc);
    let environment = environment(job, &who);
    let program = Program::look_for(&job.command, &environment).map_err(not_executed)?;
    confine(&job.confinement)?;
    if job.streams != ExecStreams::None {
        // A change of the user undid the first one.
        end_with_parent().map_err(failed("it cannot be tied to its helper"))?;
    }
    reset_signals();
    Err(not_executed(program.replace()))
}

pub(super) fn be(uid: u32, gid: u32, groups: &[u32]) -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    match setgroups(&groups.iter().map(|group| Gid::from_raw(*group)).collect::<Vec<_>>()) {
        // A user namespace may forbid further groups; its own one it has anyway.
        Err(Errno::EPERM) if groups.iter().all(|group| *group == gid.as_raw()) => {}
        done => done?,
    }
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}

/// The capabilities that are left; more than the daemon itself has, nobody gets.
fn confine(confinement: &Confinement) -> Result<(), ExecFailure> {
    let permitted = confine::permitted().map_err(failed("capabilities cannot be read"))?;
    let confinement = Confinement { capabilities: confinement.capabilities & permitted, ..confinement.clone() };
    confinement.apply().map_err(|(step, error)| {
        ExecFailure::NotStarted(format!("the command could not be confined ({step}): {error}"))
    })
}

/// The ends inside, and those that are sent away.
struct Streams {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    terminal: bool,
    kept: Vec<OwnedFd>,
}

/// Made by the user that it will be, so that they are its own; a terminal is made by the container's devpts.
fn streams(wanted: ExecStreams) -> Result<Streams, ExecFailure> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(failed("a pipe cannot be made"));
    match wanted {
        ExecStreams::None => {
            let (stdin, stdout, stderr) = (null()?, null()?, null()?);
            Ok(Streams { stdin, stdout, stderr, terminal: false, kept: Vec::new() })
        }
        ExecStreams::Pipes { stdin } => {
            let ((out, stdout), (err, stderr)) = (pipe()?, pipe()?);
            let (stdin, kept) = if stdin {
                let (read, write) = pipe()?;
                (read, vec![out, err, write])
            } else {
                (null()?, vec![out, err])
            };
            Ok(Streams { stdin, stdout, stderr, terminal: false, kept })
        }
        ExecStreams::Terminal { rows, columns } => {
            let made = terminal::open().and_then(|(master, slave)| {
                terminal::resize(&master, rows, columns)?;
                Ok((master, slave.try_clone()?, slave.try_clone()?, slave))
            });
            let (master, stdin, stdout, stderr) = made.map_err(failed("the container makes no terminal"))?;
            Ok(Streams { stdin, stdout, stderr, terminal: true, kept: vec![master] })
        }
    }
}

/// The container's own `/dev/null`, if that is what it is: the host's, a container's root could change for everybody.
fn null() -> Result<OwnedFd, ExecFailure> {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let opened = open("/dev/null", flags, Mode::empty()).map_err(failed("/dev/null of the container"))?;
    let stat = fstat(&opened).map_err(failed("/dev/null of the container"))?;
    let character = stat.st_mode & libc::S_IFMT == libc::S_IFCHR;
    if character && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3) {
        return Ok(opened);
    }
    Err(ExecFailure::NotStarted("/dev/null of the container is something else".to_owned()))
}

impl Streams {
    fn take(self) -> Result<(), ExecFailure> {
        let fail = failed("the streams cannot be put in place");
        let placed = || -> nix::Result<()> {
            dup2_stdin(&self.stdin)?;
            dup2_stdout(&self.stdout)?;
            dup2_stderr(&self.stderr)
        };
        placed().map_err(&fail)?;
        if self.terminal {
            terminal::control(&io::stdin().as_fd()).map_err(failed("the terminal cannot be taken"))?;
        }
        Ok(())
    }
}

/// And makes sure that it is a folder of the container's (CVE-2024-21626).
fn change_folder(folder: &str) -> Result<(), ExecFailure> {
    chdir(folder).map_err(failed(&format!("the working directory {folder:?} cannot be entered")))?;
    std::env::current_dir()
        .map_err(failed(&format!("the working directory {folder:?} is not a folder of the container")))
        .map(drop)
}

/// By the host's /proc, which the container cannot have put something in place of. One that cannot be set is an error.
fn label(proc: &OwnedFd, labels: &[String]) -> Result<(), ExecFailure> {
    for label in labels {
        let files: &[&str] = if label.starts_with("exec ") {
            &["self/attr/apparmor/exec", "self/attr/exec"]
        } else {
            &["self/attr/exec"]
        };
        let opened = files.iter().map(|file| openat(proc, *file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()));
        let opened = opened.reduce(Result::or).unwrap_or(Err(Errno::ENOENT));
        let said = opened.map_err(io::Error::from).and_then(|file| {
            use io::Write as _;
            File::from(file).write_all(label.as_bytes())
        });
        said.map_err(failed(&format!("the label {label:?} cannot be set")))?;
    }
    Ok(())
}

fn environment(job: &Job, who: &Identity) -> Vec<String> {
    let mut variables = job.environment.clone();
    if job.own_home {
        variables.retain(|variable| named(variable) != "HOME");
        variables.push(format!("HOME={}", who.home));
    }
    variables
}

fn not_executed(error: ProgramError) -> ExecFailure {
    match error {
        ProgramError::NotFound(words) => ExecFailure::NotFound(words),
        ProgramError::NotExecutable(words) => ExecFailure::NotStarted(words),
    }
}

fn failed<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> ExecFailure {
    move |error| ExecFailure::NotStarted(format!("{what}: {error}"))
}
