//! HTTP clients, one for each registry: its certificates, its proxy, its timeouts.
//!
//! Certificates lie in Docker's layout, `<folder>/<host[:port]>/`: `*.crt` are trusted in addition, `*.cert` with the
//! `*.key` of the same name show who we are. They are read anew for each pull; a client is kept while they are the same.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Certificate, Client, ClientBuilder, Identity, NoProxy};

use super::http::chain;
use crate::image::settings::{Proxy, Settings};

/// Redirects from one request.
pub(super) const REDIRECTS: usize = 10;
/// A file with certificates is never larger.
const PEM_BYTES: u64 = 1 << 20;
/// Files of one registry's folder that are looked at.
const FILES: usize = 64;
const AGENT: &str = concat!("longshore/", env!("CARGO_PKG_VERSION"));

/// What a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::image) enum Use {
    /// Asking and reading.
    Read,
    /// Sending much: the answer comes long after the request began.
    Upload,
    /// Tokens: a login follows no redirect to another host.
    Token,
}

/// What is trusted and shown, as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Papers {
    roots: Vec<Vec<u8>>,
    identity: Option<Vec<u8>>,
}

/// The clients that were made, by registry.
#[derive(Default)]
pub(super) struct Clients(Mutex<BTreeMap<String, (Papers, HostClients)>>);

/// One registry's clients.
#[derive(Debug, Clone)]
pub(super) struct HostClients {
    read: Client,
    upload: Client,
    token: Client,
}

impl HostClients {
    pub(super) fn of(&self, wanted: Use) -> &Client {
        match wanted {
            Use::Read => &self.read,
            Use::Upload => &self.upload,
            Use::Token => &self.token,
        }
    }
}

impl Clients {
    /// The clients for `host`; why there are none, in words. Reads files.
    pub(super) fn of(&self, settings: &Settings, host: &str, plain: bool) -> Result<HostClients, String> {
        let papers = papers(settings, host)?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, clients)) = all.get(host)
            && *known == papers
        {
            return Ok(clients.clone());
        }
        let client = |wanted| build(settings, &papers, plain, wanted);
        let clients =
            HostClients { read: client(Use::Read)?, upload: client(Use::Upload)?, token: client(Use::Token)? };
        all.insert(host.to_owned(), (papers, clients.clone()));
        Ok(clients)
    }
}

/// Certificates in PEM, checked.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<Certificate>, String> {
    let found = Certificate::from_pem_bundle(pem).map_err(|e| chain(&e))?;
    if found.is_empty() { Err("there is no certificate in it".into()) } else { Ok(found) }
}

fn papers(settings: &Settings, host: &str) -> Result<Papers, String> {
    let own = settings.registries.get(host);
    let mut papers = Papers { roots: settings.extra_roots_pem.clone(), identity: None };
    papers.roots.extend(own.and_then(|r| r.ca_pem.clone()));
    papers.identity = own.and_then(|r| r.client_pem.clone());
    for dir in &settings.certs_dirs {
        let dir = dir.join(host);
        read_folder(&dir, &mut papers).map_err(|(path, e)| format!("cannot read {path}: {e}"))?;
    }
    Ok(papers)
}

