//! Registries behind TLS: certificates of one's own, redirects and proxies.

#[expect(dead_code, reason = "each test program uses its own part")]
#[path = "image_support/here.rs"]
mod here;
#[expect(dead_code, reason = "each test program uses its own part")]
mod image_support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use here::{Here, large, registries};
use image_support::{Answer, Script, serve};
use longshore::image::{Proxy, RegistrySettings, Settings};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

fn openssl(dir: &Path, line: &str) {
    let done = Command::new("openssl").args(line.split(' ')).current_dir(dir).output().expect("openssl is installed");
    assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
}

/// An authority `ca.crt` of our own and what it signed for 127.0.0.1 and lab.invalid: `server` and `client`.
fn certificates(at: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(at, &format!("req -x509 {key} -keyout ca.key -out ca.crt -days 2 -subj /CN=lab"));
    std::fs::write(at.join("ext"), "subjectAltName=IP:127.0.0.1,DNS:lab.invalid\n").unwrap();
    for name in ["server", "client"] {
        openssl(at, &format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        let sign = "-CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext";
        openssl(at, &format!("x509 -req -in {name}.csr -out {name}.cert {sign}"));
    }
}

/// A registry that only lets in who shows a certificate of its own authority; it ends with the value.
struct Guarded {
    child: std::process::Child,
    host: String,
    dir: tempfile::TempDir,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Guarded {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        certificates(at);
        let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let root = at.display();
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}/data}}}}\nhttp:\n  addr: '{host}'\n  tls: {{certificate: {root}/server.cert, key: {root}/server.key, clientcas: [{root}/ca.crt]}}\n"
        );
        std::fs::write(at.join("config.yml"), text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(at.join("config.yml"));
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let child = command.spawn().expect("docker-registry is installed");
        let guarded = Self { child, host, dir };
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&guarded.host).is_err() {
            assert!(std::time::Instant::now() < until, "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        guarded
    }
}

#[tokio::test]
async fn certificates_of_ones_own_open_the_door() {
    let guarded = Guarded::start();
    let name = format!("{}/test/it:t", guarded.host);
    let read = |file: &str| std::fs::read(guarded.dir.path().join(file)).unwrap();
    let secure = || RegistrySettings { plain_http: Some(false), ..RegistrySettings::default() };
    let with = |set: RegistrySettings| Here::new(registries([(guarded.host.clone(), set)]));

    let error = with(secure()).pull(&name).await.unwrap_err();
    assert!(error.contains("cannot be spoken to by TLS") && error.contains("ca.crt"), "{error}");
    let trusting = RegistrySettings { ca_pem: Some(read("ca.crt")), ..secure() };
    let error = with(trusting.clone()).pull(&name).await.unwrap_err();
    assert!(error.contains("wants another client certificate") && error.contains("client-cert-file"), "{error}");
    // Inside, the image is not there: that is an answer of the registry.
    let known = RegistrySettings { client_pem: Some([read("client.cert"), read("client.key")].concat()), ..trusting };
    let error = with(known).pull(&name).await.unwrap_err();
    assert!(error.contains("does not exist"), "{error}");

    // The same from a folder, which is read anew for each pull.
    let certs = tempfile::tempdir().unwrap();
    let folder = certs.path().join(&guarded.host);
    std::fs::create_dir(&folder).unwrap();
    let settings = registries([(guarded.host.clone(), secure())]);
    let here = Here::new(Settings { certs_dirs: vec![certs.path().to_owned()], ..settings });
    assert!(here.pull(&name).await.unwrap_err().contains("TLS"));
    for file in ["ca.crt", "client.cert", "client.key"] {
        std::fs::write(folder.join(file), read(file)).unwrap();
    }
    assert!(here.pull(&name).await.unwrap_err().contains("does not exist"));
}

/// TLS in front of a plain registry.
struct Front {
    address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Front {
    fn of(behind: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        certificates(dir.path());
        let _ = rustls::crypto::ring::default_provider().install_default();
        let chain = vec![CertificateDer::from_pem_file(dir.path().join("server.cert")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(dir.path().join("server.key")).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let config = Arc::clone(&config);
                std::thread::spawn(move || pass(stream, config, behind));
            }
        });
        Self { address, dir }
    }
    fn trusted(&self) -> RegistrySettings {
        let ca_pem = Some(std::fs::read(self.dir.path().join("ca.crt")).unwrap());
        RegistrySettings { plain_http: Some(false), ca_pem, ..RegistrySettings::default() }
    }
}

