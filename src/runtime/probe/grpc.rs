//! `grpc.health.v1.Health/Check`, over HTTP/2 without TLS: as much of both as one call needs. Of the answer only the message is read, not
//! the headers: who answers with SERVING has said all.

use std::io::{self, Read, Write};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PATH: &str = "/grpc.health.v1.Health/Check";
/// No larger frame was allowed to the other side (RFC 9113, 4.2).
const LONGEST_FRAME: usize = 16_384;
/// An answer is a few of them.
const MOST_FRAMES: usize = 64;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const SERVING: u64 = 1;

/// What was seen; an error where it does not serve.
pub(super) fn ask(mut line: impl Read + Write, port: u16, service: &str) -> Result<String, String> {
    let whose = if service.is_empty() { "the server".to_owned() } else { service.to_owned() };
    let fail = |error: io::Error| format!("gRPC on port {port}: {error}");
    line.write_all(&request(port, service)).map_err(fail)?;
    let answer = answer(&mut line).map_err(fail)?;
    let status = answer.as_deref().and_then(message).map(status);
    match status {
        Some(SERVING) => Ok(format!("gRPC on port {port}: {whose} is SERVING")),
        Some(other) => {
            let word = match other {
                0 => "UNKNOWN",
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "in a state without a name",
            };
            Err(format!("gRPC on port {port}: {whose} is {word}"))
        }
        None => Err(format!("gRPC on port {port}: no answer of grpc.health.v1.Health for {whose}")),
    }
}

fn request(port: u16, service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        // Field 1, a text.
        message.push(0x0a);
        varint(service.len() as u64, &mut message);
        message.extend(service.as_bytes());
    }
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    body.extend(message);
    // `:method: POST` and `:scheme: http` by their numbers, the rest as it is (RFC 7541, 6.1 and 6.2.2).
    let mut headers = vec![0x83, 0x86];
    let authority = format!("localhost:{port}");
    for (name, value) in [
        (":path", PATH),
        (":authority", authority.as_str()),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", concat!("longshore/", env!("CARGO_PKG_VERSION"))),
    ] {
        headers.push(0);
        for text in [name, value] {
            // None is longer than 126, so each length is one byte.
            headers.push(u8::try_from(text.len()).unwrap_or(0));
            headers.extend(text.as_bytes());
        }
    }
    let frames = [
        PREFACE.to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, END_HEADERS, 1, &headers),
        frame(DATA, END_STREAM, 1, &body),
    ];
    frames.concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The body of the answer; none where it ends without one.
fn answer(line: &mut (impl Read + Write)) -> io::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    for _ in 0..MOST_FRAMES {
        let mut head = [0; 9];
        line.read_exact(&mut head)?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        if length > LONGEST_FRAME {
            return Err(io::Error::other("what answers does not speak HTTP/2"));
        }
        let mut payload = vec![0; length];
        line.read_exact(&mut payload)?;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        match kind {
            SETTINGS if flags & ACK == 0 => line.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
            PING if flags & ACK == 0 => line.write_all(&frame(PING, ACK, 0, &payload))?,
            GOAWAY | RST_STREAM => return Ok(None),
            DATA if stream == 1 => {
                body.extend_from_slice(unpadded(flags, &payload)?);
                if message(&body).is_some() {
                    return Ok(Some(body));
                }
            }
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && stream == 1 && flags & END_STREAM != 0 {
            return Ok(None);
        }
    }
    Err(io::Error::other("it answers with more than an answer"))
}

fn unpadded(flags: u8, payload: &[u8]) -> io::Result<&[u8]> {
    if flags & PADDED == 0 {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or(io::ErrorKind::InvalidData)?;
    let end = rest.len().checked_sub(usize::from(*padding)).ok_or(io::ErrorKind::InvalidData)?;
    Ok(&rest[..end])
}

/// The first message, once it is there as a whole.
fn message(body: &[u8]) -> Option<&[u8]> {
    let (head, rest) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    rest.get(..length).filter(|_| head[0] == 0)
}

/// Field 1, a number; 0 where it is not given.
fn status(message: &[u8]) -> u64 {
    match message {
        [0x08, rest @ ..] => read_varint(rest),
        _ => 0,
    }
}

fn read_varint(bytes: &[u8]) -> u64 {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

fn varint(mut number: u64, bytes: &mut Vec<u8>) {
    while number > 0x7f {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Someone who has said all that he will say, and what he was told.
    struct Talk(io::Cursor<Vec<u8>>, Vec<u8>);

    impl Read for Talk {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl Write for Talk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn answered(frames: &[Vec<u8>]) -> (Result<String, String>, Vec<u8>) {
        let mut talk = Talk(io::Cursor::new(frames.concat()), Vec::new());
        (ask(&mut talk, 7, "a.B"), talk.1)
    }

    #[test]
    fn who_serves_is_well() {
        let body = |status: u8| [0, 0, 0, 0, 2, 8, status];
        let settings = || frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
        let (seen, told) = answered(&[
            settings(),
            frame(SETTINGS, ACK, 0, &[]),
            frame(PING, 0, 0, b"12345678"),
            frame(8, 0, 0, &[0, 0, 0, 9]),
            frame(HEADERS, END_HEADERS, 1, &[0x88]),
            frame(DATA, PADDED, 1, &[&[2][..], &body(1), &[0, 0]].concat()),
        ]);
        assert_eq!(seen.unwrap(), "gRPC on port 7: a.B is SERVING");
        assert!(told.starts_with(PREFACE));
        let pong = frame(PING, ACK, 0, b"12345678");
        assert!(told.windows(pong.len()).any(|w| w == pong) && told.windows(3).any(|w| w == b"a.B"));
        let split = [frame(DATA, 0, 1, &body(2)[..3]), frame(DATA, END_STREAM, 1, &body(2)[3..])];
        assert_eq!(answered(&split).0.unwrap_err(), "gRPC on port 7: a.B is NOT_SERVING");
        let empty = [frame(DATA, END_STREAM, 1, &[0, 0, 0, 0, 0])];
        assert_eq!(answered(&empty).0.unwrap_err(), "gRPC on port 7: a.B is UNKNOWN");
    }

    #[test]
    fn who_says_something_else_is_not() {
        let no_answer = "gRPC on port 7: no answer of grpc.health.v1.Health for a.B";
        for frames in [
            vec![frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x88])],
            vec![frame(GOAWAY, 0, 0, &[0; 8])],
            vec![frame(RST_STREAM, 0, 1, &[0; 4])],
        ] {
            assert_eq!(answered(&frames).0.unwrap_err(), no_answer);
        }
        for frames in [
            vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()],
            vec![frame(DATA, PADDED, 1, &[9, 1])],
            vec![Vec::new()],
            vec![frame(SETTINGS, ACK, 0, &[]); 100],
        ] {
            let words = answered(&frames).0.unwrap_err();
            assert!(words.starts_with("gRPC on port 7: ") && words != no_answer, "{words}");
        }
    }

    #[test]
    fn numbers_are_written_and_read() {
        for number in [0, 1, 127, 128, 300, 1 << 40] {
            let mut bytes = Vec::new();
            varint(number, &mut bytes);
            assert_eq!(read_varint(&bytes), number);
        }
    }
}
