//! When a follower waits, and when it is done. Pure: inputs and the time come in, what to do comes out. Free of the standard
//! library: compiled into the library and into the follower.
//!
//! ```text
//! Running ── init ended ──▶ Draining (until both streams are closed, or the time is over) ──▶ Done(exit)
//! ```

use super::entry::Stream;

/// After the container's init ended its streams are read for at most this long: a process outside of the container's pid
/// namespace may hold the pipe open for ever.
pub const DRAIN_MS: u64 = 200;

/// How the container's init ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this code.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
}

impl Exit {
    /// From the status word of `wait4`.
    #[must_use]
    pub const fn from_wait(status: i32) -> Self {
        match (status & 0x7f) as u8 {
            0 => Self::Code((status >> 8 & 0xff) as u8),
            signal => Self::Signal(signal),
        }
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A stream reached its end.
    Closed(Stream),
    /// The container's init was reaped.
    InitEnded(Exit),
    /// The wait was over without anything else.
    TimeOver,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Wait for the next event, without a limit.
    Wait,
    /// Wait at most so many milliseconds.
    WaitAtMost(u64),
    /// Write the exit record and end.
    Done(Exit),
}

/// The state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervisor {
    stdout: bool,
    stderr: bool,
    ended: Option<(Exit, u64)>,
}

impl Supervisor {
    /// The container runs, and these streams are open.
    #[must_use]
    pub const fn new(stdout: bool, stderr: bool) -> Self {
        Self { stdout, stderr, ended: None }
    }

    /// Whether the stream is still to be read.
    #[must_use]
    pub const fn reads(&self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }

    /// Takes note, and says what to do. `now_ms` is a clock that never goes back.
    pub fn handle(&mut self, input: Input, now_ms: u64) -> Output {
        match input {
            Input::Closed(Stream::Stdout) => self.stdout = false,
            Input::Closed(Stream::Stderr) => self.stderr = false,
            Input::InitEnded(exit) => self.ended = Some((exit, now_ms)),
            Input::TimeOver => {}
        }
        self.next(now_ms)
    }

    /// What to do when nothing new happened.
    #[must_use]
    pub const fn next(&self, now_ms: u64) -> Output {
        match self.ended {
            None => Output::Wait,
            Some((exit, at)) => {
                let over = at + DRAIN_MS;
                if (self.stdout || self.stderr) && now_ms < over {
                    Output::WaitAtMost(over - now_ms)
                } else {
                    Output::Done(exit)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_both_streams_but_not_for_ever() {
        let exit = Exit::from_wait(3 << 8);
        assert_eq!((exit, Exit::from_wait(9)), (Exit::Code(3), Exit::Signal(9)));
        let mut one = Supervisor::new(true, true);
        assert_eq!(one.handle(Input::Closed(Stream::Stdout), 0), Output::Wait);
        assert!(!one.reads(Stream::Stdout) && one.reads(Stream::Stderr));
        assert_eq!(one.handle(Input::InitEnded(exit), 1000), Output::WaitAtMost(DRAIN_MS));
        assert_eq!(one.handle(Input::TimeOver, 1000 + DRAIN_MS - 1), Output::WaitAtMost(1));
        assert_eq!(one.handle(Input::TimeOver, 1000 + DRAIN_MS), Output::Done(exit));
        let mut two = Supervisor::new(true, true);
        two.handle(Input::Closed(Stream::Stderr), 0);
        assert_eq!(two.handle(Input::Closed(Stream::Stdout), 0), Output::Wait, "a container may be silent");
        assert_eq!(two.handle(Input::InitEnded(exit), 5), Output::Done(exit));
    }
}
