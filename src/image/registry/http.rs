//! The small rules of talking to registries. Pure but for the clock.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_RANGE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};

use crate::image::settings::Settings;

/// A registry's host without its port.
fn bare(registry: &str) -> &str {
    match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    }
}

/// Whether a registry is spoken to without TLS.
pub(super) fn speaks_plain(settings: &Settings, registry: &str) -> bool {
    let host = bare(registry);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let set = |name: &str| settings.registries.get(name).and_then(|r| r.plain_http);
    set(registry).or_else(|| set(host)).unwrap_or(loopback)
}

/// Docker Hub answers under another name than the one people write.
pub(super) fn address(registry: &str) -> &str {
    if registry == "docker.io" { "registry-1.docker.io" } else { registry }
}

/// How long to stay away: seconds, or a date, which is compared with the registry's own clock where it tells it.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let day = Duration::from_secs(24 * 3600);
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(day));
    }
    let date = |text: &str| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok().map(|t| t.as_second());
    let told = headers.get(DATE).and_then(|v| v.to_str().ok()).and_then(date);
    let ours = || SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|d| i64::try_from(d.as_secs()).ok());
    let wait = date(text)?.saturating_sub(told.or_else(ours)?);
    Some(Duration::from_secs(u64::try_from(wait).unwrap_or_default()).min(day))
}

/// The first byte, the last and, where it is told, the number of all, out of `Content-Range`.
pub(super) fn content_range(headers: &HeaderMap) -> Option<(u64, u64, Option<u64>)> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?.trim().strip_prefix("bytes ")?;
    let (range, all) = text.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let all = if all == "*" { None } else { Some(all.parse().ok()?) };
    Some((first.parse().ok()?, last.parse().ok()?, all))
}

pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// A header value that no `Debug` shows.
pub(super) fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
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

/// What TLS says, where TLS failed and not the way to the registry.
pub(super) fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        let inside = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = inside.and_then(|inner| tls_error(inner)) {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

/// Whether the other side does not accept what we showed of ourselves.
pub(super) fn wants_certificate(error: &rustls::Error) -> bool {
    use rustls::AlertDescription as Alert;
    let rustls::Error::AlertReceived(alert) = error else { return false };
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRequired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::NoCertificate
            | Alert::UnknownCA
            | Alert::UnsupportedCertificate
            | Alert::AccessDenied
    )
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
        assert!(!format!("{:?}", secret("Basic YTpi")).contains("YTpi"));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let wait = |after: &'static str, date: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(after));
            if let Some(date) = date {
                headers.insert(DATE, HeaderValue::from_static(date));
            }
            retry_after(&headers).map(|d| d.as_secs())
        };
        assert_eq!(wait("7", None), Some(7));
        assert_eq!(wait("99999999", None), Some(86_400));
        assert_eq!(wait("Wed, 21 Oct 2015 07:28:00 GMT", Some("Wed, 21 Oct 2015 07:27:20 GMT")), Some(40));
        assert_eq!(wait("Wed, 21 Oct 2015 07:28:00 GMT", None), Some(0));
        assert_eq!(wait("soon", None), None);
        assert_eq!(wait("-3", None), None);
    }

    #[test]
    fn content_ranges_are_read() {
        let range = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, HeaderValue::from_static(text));
            content_range(&headers)
        };
        assert_eq!(range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(range("bytes 5-9/*"), Some((5, 9, None)));
        for bad in ["bytes */10", "5-9/10", "bytes 5-9", "bytes a-9/10", "bytes 5-9/x", ""] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }
}
