//! The HTTP clients and the small rules of talking to registries.

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::image::settings::Settings;
use crate::model::ImageReference;

/// Redirects from one request.
pub(in crate::image) const REDIRECTS: usize = 10;

pub(in crate::image) fn client_config(settings: &Settings, protocol: ClientProtocol) -> ClientConfig {
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

pub(in crate::image) fn http_client(settings: &Settings) -> Result<reqwest::Client, reqwest::Error> {
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
pub(in crate::image) fn speaks_plain(settings: &Settings, registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    };
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let set = |name: &str| settings.registries.get(name).and_then(|r| r.plain_http);
    set(registry).or_else(|| set(host)).unwrap_or(loopback)
}

/// Docker Hub answers under another name than the one people write.
pub(in crate::image) fn endpoint(image: &ImageReference) -> &str {
    if image.registry() == "docker.io" { "registry-1.docker.io" } else { image.registry() }
}

/// Seconds only: the form with a date needs a clock that agrees with the registry's.
pub(in crate::image) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(24 * 3600)))
}

pub(in crate::image) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// An error and all below it, where the one above hides what matters.
pub(in crate::image) fn chain(error: &dyn std::error::Error) -> String {
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
    use crate::image::settings::RegistrySettings;

    #[test]
    fn loopback_is_plain_unless_it_is_said_to_be_secure() {
        let set = |plain| RegistrySettings { plain_http: Some(plain), ..RegistrySettings::default() };
        let registries = [("lab.example", true), ("10.0.0.1:5000", true), ("127.0.0.1:5443", false)];
        let registries = registries.map(|(host, plain)| (host.to_owned(), set(plain)));
        let settings = Settings { registries: registries.into(), ..Settings::default() };
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
