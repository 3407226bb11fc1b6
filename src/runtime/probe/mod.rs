//! The helper that connects to a container for its health check: it joins the container's network and nothing else of it, becomes nobody,
//! connects to the loopback, and says what it saw. What comes back is the container's: of all that, little is read.

mod grpc;
mod http;
mod tls;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::exec::{settle, told};
use super::inside::be;
use super::target::Target;
use crate::container::exec::link::ExecFailure;
use crate::container::health::link::{ProbeOrder, ProbeReport};
use crate::model::{HealthCheck, HealthTest, Probe};

/// The user that has nothing.
const NOBODY: u32 = 65_534;

pub(super) fn main() -> ExitCode {
    let Ok(mut daemon) = settle() else { return ExitCode::FAILURE };
    let report = match told(&mut daemon) {
        Ok(order) => run(&order),
        Err(Some(words)) => ProbeReport::Failed(words),
        Err(None) => return ExitCode::FAILURE,
    };
    let said = serde_json::to_vec(&report).map_err(io::Error::from).and_then(|json| daemon.write_all(&json));
    if said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(order: &ProbeOrder) -> ProbeReport {
    let until = Instant::now() + Duration::from_millis(order.limit_ms);
    let target = match Target::hold(order.init, &order.cgroup) {
        Ok(target) => target,
        Err(ExecFailure::ContainerEnded) => return ProbeReport::ContainerEnded,
        Err(ExecFailure::NotFound(words) | ExecFailure::NotStarted(words)) => return ProbeReport::Failed(words),
    };
    if let Err(error) = target.join_network() {
        return ProbeReport::Failed(format!("the container's network cannot be entered: {error}"));
    }
    if let Err(error) = be(NOBODY, NOBODY, &[]) {
        return ProbeReport::Failed(format!("our own rights cannot be given up: {error}"));
    }
    let HealthCheck { test: Some(HealthTest::Probe(probe)), .. } = HealthCheck::from(&order.check) else {
        return ProbeReport::Failed("it was not told what to connect to".to_owned());
    };
    let seen = connect(&probe, until);
    match seen {
        Ok(words) => ProbeReport::Passed(words),
        Err(_) if target.ends_within(Duration::ZERO) => ProbeReport::ContainerEnded,
        Err(words) => ProbeReport::Failed(words),
    }
}

/// What was seen; an error where that is not well.
fn connect(probe: &Probe, until: Instant) -> Result<String, String> {
    match probe {
        Probe::Tcp { port } => Line::open(*port, until).map(|_| format!("port {port} takes connections")),
        Probe::Http { port, path, tls, status } => {
            let line = Line::open(*port, until)?;
            if *tls { http::ask(tls::over(line)?, *port, path, *status) } else { http::ask(line, *port, path, *status) }
        }
        Probe::Grpc { port, service } => grpc::ask(Line::open(*port, until)?, *port, service),
    }
}

/// A connection that does not wait beyond its time.
struct Line {
    stream: TcpStream,
    until: Instant,
}

impl Line {
    /// To the loopback, of IPv4 or else of IPv6.
    fn open(port: u16, until: Instant) -> Result<Self, String> {
        let to = |ip: IpAddr| {
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            TcpStream::connect_timeout(&SocketAddr::new(ip, port), left)
        };
        let stream = to(Ipv4Addr::LOCALHOST.into())
            .or_else(|first| to(Ipv6Addr::LOCALHOST.into()).map_err(|_| first))
            .map_err(|error| format!("port {port} cannot be connected to: {error}"))?;
        Ok(Self { stream, until })
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer).map_err(late)
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes).map_err(late)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn late(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers one connection with these bytes; what was asked.
    pub(super) fn serve(answer: &'static [u8]) -> (u16, std::thread::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = vec![0; 64 * 1024];
            let count = stream.read(&mut asked).unwrap_or(0);
            // Whoever asked may have gone.
            let _ = stream.write_all(answer);
            asked.truncate(count);
            asked
        });
        (port, served)
    }

    pub(super) fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn a_port_takes_connections_or_not() {
        let (port, served) = serve(b"");
        assert_eq!(connect(&Probe::Tcp { port }, soon()).unwrap(), format!("port {port} takes connections"));
        served.join().unwrap();
        let refused = connect(&Probe::Tcp { port }, soon()).unwrap_err();
        assert!(refused.contains("cannot be connected to"), "{refused}");
    }

    #[test]
    fn who_takes_a_connection_and_says_nothing_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let begun = Instant::now();
        let probe = Probe::Http { port, path: "/".into(), tls: false, status: (200, 399) };
        let words = connect(&probe, begun + Duration::from_millis(200)).unwrap_err();
        assert!(words.contains("did not answer in time"), "{words}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
