//! Standard input and outputs, by threads of their own: a read or a write there cannot be given up, and must hold nothing else up.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

use crate::api::wire::frame::LARGEST;
use crate::cli::failure::Failure;

/// The container may be slow to enter.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

/// Of standard input.
pub(super) enum Piece {
    /// As they were read.
    Bytes(Vec<u8>),
    /// It cannot be read any further.
    Failed(io::Error),
}

/// Reads standard input; its end is the end of the channel.
pub(super) fn input() -> io::Result<Receiver<Piece>> {
    let (send, receive) = channel(1);
    let reading = move || {
        let mut stdin = io::stdin().lock();
        loop {
            let mut bytes = vec![0; LARGEST];
            let piece = match stdin.read(&mut bytes) {
                Ok(0) => return,
                Ok(count) => {
                    bytes.truncate(count);
                    Piece::Bytes(bytes)
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => Piece::Failed(err),
            };
            let last = matches!(piece, Piece::Failed(_));
            if send.blocking_send(piece).is_err() || last {
                return;
            }
        }
    };
    std::thread::Builder::new().name("stdin".to_owned()).spawn(reading)?;
    Ok(receive)
}

/// Writes to standard output and error, in order, and waits for them only when a few pieces are on the way.
pub(super) struct Output {
    send: Option<Sender<(bool, Vec<u8>)>>,
    done: Option<oneshot::Receiver<io::Result<()>>>,
}

impl Output {
    pub(super) fn open() -> io::Result<Self> {
        let (send, mut receive) = channel::<(bool, Vec<u8>)>(4);
        let (tell, done) = oneshot::channel();
        let writing = move || {
            let mut all = || -> io::Result<()> {
                while let Some((error, bytes)) = receive.blocking_recv() {
                    if error {
                        io::stderr().write_all(&bytes)?;
                    } else {
                        let mut stdout = io::stdout().lock();
                        stdout.write_all(&bytes).and_then(|()| stdout.flush())?;
                    }
                }
                Ok(())
            };
            // Nobody waits for it where the command line is given up.
            let _ = tell.send(all());
        };
        std::thread::Builder::new().name("output".to_owned()).spawn(writing)?;
        Ok(Self { send: Some(send), done: Some(done) })
    }

    pub(super) async fn stdout(&mut self, bytes: Vec<u8>) -> Result<(), Failure> {
        self.pass((false, bytes)).await
    }

    pub(super) async fn stderr(&mut self, bytes: Vec<u8>) -> Result<(), Failure> {
        self.pass((true, bytes)).await
    }

    async fn pass(&mut self, piece: (bool, Vec<u8>)) -> Result<(), Failure> {
        let Some(send) = &self.send else { return Ok(()) };
        match send.send(piece).await {
            Ok(()) => Ok(()),
            // The writer ended: it says why.
            Err(_) => self.finish().await,
        }
    }

    /// Waits until all is written.
    pub(super) async fn finish(&mut self) -> Result<(), Failure> {
        self.send = None;
        match self.done.take() {
            Some(done) => Ok(done.await.unwrap_or(Ok(()))?),
            None => Ok(()),
        }
    }
}
