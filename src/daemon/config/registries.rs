//! The keys about registries.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is set for one registry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RegistryFile {
    /// Asked before the registry itself, in this order: https://host/prefix. Logins and certificates of a mirror are set under its own name
    pub mirrors: Vec<String>,
    /// Speak plain HTTP to it: anyone on the way can read and change what passes. Default: only loopback addresses
    pub plain_http: Option<bool>,
    /// Certificate authorities that are trusted for this registry in addition, PEM
    pub ca_file: Option<PathBuf>,
    /// The certificate that the daemon shows to this registry, PEM
    pub client_cert_file: Option<PathBuf>,
    /// Its key, PEM; readable by its owner only
    pub client_key_file: Option<PathBuf>,
    /// The user of a login; it counts before the login files
    pub username: Option<String>,
    /// A file that holds the password or access token and nothing else; readable by its owner only
    pub password_file: Option<PathBuf>,
}

/// Proxies on the way to registries.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ProxyFile {
    /// The proxy for http:// addresses: http://host:port
    pub http_proxy: Option<String>,
    /// The proxy for https:// addresses: http://host:port
    pub https_proxy: Option<String>,
    /// Hosts, domains and networks that are asked directly, with commas between
    pub no_proxy: Option<String>,
}

/// A mirror's address in parts: whether it is plain HTTP, the host with its port, and the prefix of repositories.
pub(in crate::daemon) fn host_and_prefix(url: &str) -> Result<(bool, String, String), String> {
    let (plain, rest) = match url.split_once("://") {
        Some(("https", rest)) => (false, rest),
        Some(("http", rest)) => (true, rest),
        Some((other, _)) => return Err(format!("{other}:// is not spoken by registries")),
        None => return Err("it does not begin with https:// or http://".to_owned()),
    };
    let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if host.contains('@') {
        return Err("it holds a login".to_owned());
    }
    if !is_host(host) {
        return Err(format!("{host:?} is not host or host:port"));
    }
    let prefix = prefix.trim_matches('/');
    let prefix = prefix.strip_prefix("v2/").unwrap_or(prefix);
    let prefix = if prefix == "v2" { "" } else { prefix };
    let plain_text = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/".contains(&b);
    if !prefix.bytes().all(plain_text) || prefix.contains("//") || prefix.split('/').any(|part| part == "..") {
        return Err(format!("{prefix:?} cannot come before a repository"));
    }
    Ok((plain, host.to_owned(), prefix.to_owned()))
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
pub(super) fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let name = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
            !host.is_empty() && host.len() <= 253 && host.bytes().all(plain) && !host.starts_with(['-', '.'])
        }
    };
    name && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|p| p > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_read_in_parts() {
        let good = [
            ("https://mirror.example", (false, "mirror.example", "")),
            ("https://mirror.example/", (false, "mirror.example", "")),
            ("http://10.0.0.1:5000/dockerhub", (true, "10.0.0.1:5000", "dockerhub")),
            ("https://m:443/v2/a/b/", (false, "m:443", "a/b")),
            ("https://[::1]:5000/v2", (false, "[::1]:5000", "")),
        ];
        for (url, (plain, host, prefix)) in good {
            assert_eq!(host_and_prefix(url), Ok((plain, host.into(), prefix.into())), "{url}");
        }
        for bad in [
            "mirror.example",
            "ftp://x",
            "https://",
            "https://a:b",
            "https://u:p@h",
            "https://h/A b",
            "https://h/../x",
            "https://h:0",
        ] {
            assert!(host_and_prefix(bad).is_err(), "{bad}");
        }
    }
}