fn read_folder(dir: &Path, papers: &mut Papers) -> Result<(), (String, io::Error)> {
    let at = |path: &Path| path.display().to_string();
    let entries = match std::fs::read_dir(dir) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        other => other.map_err(|e| (at(dir), e))?,
    };
    let mut files: Vec<_> = entries.take(FILES).filter_map(Result::ok).map(|e| e.path()).collect();
    files.sort();
    for path in files {
        let read = |path: &Path| read_pem(path).map_err(|e| (at(path), e));
        match path.extension().and_then(|e| e.to_str()) {
            Some("crt") => papers.roots.push(read(&path)?),
            Some("cert") if papers.identity.is_none() => {
                papers.identity = Some([read(&path)?, b"\n".to_vec(), read(&path.with_extension("key"))?].concat());
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_pem(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(PEM_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > PEM_BYTES {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(bytes)
}

fn build(settings: &Settings, papers: &Papers, plain: bool, wanted: Use) -> Result<Client, String> {
    // The provider is one for the whole process; another room may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = Vec::new();
    for pem in &papers.roots {
        roots.extend(certificates(pem).map_err(|e| format!("a certificate to trust cannot be used: {e}"))?);
    }
    let start = || -> Result<ClientBuilder, String> {
        let mut builder = Client::builder().user_agent(AGENT).connect_timeout(settings.timeouts.connect);
        if wanted != Use::Upload {
            builder = builder.read_timeout(settings.timeouts.progress);
        }
        builder = builder.redirect(Policy::custom(if wanted == Use::Token { stay } else { follow }));
        if let Some(pem) = &papers.identity {
            let identity =
                Identity::from_pem(pem).map_err(|e| format!("the client certificate cannot be used: {}", chain(&e)))?;
            builder = builder.identity(identity);
        }
        proxied(builder, settings)
    };
    match start()?.tls_certs_merge(roots.clone()).build() {
        Ok(client) => Ok(client),
        // A machine without certificates of its own: what is set is enough, and plain HTTP needs none.
        Err(_) if plain || !roots.is_empty() => start()?.tls_certs_only(roots).build().map_err(|e| chain(&e)),
        Err(e) => Err(format!("TLS is not possible; is the package ca-certificates installed? {}", chain(&e))),
    }
}

fn follow(attempt: Attempt<'_>) -> Action {
    let downgraded = attempt.url().scheme() == "http" && attempt.previous().iter().any(|u| u.scheme() == "https");
    if attempt.previous().len() > REDIRECTS || downgraded {
        attempt.error("too many redirects, or one away from HTTPS")
    } else {
        attempt.follow()
    }
}

fn stay(attempt: Attempt<'_>) -> Action {
    let same = attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
    if same { follow(attempt) } else { attempt.error("a token server that sends elsewhere") }
}

/// Loopback addresses are never asked through a proxy.
fn proxied(mut builder: ClientBuilder, settings: &Settings) -> Result<ClientBuilder, String> {
    let set = settings.proxy.clone();
    let proxy = if set == Proxy::default() { environment() } else { set };
    let direct = format!("localhost,127.0.0.0/8,::1,{}", proxy.no_proxy.as_deref().unwrap_or_default());
    builder = builder.no_proxy();
    let made = [proxy.http.map(reqwest::Proxy::http), proxy.https.map(reqwest::Proxy::https)];
    for made in made.into_iter().flatten() {
        // The address may hold a password; it has no place in a message.
        let made = made.map_err(|_| "the address of the proxy is none; write http://host:port".to_owned())?;
        builder = builder.proxy(made.no_proxy(NoProxy::from_string(&direct)));
    }
    Ok(builder)
}

fn environment() -> Proxy {
    let var = |names: [&str; 2]| names.iter().find_map(|name| std::env::var(name).ok()).filter(|v| !v.is_empty());
    Proxy {
        http: var(["http_proxy", "HTTP_PROXY"]),
        https: var(["https_proxy", "HTTPS_PROXY"]),
        no_proxy: var(["no_proxy", "NO_PROXY"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_as_docker_reads_it() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("lab.example:5000");
        std::fs::create_dir(&dir).unwrap();
        for (name, text) in [("ca.crt", "CA"), ("me.cert", "CERT"), ("me.key", "KEY"), ("notes.txt", "x")] {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let settings = Settings { certs_dirs: vec![temp.path().to_owned()], ..Settings::default() };
        let found = papers(&settings, "lab.example:5000").unwrap();
        assert_eq!(found, Papers { roots: vec![b"CA".to_vec()], identity: Some(b"CERT\nKEY".to_vec()) });
        assert_eq!(papers(&settings, "lab.example").unwrap(), Papers::default());
        std::fs::remove_file(dir.join("me.key")).unwrap();
        assert!(papers(&settings, "lab.example:5000").unwrap_err().contains("me.key"));
        let clients = Clients::default();
        std::fs::remove_file(dir.join("me.cert")).unwrap();
        assert!(clients.of(&settings, "lab.example:5000", true).unwrap_err().contains("certificate to trust"));
    }

    #[test]
    fn a_bad_proxy_is_named_without_its_password() {
        let proxy = Proxy { https: Some("http://me:hidden@[".into()), ..Proxy::default() };
        let settings = Settings { proxy, ..Settings::default() };
        let error = Clients::default().of(&settings, "a.example", false).unwrap_err();
        assert!(error.contains("proxy") && !error.contains("hidden"), "{error}");
    }
}
