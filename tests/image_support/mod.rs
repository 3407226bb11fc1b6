//! Images made by hand and a registry that serves them, for the tests of the image room.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest as _, Sha256};

pub(crate) fn sha(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// One tar member, with whatever a hostile builder likes.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) link: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) device: (u32, u32),
    pub(crate) pax: Vec<(String, Vec<u8>)>,
}

pub(crate) fn member(kind: u8, name: &str) -> Member {
    Member {
        name: name.into(),
        kind,
        link: Vec::new(),
        data: Vec::new(),
        mode: 0o755,
        uid: 0,
        gid: 0,
        device: (0, 0),
        pax: Vec::new(),
    }
}
pub(crate) fn file(name: &str, data: &str) -> Member {
    Member { data: data.into(), mode: 0o644, ..member(b'0', name) }
}
pub(crate) fn dir(name: &str) -> Member {
    member(b'5', name)
}
pub(crate) fn link(name: &str, to: &str) -> Member {
    Member { link: to.into(), ..member(b'2', name) }
}
pub(crate) fn hard(name: &str, to: &str) -> Member {
    Member { link: to.into(), ..member(b'1', name) }
}
pub(crate) fn device(kind: u8, name: &str, major: u32, minor: u32) -> Member {
    Member { device: (major, minor), ..member(kind, name) }
}

impl Member {
    pub(crate) fn pax(mut self, key: &str, value: &str) -> Self {
        self.pax.push((key.into(), value.into()));
        self
    }
    pub(crate) fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }
    pub(crate) fn owner(self, uid: u32, gid: u32) -> Self {
        Self { uid, gid, ..self }
    }
    fn write(&self, out: &mut Vec<u8>) {
        let mut pax = self.pax.clone();
        if self.name.len() > 100 {
            pax.push(("path".into(), self.name.clone()));
        }
        if self.link.len() > 100 {
            pax.push(("linkpath".into(), self.link.clone()));
        }
        if !pax.is_empty() {
            let mut body = Vec::new();
            for (key, value) in &pax {
                let bare = key.len() + value.len() + 3;
                let length = (bare..).find(|n| n.to_string().len() + bare == *n).unwrap();
                body.extend(format!("{length} {key}=").bytes());
                body.extend(value);
                body.push(b'\n');
            }
            block(out, &Member { data: body, ..member(b'x', "pax") });
        }
        block(out, self);
    }
}