/// One request without a body, and its answer.
fn pass(stream: TcpStream, config: Arc<rustls::ServerConfig>, behind: SocketAddr) -> Option<()> {
    let mut tls = rustls::StreamOwned::new(rustls::ServerConnection::new(config).ok()?, stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tls.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let mut plain = TcpStream::connect(behind).ok()?;
    plain.write_all(&head).ok()?;
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).ok()?;
    tls.write_all(&answer).ok()?;
    tls.conn.send_close_notify();
    tls.flush().ok()
}

#[tokio::test]
async fn a_redirect_away_from_tls_is_refused() {
    let (made, layer) = large();
    let plain = Script::of(made.clone());
    let elsewhere = plain.address;
    let behind = Script::start(move |path| match path.contains(&layer) {
        true => Answer::Whole(307, format!("Location: http://{elsewhere}{path}\r\n"), vec![]),
        false => serve(&made, path),
    });
    let front = Front::of(behind.address);
    let here = Here::new(registries([(front.address.to_string(), front.trusted())]));
    let error = here.pull(&format!("{}/test/it:t", front.address)).await.unwrap_err();
    assert!(error.contains("away from HTTPS"), "{error}");
    assert!(plain.lines("").is_empty(), "nothing is asked in the clear");
}

/// A proxy for HTTPS that leads everything to one place; what it was asked for.
fn proxy(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let log = Arc::clone(&log);
            std::thread::spawn(move || tunnel(stream, to, &log));
        }
    });
    (address, asked)
}

fn tunnel(mut stream: TcpStream, to: SocketAddr, log: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    log.lock().unwrap().push(line.trim_end().to_owned());
    while line.len() > 2 {
        line.clear();
        reader.read_line(&mut line).ok()?;
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let mut there = TcpStream::connect(to).ok()?;
    let mut back = there.try_clone().ok()?;
    let mut home = stream.try_clone().ok()?;
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut back, &mut home);
        let _ = home.shutdown(std::net::Shutdown::Write);
    });
    std::io::copy(&mut reader, &mut there).ok()?;
    there.shutdown(std::net::Shutdown::Write).ok()
}

#[tokio::test]
async fn a_proxy_carries_tls_to_the_registry() {
    let (made, _) = large();
    let behind = Script::of(made);
    let front = Front::of(behind.address);
    let (address, asked) = proxy(front.address);
    let https = Some(format!("http://{address}"));
    let settings = registries([("lab.invalid".to_owned(), front.trusted())]);
    let here = Here::new(Settings { proxy: Proxy { https, ..Proxy::default() }, ..settings });
    here.pull("lab.invalid/test/it:t").await.unwrap();
    let asked = asked.lock().unwrap();
    assert!(!asked.is_empty() && asked.iter().all(|line| line == "CONNECT lab.invalid:443 HTTP/1.1"), "{asked:?}");
    assert!(!behind.lines("/blobs/").is_empty());
}

/// Set in the process that has no certificates of the machine.
const BARE: &str = "LONGSHORE_TEST_BARE";

#[tokio::test]
async fn a_machine_without_certificates_speaks_to_whom_it_is_told_to_trust() {
    if std::env::var_os(BARE).is_none() {
        // What the machine trusts is read once for a process.
        let empty = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "a_machine_without_certificates_speaks_to_whom_it_is_told_to_trust"]).env(BARE, "1");
        child.env("SSL_CERT_FILE", empty.path().join("none")).env("SSL_CERT_DIR", empty.path());
        let done = child.output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let (made, _) = large();
    let plain = Script::of(made);
    let front = Front::of(plain.address);
    let name = format!("{}/test/it:t", front.address);
    let secure = RegistrySettings { plain_http: Some(false), ..RegistrySettings::default() };
    let untold = Here::new(registries([(front.address.to_string(), secure)]));
    let error = untold.pull(&name).await.unwrap_err();
    assert!(error.contains("is the package ca-certificates installed?"), "{error}");
    untold.pull(&plain.name()).await.unwrap();
    Here::new(registries([(front.address.to_string(), front.trusted())])).pull(&name).await.unwrap();
}
