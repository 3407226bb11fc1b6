//! `longshore exec NAME COMMAND…`
//!
//! The command's streams are this program's. With `-t` the terminal is raw meanwhile: Ctrl+C is the command's. Without it a SIGINT
//! or SIGTERM is passed on, and a second one gives up.

pub(super) mod environment;
mod streams;
mod terminal;

use std::io::IsTerminal as _;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::Receiver;

use super::Exit;
use super::args::ExecArgs;
use super::client::{Client, Connection, percent};
use super::failure::Failure;
use super::out::Out;
use crate::api::wire::frame::{Frame, Frames, LARGEST, WINDOW};
use crate::api::wire::{ExecAsk, ExecExit, ExecStarted};
use streams::{Output, Piece};
use terminal::Raw;

pub(super) async fn run(client: &Client, args: ExecArgs, out: &mut Out) -> Result<Exit, Failure> {
    let path = format!("/api/v1/containers/{}/exec", percent(&args.name));
    let (interactive, tty) = (args.interactive && !args.detach, args.tty && !args.detach);
    if tty && interactive && !std::io::stdin().is_terminal() {
        return Err(Failure::Said("-t needs a terminal, and standard input is none: leave out -t".to_owned()));
    }
    let ask = ExecAsk {
        environment: environment::read(&args.env, &args.env_file)?,
        command: args.command,
        user: args.user,
        working_dir: args.workdir,
        privileged: args.privileged,
        stdin: interactive,
        terminal: tty.then(terminal::size),
        detach: args.detach,
        index: args.index,
    };
    if args.detach {
        let _: ExecStarted = client.tell(&path, &ask, streams::PATIENCE).await?;
        return Ok(Exit::Fine);
    }
    let connection = client.upgrade(&path, &ask, streams::PATIENCE).await?;
    let raw = if tty && interactive { Some(Raw::enter().map_err(Failure::Output)?) } else { None };
    let ended = Session::open(connection, interactive, tty)?.run().await;
    drop(raw);
    let ExecExit { code, reason, .. } = ended?;
    if let Some(reason) = reason {
        out.complain(&reason);
    }
    Ok(Exit::Command(code))
}

/// One command's streams.
struct Session {
    reading: tokio::io::ReadHalf<Connection>,
    writing: tokio::io::WriteHalf<Connection>,
    frames: Frames,
    output: Output,
    /// None: nothing is read, or no more.
    input: Option<Receiver<Piece>>,
    /// Bytes of input that may be sent.
    window: usize,
    /// Of a piece that did not fit into it.
    rest: Vec<u8>,
    signals: Signals,
    asked_to_end: bool,
}

impl Session {
    fn open(connection: Connection, interactive: bool, tty: bool) -> Result<Self, Failure> {
        let (reading, writing) = tokio::io::split(connection);
        let input = if interactive { Some(streams::input().map_err(Failure::Runtime)?) } else { None };
        let (output, frames) = (Output::open().map_err(Failure::Runtime)?, Frames::default());
        let signals = Signals::listen(tty).map_err(Failure::Runtime)?;
        let (window, rest, asked_to_end) = (WINDOW, Vec::new(), false);
        Ok(Self { reading, writing, frames, output, input, window, rest, signals, asked_to_end })
    }

    async fn run(mut self) -> Result<ExecExit, Failure> {
        let mut buffer = vec![0; LARGEST];
        loop {
            // What each of them waits for stays where it is if another one comes first.
            tokio::select! {
                read = self.reading.read(&mut buffer) => {
                    let count = read.map_err(cut)?;
                    if count == 0 {
                        return Err(Failure::Said("the daemon has gone away, and the command was hung up".to_owned()));
                    }
                    self.frames.feed(&buffer[..count]);
                    while let Some(frame) = self.frames.take().map_err(|err| Failure::Said(err.to_string()))? {
                        if let Some(exit) = self.act(frame).await? {
                            return Ok(exit);
                        }
                    }
                }
                piece = next(&mut self.input), if self.window > 0 && self.rest.is_empty() => self.pass_in(piece).await?,
                number = self.signals.next() => self.pass_signal(number).await?,
            }
        }
    }

    /// What the command writes, until its end.
    async fn act(&mut self, frame: Frame) -> Result<Option<ExecExit>, Failure> {
        match frame {
            Frame::Stdout(bytes) => self.output.stdout(bytes).await?,
            Frame::Stderr(bytes) => self.output.stderr(bytes).await?,
            Frame::Taken(count) => {
                self.window = (self.window + count as usize).min(WINDOW);
                let rest = std::mem::take(&mut self.rest);
                if !rest.is_empty() {
                    self.send_input(rest).await?;
                }
            }
            Frame::Exit(exit) => {
                self.output.finish().await?;
                return Ok(Some(exit));
            }
            Frame::Error(body) => {
                self.output.finish().await?;
                return Err(Failure::Refused { facts: body.error });
            }
            Frame::Stdin(_) | Frame::StdinEnd | Frame::Size(_) | Frame::Signal(_) => {
                return Err(Failure::Said("the daemon sent a frame that is a client's".to_owned()));
            }
        }
        Ok(None)
    }

    async fn pass_in(&mut self, piece: Option<Piece>) -> Result<(), Failure> {
        match piece {
            Some(Piece::Bytes(bytes)) => self.send_input(bytes).await,
            Some(Piece::Failed(err)) => Err(Failure::Said(format!("cannot read standard input: {err}"))),
            None => {
                self.input = None;
                self.send(&Frame::StdinEnd).await
            }
        }
    }

    async fn send_input(&mut self, mut bytes: Vec<u8>) -> Result<(), Failure> {
        self.rest = bytes.split_off(bytes.len().min(self.window));
        self.window -= bytes.len();
        self.send(&Frame::Stdin(bytes)).await
    }

    async fn pass_signal(&mut self, number: u8) -> Result<(), Failure> {
        if i32::from(number) == libc::SIGWINCH {
            return self.send(&Frame::Size(terminal::size())).await;
        }
        if std::mem::replace(&mut self.asked_to_end, true) {
            return Err(Failure::Said("given up: the command is hung up".to_owned()));
        }
        self.send(&Frame::Signal(number)).await
    }

    async fn send(&mut self, frame: &Frame) -> Result<(), Failure> {
        let sent = self.writing.write_all(&frame.encode()).await;
        match sent {
            // How it ended is still to be read.
            Err(err) if err.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            sent => sent.map_err(cut),
        }
    }
}

/// The next piece; never where nothing is read.
async fn next(input: &mut Option<Receiver<Piece>>) -> Option<Piece> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err asks for")]
fn cut(err: std::io::Error) -> Failure {
    Failure::Said(format!("the connection to the daemon was cut, and the command was hung up: {err}"))
}

/// The signals that are passed on.
struct Signals {
    size: Option<Signal>,
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen(tty: bool) -> std::io::Result<Self> {
        let size = if tty { Some(signal(SignalKind::window_change())?) } else { None };
        let [interrupt, terminate, hangup] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        Ok(Self { size, interrupt: signal(interrupt)?, terminate: signal(terminate)?, hangup: signal(hangup)? })
    }

    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        let size = async {
            match &mut self.size {
                Some(size) => size.recv().await,
                None => std::future::pending().await,
            }
        };
        // Each only waits; none is lost when another one comes first.
        let number = tokio::select! {
            _ = size => libc::SIGWINCH,
            _ = self.interrupt.recv() => libc::SIGINT,
            _ = self.terminate.recv() => libc::SIGTERM,
            _ = self.hangup.recv() => libc::SIGHUP,
        };
        u8::try_from(number).unwrap_or(0)
    }
}
