//! A GET of HTTP/1.1: the status decides, redirects are not followed.

use std::io::{ErrorKind, Read, Write};

/// No more of an answer is read.
const LONGEST: usize = 8 * 1024;

/// What was seen; an error where the status is another one.
pub(super) fn ask(
    mut line: impl Read + Write,
    port: u16,
    path: &str,
    (low, high): (u16, u16),
) -> Result<String, String> {
    let version = env!("CARGO_PKG_VERSION");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: longshore/{version}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    let fail = |error: std::io::Error| format!("GET {path} on port {port}: {error}");
    line.write_all(request.as_bytes()).and_then(|()| line.flush()).map_err(fail)?;
    let mut answer = Vec::new();
    let first = loop {
        if let Some(first) = first_line(&answer) {
            break first;
        }
        if !more(&mut line, &mut answer).map_err(fail)? {
            return Err(format!("GET {path} on port {port}: what answers does not speak HTTP"));
        }
    };
    let Some(status) = status(&first) else {
        return Err(format!("GET {path} on port {port}: what answers does not speak HTTP"));
    };
    let told = format!("GET {path} on port {port}: {}", first.split_once(' ').map_or("", |(_, rest)| rest).trim());
    if (low..=high).contains(&status) {
        return Ok(told);
    }
    // What it says of itself, as far as it comes.
    while let Ok(true) = more(&mut line, &mut answer) {}
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(&[][..], |at| &answer[at + 4..]);
    let body = String::from_utf8_lossy(body);
    let body = body.trim();
    Err(if body.is_empty() { told } else { format!("{told}: {body}") })
}

/// Reads on; `false`: it is over, or enough.
fn more(line: &mut impl Read, answer: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut buffer = [0; 1024];
    if answer.len() >= LONGEST {
        return Ok(false);
    }
    loop {
        match line.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // TLS that is ended without a word.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            read => {
                let count = read?;
                answer.extend_from_slice(&buffer[..count]);
                return Ok(count > 0);
            }
        }
    }
}

fn first_line(answer: &[u8]) -> Option<String> {
    let end = answer.iter().position(|b| *b == b'\n')?;
    Some(String::from_utf8_lossy(&answer[..end]).trim_end().to_owned())
}

fn status(first: &str) -> Option<u16> {
    let mut words = first.strip_prefix("HTTP/")?.split(' ');
    let _version = words.next()?;
    words.next()?.parse().ok().filter(|status| (100..=999).contains(status))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{serve, soon};
    use super::super::{Line, connect};
    use crate::model::Probe;

    fn get(answer: &'static [u8], status: (u16, u16)) -> (Result<String, String>, String) {
        let (port, served) = serve(answer);
        let probe = Probe::Http { port, path: "/up?a=1".into(), tls: false, status };
        let seen = connect(&probe, soon());
        let words = |text: String| text.replace(&port.to_string(), "PORT");
        (seen.map(words).map_err(words), words(String::from_utf8(served.join().unwrap()).unwrap()))
    }

    #[test]
    fn the_status_decides() {
        let (seen, asked) = get(b"HTTP/1.1 204 No Content\r\n\r\n", (200, 399));
        assert_eq!(seen.unwrap(), "GET /up?a=1 on port PORT: 204 No Content");
        assert!(asked.starts_with("GET /up?a=1 HTTP/1.1\r\nHost: localhost:PORT\r\n"), "{asked}");
        let (seen, _) = get(b"HTTP/1.0 503 Service Unavailable\r\nX: y\r\n\r\nthe database is away\n", (200, 399));
        assert_eq!(seen.unwrap_err(), "GET /up?a=1 on port PORT: 503 Service Unavailable: the database is away");
        assert_eq!(
            get(b"HTTP/1.1 302 Found\r\n\r\n", (200, 299)).0.unwrap_err(),
            "GET /up?a=1 on port PORT: 302 Found"
        );
        for odd in [&b"SSH-2.0-x\r\n"[..], b"", b"HTTP/1.1\r\n", b"HTTP/1.1 abc\r\n", b"no end of the line"] {
            let words = get(odd, (200, 399)).0.unwrap_err();
            assert!(words.contains("does not speak HTTP"), "{words}");
        }
    }

    #[test]
    fn an_answer_without_end_is_not_read_to_its_end() {
        static LONG: [u8; 64 * 1024] = [b'x'; 64 * 1024];
        let (port, served) = serve(&LONG);
        let line = Line::open(port, soon()).unwrap();
        let words = super::ask(line, port, "/", (200, 399)).unwrap_err();
        assert!(words.contains("does not speak HTTP"), "{words}");
        served.join().unwrap();
    }
}