fn block(out: &mut Vec<u8>, m: &Member) {
    let mut h = [0u8; 512];
    let mut put = |at: usize, bytes: &[u8]| h[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &m.name[..m.name.len().min(100)]);
    put(100, format!("{:07o}\0", m.mode).as_bytes());
    put(108, format!("{:07o}\0", m.uid).as_bytes());
    put(116, format!("{:07o}\0", m.gid).as_bytes());
    put(124, format!("{:011o}\0", m.data.len()).as_bytes());
    put(136, format!("{:011o}\0", 1_700_000_000).as_bytes());
    put(148, b"        ");
    put(156, &[m.kind]);
    put(157, &m.link[..m.link.len().min(100)]);
    put(257, b"ustar\x0000");
    put(329, format!("{:07o}\0", m.device.0).as_bytes());
    put(337, format!("{:07o}\0", m.device.1).as_bytes());
    let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
    h[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend(h);
    out.extend(&m.data);
    out.extend(vec![0; m.data.len().wrapping_neg() % 512]);
}

pub(crate) fn tar(members: &[Member]) -> Vec<u8> {
    let mut out = Vec::new();
    members.iter().for_each(|m| m.write(&mut out));
    out.extend([0; 1024]);
    out
}

pub(crate) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// An image's blobs by digest, and its manifest.
#[derive(Default, Clone)]
pub(crate) struct Image {
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    pub(crate) manifest: Vec<u8>,
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image of layers given as (tar, compressed form).
pub(crate) fn image(layers: &[(Vec<u8>, Vec<u8>)]) -> Image {
    let mut image = Image::default();
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let diff_ids: Vec<_> = layers.iter().map(|(tar, _)| sha(tar)).collect();
    let config = serde_json::json!({"architecture": arch, "os": "linux",
        "config": {"Cmd": ["/hello"], "Env": ["A=b"], "User": "web"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    .to_string()
    .into_bytes();
    let descriptor = |kind: &str, data: &[u8]| serde_json::json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": sha(data), "size": data.len()});
    let entries: Vec<_> = layers.iter().map(|(_, packed)| descriptor("layer.v1.tar+gzip", packed)).collect();
    image.manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("config.v1+json", &config), "layers": entries})
    .to_string()
    .into_bytes();
    image.blobs.insert(sha(&config), config);
    image.blobs.extend(layers.iter().map(|(_, packed)| (sha(packed), packed.clone())));
    image
}

/// How a registry answers one request.
pub(crate) enum Answer {
    /// Status, further header lines, body.
    Whole(u16, String, Vec<u8>),
    /// The head and this much of the body, then the connection closes.
    Cut(Vec<u8>, usize),
    /// Status, further header lines, the length that is announced, what is really sent; then silence or the end.
    Part { status: u16, headers: String, length: usize, body: Vec<u8>, hang: bool },
    /// Nothing, for as long as the client stays.
    Hang,
}

/// What a registry is asked.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    head: Vec<String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
    /// Where the bytes asked for begin.
    pub(crate) fn from(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
    pub(crate) fn line(&self) -> String {
        let range = self.header("range").map(|r| format!(" {r}")).unwrap_or_default();
        format!("{} {}{range}", self.method, self.path)
    }
}

/// The bytes of a blob from where they are asked for, as a good registry sends them.
pub(crate) fn part(blob: &[u8], from: usize) -> Answer {
    let range = format!("Content-Range: bytes {from}-{}/{}\r\n", blob.len() - 1, blob.len());
    Answer::Whole(206, range, blob[from..].to_vec())
}

pub(crate) fn ok(kind: &str, body: Vec<u8>) -> Answer {
    Answer::Whole(200, format!("Content-Type: {kind}\r\n"), body)
}

/// The well-behaved answer to a path.
pub(crate) fn serve(image: &Image, path: &str) -> Answer {
    let path = path.split('?').next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    if path.contains("/manifests/") {
        return ok(MANIFEST, image.manifest.clone());
    }
    match image.blobs.get(name) {
        Some(blob) => ok("application/octet-stream", blob.clone()),
        None => Answer::Whole(404, String::new(), Vec::new()),
    }
}

/// A registry on loopback that answers as a closure says.
pub(crate) struct Script {
    pub(crate) address: SocketAddr,
    /// Paths, in the order of the requests.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Script {
    pub(crate) fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self::serve(move |request| answer(&request.path))
    }
    pub(crate) fn serve(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, lines) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let (answer, paths, log) = (Arc::new(answer), Arc::clone(&asked), Arc::clone(&lines));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, paths, log) = (Arc::clone(&answer), Arc::clone(&paths), Arc::clone(&log));
                std::thread::spawn(move || {
                    one(stream, |request| {
                        paths.lock().unwrap().push(request.path.clone());
                        log.lock().unwrap().push(request.line());
                        answer(request)
                    })
                });
            }
        });
        Self { address, asked, lines }
    }
    pub(crate) fn of(image: Image) -> Self {
        Self::start(move |path| serve(&image, path))
    }
    pub(crate) fn name(&self) -> String {
        format!("{}/test/it:t", self.address)
    }
    /// The requests so far that speak of `word`: method, path and range.
    pub(crate) fn lines(&self, word: &str) -> Vec<String> {
        self.lines.lock().unwrap().iter().filter(|line| line.contains(word)).cloned().collect()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? <= 2 {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let mut words = lines.first()?.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut request = Request { method, path, head: lines.split_off(1), body: String::new() };
    let length = request.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    request.body = String::from_utf8_lossy(&body).into_owned();
    Some(request)
}

fn one(mut stream: TcpStream, answer: impl Fn(&Request) -> Answer) -> Option<()> {
    let request = read(&stream)?;
    let mut send = |status: u16, headers: &str, length: usize, body: &[u8]| {
        let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes())?;
        if request.method == "HEAD" { Ok(()) } else { stream.write_all(body) }
    };
    let hang = match answer(&request) {
        Answer::Whole(status, headers, body) => {
            send(status, &headers, body.len(), &body).ok()?;
            false
        }
        Answer::Cut(body, at) => {
            send(200, "", body.len(), &body[..at]).ok()?;
            false
        }
        Answer::Part { status, headers, length, body, hang } => {
            send(status, &headers, length, &body).ok()?;
            hang
        }
        Answer::Hang => true,
    };
    if hang {
        let _ = stream.read(&mut [0; 1]);
    }
    None
}

/// An error and its causes, as a user would see it.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
