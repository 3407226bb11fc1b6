//! The HTTP clients and the small rules of talking to registries.

use std::net::IpAddr;
use std::time::Duration;

use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::settings::Settings;
use crate::model::ImageReference;

/// Redirects from one request.
pub(super) const REDIRECTS: usize = 10;

pub(super) fn client_config(settings: &Settings, protocol: ClientProtocol) -> ClientConfig {
    let pem = |data: &Vec<u8>| Certificate { encoding: CertificateEncoding::Pem, data: data.clone() };
    ClientConfig {
        protocol,
        extra_root_certificates: settings.extra_roots_pem.iter().map(pem).collect(),
        read_timeout: Some(settings.timeouts.progress),
        connect_timeout: Some(settings.timeouts.connect),
        user_agent: AGENT,
        ..ClientConfig::default()
    }
}

const AGENT: &str = concat!("longshore/", env!("CARGO_PKG_VERSION"));

pub(super) fn http_client(settings: &Settings) -> Result<reqwest::Client, reqwest::Error> {
    let roots = settings.extra_roots_pem.iter().map(|pem| reqwest::Certificate::from_pem(pem));
    let roots = roots.collect::<Result<Vec<_>, _>>()?;
    let mut builder = reqwest::Client::builder()
        .user_agent(AGENT)
        .connect_timeout(settings.timeouts.connect)
        .read_timeout(settings.timeouts.progress)
        .redirect(reqwest::redirect::Policy::custom(follow));
    if !roots.is_empty() {
        builder = builder.tls_certs_merge(roots);
    }
    builder.build()
}

fn follow(attempt: reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    let downgraded = attempt.url().scheme() == "http" && attempt.previous().iter().any(|u| u.scheme() == "https");
    if attempt.previous().len() > REDIRECTS || downgraded {
        attempt.error("too many redirects, or one away from HTTPS")
    } else {
        attempt.follow()
    }
}

/// Whether a registry is spoken to without TLS.
pub(super) fn speaks_plain(settings: &Settings, registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    };
    let named = |list: &[String]| list.iter().any(|h| h == registry || h == host);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    named(&settings.insecure_hosts) || loopback && !named(&settings.secure_hosts)
}

/// Docker Hub answers under another name than the one people write.
pub(super) fn endpoint(image: &ImageReference) -> &str {
    if image.registry() == "docker.io" { "registry-1.docker.io" } else { image.registry() }
}

/// Seconds only: the form with a date needs a clock that agrees with the registry's.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(24 * 3600)))
}

pub(super) fn basic(user: &str, password: &str) -> String {
    const TABLE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::from("Basic ");
    for group in format!("{user}:{password}").as_bytes().chunks(3) {
        let word = (0..3).fold(0u32, |w, at| (w << 8) | u32::from(group.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let symbol = char::from(TABLE[(word >> (18 - 6 * at)) as usize & 63]);
            out.push(if at <= group.len() { symbol } else { '=' });
        }
    }
    out
}

/// An error and all below it, where the one above hides what matters.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_plain_unless_it_is_said_to_be_secure() {
        let settings = Settings {
            insecure_hosts: vec!["lab.example".into(), "10.0.0.1:5000".into()],
            secure_hosts: vec!["127.0.0.1:5443".into()],
            ..Settings::default()
        };
        let table = [
            ("localhost:5000", true),
            ("127.0.0.2:5000", true),
            ("[::1]:5000", true),
            ("127.0.0.1:5443", false),
            ("lab.example:8080", true),
            ("10.0.0.1:5000", true),
            ("10.0.0.1", false),
            ("docker.io", false),
            ("localhost.example", false),
        ];
        for (registry, plain) in table {
            assert_eq!(speaks_plain(&settings, registry), plain, "{registry}");
        }
    }

    #[test]
    fn basic_credentials_are_encoded() {
        assert_eq!(basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(basic("a", "b"), "Basic YTpi");
    }
}
