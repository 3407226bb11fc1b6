//! One question to one server.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

use super::wire::{Answer, Question, Transport};

/// Longer than any answer to a question that says what fits.
const DATAGRAM: usize = 4096;

/// Asks by UDP, from a port of its own and with a number that nobody can guess, and by TCP where the answer is not whole. A
/// question that came by TCP is asked by TCP first.
pub(super) async fn ask(
    server: SocketAddr,
    question: &Question,
    transport: Transport,
    limit: Duration,
) -> io::Result<Answer> {
    let until = Instant::now() + limit;
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    if transport == Transport::Tcp
        && let Ok(Ok(answer)) = timeout_at(until - limit / 2, by_tcp(server, question)).await
    {
        return Ok(answer);
    }
    let answer = timeout_at(until, by_udp(server, question)).await.map_err(late)??;
    if !answer.truncated() {
        return Ok(answer);
    }
    match timeout_at(until, by_tcp(server, question)).await {
        Ok(Ok(whole)) => Ok(whole),
        // A part is better than nothing; it says itself that it is one.
        Ok(Err(_)) | Err(_) => Ok(answer),
    }
}

async fn by_udp(server: SocketAddr, question: &Question) -> io::Result<Answer> {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let id = number();
    socket.send(&question.asking(id)).await?;
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let len = socket.recv(&mut buffer).await?;
        // What is no answer to this question may be of one who guesses; the true one may still come.
        if let Some(answer) = Answer::parse(buffer[..len].to_vec(), id, question) {
            return Ok(answer);
        }
    }
}

async fn by_tcp(server: SocketAddr, question: &Question) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    let id = number();
    let message = question.asking(id);
    let len = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes(), message.as_slice()].concat()).await?;
    let len = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(len)];
    stream.read_exact(&mut bytes).await?;
    Answer::parse(bytes, id, question).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Drawn by hickory, whose generator is seeded by the kernel.
fn number() -> u16 {
    Message::query().metadata.id
}
