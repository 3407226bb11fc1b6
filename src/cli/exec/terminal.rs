//! The terminal in front of us.
#![expect(unsafe_code, reason = "its size is asked for by ioctl")]

use std::io;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::api::wire::TerminalSize;

/// Raw while this lives: every key goes to the command.
pub(super) struct Raw(Termios);

impl Raw {
    pub(super) fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no mending.
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

/// Of whichever stream has one; 24 by 80 where none has.
pub(super) fn size() -> TerminalSize {
    let sizes = [libc::STDOUT_FILENO, libc::STDIN_FILENO, libc::STDERR_FILENO].into_iter().filter_map(size_of_stream);
    sizes.into_iter().next().unwrap_or(TerminalSize { rows: 24, columns: 80 })
}

fn size_of_stream(stream: libc::c_int) -> Option<TerminalSize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the size lives during the call.
    let result = unsafe { libc::ioctl(stream, libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_row > 0 && size.ws_col > 0)
        .then_some(TerminalSize { rows: size.ws_row, columns: size.ws_col })
}
