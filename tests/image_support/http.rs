//! A server on loopback that sees whole requests, for registries that misbehave while something is sent to them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// One request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Heard {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What is answered: status, header lines, body.
pub(crate) type Reply = (u16, String, Vec<u8>);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) heard: Arc<Mutex<Vec<Heard>>>,
}

impl Server {
    /// `most` says how many bytes of a request's body are read before the connection is cut; none reads all.
    pub(crate) fn start(
        most: impl Fn(&Heard) -> Option<usize> + Send + Sync + 'static,
        answer: impl Fn(&Heard, SocketAddr) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let (log, both) = (Arc::clone(&heard), Arc::new((most, answer)));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, both) = (Arc::clone(&log), Arc::clone(&both));
                std::thread::spawn(move || one(stream, &both.0, &both.1, address, &log));
            }
        });
        Self { address, heard }
    }
    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        self.heard.lock().unwrap().iter().filter(|h| h.method == method && h.path.contains(part)).count()
    }
}

fn one(
    mut stream: TcpStream,
    most: &impl Fn(&Heard) -> Option<usize>,
    answer: &impl Fn(&Heard, SocketAddr) -> Reply,
    address: SocketAddr,
    log: &Mutex<Vec<Heard>>,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ').map(str::to_owned);
    let mut heard = Heard { method: words.next()?, path: words.next()?, ..Heard::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        heard.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length: usize = heard.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let cut = most(&heard);
    heard.body = vec![0; cut.unwrap_or(length).min(length)];
    reader.read_exact(&mut heard.body).ok()?;
    log.lock().unwrap().push(heard.clone());
    let (status, headers, body) = answer(&heard, address);
    if cut.is_some() {
        // What was not read makes this a reset.
        return None;
    }
    let length = if heard.method == "HEAD" { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    write!(stream, "HTTP/1.1 {status} x\r\n{length}Connection: close\r\n{headers}\r\n").ok()?;
    stream.write_all(&body).ok()
}
