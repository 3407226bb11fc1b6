//! One command's streams on one connection.
//!
//! Each direction is as fast as its slower end: what a client does not take is not read from the command, what a command does not
//! read is kept within the window. A client may stop reading for as long as it likes; one that goes away hangs the command up.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{pending, try_join3};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use super::door::{ExecControl, ExecEnd, ExecSession};
use crate::api::error::ApiError;
use crate::api::stall::Stall;
use crate::api::wire::ExecExit;
use crate::api::wire::frame::{Frame, Frames, LARGEST, WINDOW};

/// What a command left in its pipes when it ended is there at once; what its own children write later is not waited for.
const LINGER: Duration = Duration::from_millis(50);
/// So long a client may take to close its end after the last frame.
const GOODBYE: Duration = Duration::from_secs(5);

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}
type Connection = Box<dyn Duplex>;

/// To the end of the command, or until the client is gone.
pub(super) async fn run(upgraded: Upgraded, session: ExecSession, container: &str) {
    let (connection, ahead) = unbound(upgraded);
    let (reading, writing) = tokio::io::split(connection);
    let out = Outgoing(Mutex::new(writing));
    let ExecSession { stdin, stdout, stderr, control, ended } = session;
    let (fed, feed) = unbounded_channel();
    let waiting = AtomicUsize::new(0);
    let (over, is_over) = watch::channel(false);
    let ending = async {
        let end = ended.await;
        over.send_replace(true);
        Ok::<_, io::Error>(end)
    };
    let errors = copy(stderr, Frame::Stderr, &out, is_over.clone());
    let outputs = try_join3(ending, copy(stdout, Frame::Stdout, &out, is_over), errors);
    let mut incoming = Incoming { reading, frames: Frames::default(), control, fed, waiting: &waiting };
    incoming.frames.feed(&ahead);
    let last = tokio::select! {
        // Cancelled only at the end of all: nothing of the others counts any more then.
        seen = outputs => match seen {
            Ok((end, (), ())) => Some(last_frame(end, container)),
            Err(_) => None,
        },
        wrong = incoming.listen() => wrong.map(|message| Frame::Error(ApiError::BadRequest { message }.body())),
        () = feed_in(feed, stdin, &out, &waiting) => None,
    };
    let Some(last) = last else { return };
    if out.send(&last).await.is_ok() && out.end().await.is_ok() {
        // What is still on its way here must not be answered with a reset, which could overtake the last frame.
        let _ = timeout(GOODBYE, incoming.drain()).await;
    }
}

/// The connection without the limit that other clients have for taking what is written.
fn unbound(upgraded: Upgraded) -> (Connection, Vec<u8>) {
    let upgraded = match upgraded.downcast::<TokioIo<Stall<UnixStream>>>() {
        Ok(parts) => return (Box::new(parts.io.into_inner().into_inner()), parts.read_buf.to_vec()),
        Err(upgraded) => upgraded,
    };
    match upgraded.downcast::<TokioIo<Stall<TcpStream>>>() {
        Ok(parts) => (Box::new(parts.io.into_inner().into_inner()), parts.read_buf.to_vec()),
        Err(upgraded) => (Box::new(TokioIo::new(upgraded)), Vec::new()),
    }
}

fn last_frame(end: Result<ExecEnd, String>, container: &str) -> Frame {
    match end {
        Ok(ExecEnd { code, signal, container_ended }) => {
            let reason = container_ended.then(|| format!("the container {container} ended, and the command with it"));
            Frame::Exit(ExecExit { code, signal, reason })
        }
        Err(message) => Frame::Error(ApiError::Failed { message }.body()),
    }
}

/// Where frames are written, one at a time.
struct Outgoing(Mutex<WriteHalf<Connection>>);

impl Outgoing {
    async fn send(&self, frame: &Frame) -> io::Result<()> {
        let bytes = frame.encode();
        let mut connection = self.0.lock().await;
        connection.write_all(&bytes).await?;
        connection.flush().await
    }

    async fn end(&self) -> io::Result<()> {
        self.0.lock().await.shutdown().await
    }
}

/// What the command writes, until nobody writes any more, or it has ended and all of it was read.
async fn copy(
    from: Option<Box<dyn AsyncRead + Send + Unpin>>,
    frame: impl Fn(Vec<u8>) -> Frame,
    out: &Outgoing,
    mut over: watch::Receiver<bool>,
) -> io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = vec![0; LARGEST];
    loop {
        let lingering = *over.borrow();
        let read = if lingering {
            timeout(LINGER, from.read(&mut buffer)).await.unwrap_or(Ok(0))
        } else {
            tokio::select! {
                // A read that is cancelled took nothing.
                read = from.read(&mut buffer) => read,
                _ = over.wait_for(|over| *over) => continue,
            }
        };
        match read {
            // A terminal that nobody has open any more fails.
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) => out.send(&frame(buffer[..count].to_vec())).await?,
        }
    }
}

/// What comes from the client.
struct Incoming<'a> {
    reading: ReadHalf<Connection>,
    frames: Frames,
    control: Box<dyn ExecControl>,
    /// `None`: the end of it.
    fed: UnboundedSender<Option<Vec<u8>>>,
    /// Bytes that were fed and not taken.
    waiting: &'a AtomicUsize,
}

impl Incoming<'_> {
    /// Until the client is gone, or does what it may not do.
    async fn listen(&mut self) -> Option<String> {
        let mut buffer = vec![0; LARGEST];
        loop {
            loop {
                match self.frames.take() {
                    Ok(None) => break,
                    Ok(Some(frame)) => {
                        if let Err(wrong) = self.act(frame) {
                            return Some(wrong);
                        }
                    }
                    Err(wrong) => return Some(wrong.to_string()),
                }
            }
            match self.reading.read(&mut buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.frames.feed(&buffer[..count]),
            }
        }
    }

    fn act(&self, frame: Frame) -> Result<(), String> {
        match frame {
            Frame::Stdin(bytes) if bytes.is_empty() => {}
            Frame::Stdin(bytes) => {
                if self.waiting.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len() > WINDOW {
                    return Err(format!("more than {WINDOW} bytes of input were sent before they were taken"));
                }
                // The receiver lives as long as this does.
                let _ = self.fed.send(Some(bytes));
            }
            Frame::StdinEnd => drop(self.fed.send(None)),
            Frame::Size(size) => self.control.resize(size.rows, size.columns),
            Frame::Signal(number) => self.control.signal(number),
            Frame::Stdout(_) | Frame::Stderr(_) | Frame::Exit(_) | Frame::Error(_) | Frame::Taken(_) => {
                return Err("that frame is the server's to send".to_owned());
            }
        }
        Ok(())
    }

    async fn drain(&mut self) {
        let mut buffer = vec![0; LARGEST];
        while matches!(self.reading.read(&mut buffer).await, Ok(1..)) {}
    }
}

/// Gives the command its input, and says how much it took. What it does not want is thrown away.
async fn feed_in(
    mut feed: UnboundedReceiver<Option<Vec<u8>>>,
    mut stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    out: &Outgoing,
    waiting: &AtomicUsize,
) {
    while let Some(piece) = feed.recv().await {
        let Some(bytes) = piece else {
            stdin = None;
            continue;
        };
        if let Some(input) = &mut stdin
            && input.write_all(&bytes).await.is_err()
        {
            stdin = None;
        }
        waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
        let taken = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if out.send(&Frame::Taken(taken)).await.is_err() {
            break;
        }
    }
    // The end of the session is for the others to see.
    pending::<()>().await;
}
