//! The container's standard streams: pipes, or a terminal that is received once the runtime has made it.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::{fchown, pipe2};

use super::{ShimError, doing};

/// What the container gets, and what the follower keeps.
pub(super) struct Streams {
    kept: Kept,
    stdin: Option<OwnedFd>,
    /// The container's ends; taken by the runtime.
    pub(super) given: Option<Given>,
}

/// The ends inside of the container.
pub(super) enum Given {
    /// Three descriptors.
    Pipes { stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd },
    /// Where the runtime sends the terminal.
    Terminal(PathBuf),
}

enum Kept {
    Pipes(OwnedFd, OwnedFd),
    Terminal(UnixListener),
}

impl Streams {
    pub(super) fn new(tty: bool, stdin_open: bool, run: &Path) -> Result<Self, ShimError> {
        if tty {
            let socket = run.join("console");
            let listener = UnixListener::bind(&socket).map_err(doing("making the console socket"))?;
            return Ok(Self { kept: Kept::Terminal(listener), stdin: None, given: Some(Given::Terminal(socket)) });
        }
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(doing("making a pipe"));
        let ((out_read, stdout), (err_read, stderr)) = (pipe()?, pipe()?);
        let (stdin, kept_stdin) = if stdin_open {
            let (read, write) = pipe()?;
            (read, Some(write))
        } else {
            (std::fs::File::open("/dev/null").map_err(doing("opening /dev/null"))?.into(), None)
        };
        let given = Some(Given::Pipes { stdin, stdout, stderr });
        Ok(Self { kept: Kept::Pipes(out_read, err_read), stdin: kept_stdin, given })
    }

    /// Makes pipes the property of the container's user, who may open them again (`/dev/stdout`).
    pub(super) fn give(&self, (uid, gid): (u32, u32)) -> Result<(), ShimError> {
        let Some(Given::Pipes { stdin, stdout, stderr }) = &self.given else { return Ok(()) };
        // Without an open end of ours it is the host's /dev/null.
        let stdin = self.stdin.as_ref().map(|_| stdin);
        for pipe in [stdout, stderr].into_iter().chain(stdin) {
            fchown(pipe, Some(uid.into()), Some(gid.into()))
                .map_err(doing("giving the pipes to the container's user"))?;
        }
        Ok(())
    }

    /// Standard output (or the terminal), standard error, the open end of standard input; the first two do not block.
    pub(super) fn into_parts(self) -> Result<(OwnedFd, Option<OwnedFd>, Option<OwnedFd>), ShimError> {
        let (stdout, stderr) = match self.kept {
            Kept::Pipes(stdout, stderr) => (stdout, Some(stderr)),
            Kept::Terminal(listener) => (receive(&listener)?, None),
        };
        for fd in std::iter::once(&stdout).chain(&stderr) {
            let flags = rustix::fs::fcntl_getfl(fd).map_err(doing("reading flags"))?;
            rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK).map_err(doing("setting flags"))?;
        }
        Ok((stdout, stderr, self.stdin))
    }
}

/// The master of the terminal. The runtime sent it before the container was created, so it waits here.
#[expect(unsafe_code, reason = "a descriptor that was received is ours")]
fn receive(listener: &UnixListener) -> Result<OwnedFd, ShimError> {
    let (socket, _) = listener.accept().map_err(doing("accepting the console"))?;
    let mut bytes = [0; 4096];
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!([i32; 4]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut buffers, Some(&mut space), flags);
    let message = message.map_err(doing("receiving the console"))?;
    let fds = message.cmsgs().map_err(doing("receiving the console"))?.find_map(|c| match c {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    let fd = fds.ok_or_else(|| ShimError::Runtime("the runtime sent no terminal".into()))?;
    // SAFETY: it came with this message, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
