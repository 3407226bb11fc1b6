//! Tokens, as registries want them (distribution, "Token Authentication" and "OAuth2"): a challenge names a server, a
//! service and a scope; the server gives a token for who we are, or for nobody in particular.

use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Url};

use super::error::RegistryError;
use super::http::{basic, secret};
use super::place::Place;
use crate::image::progress::Progress;
use crate::image::settings::{Credential, Timeouts};

/// Bytes of a token server's answer.
const TOKEN_BYTES: u64 = 64 << 10;
/// Bytes of a challenge that are looked at.
const CHALLENGE_BYTES: usize = 8 << 10;
/// What we are called at token servers.
const CLIENT: &str = "longshore";

/// A way in that a registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer(Bearer),
}

/// Where a token is to be had.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Bearer {
    pub(super) realm: String,
    pub(super) service: Option<String>,
    pub(super) scope: Option<String>,
}

/// What goes into `Authorization`, and until when it is good.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) header: HeaderValue,
    pub(super) until: Option<Instant>,
}

/// The best of the challenges in an answer: a token before a password with each request.
pub(super) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let all: Vec<_> =
        headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok()).flat_map(challenges).collect();
    let bearer = all.iter().find(|c| matches!(c, Challenge::Bearer(_)));
    bearer.or_else(|| all.first()).cloned()
}

/// All challenges of one header (RFC 9110, 11.6.1); schemes nobody knows are left out.
fn challenges(text: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, Bearer)> = Vec::new();
    let mut rest = text.get(..CHALLENGE_BYTES).unwrap_or(text).trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let end = rest.find([' ', ',', '=', '\t']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = match after.trim_start().strip_prefix('=') {
            Some(value) => {
                let (value, after) = quoted(value.trim_start());
                if let Some((_, bearer)) = found.last_mut() {
                    match word.to_ascii_lowercase().as_str() {
                        "realm" => bearer.realm = value,
                        "service" => bearer.service = Some(value),
                        "scope" => bearer.scope = Some(value).filter(|s| !s.is_empty()),
                        _ => {}
                    }
                }
                after
            }
            None => {
                found.push((word.to_ascii_lowercase(), Bearer::default()));
                after
            }
        }
        .trim_start_matches([' ', ',', '\t']);
    }
    let known = found.into_iter().filter_map(|(scheme, bearer)| match scheme.as_str() {
        "basic" => Some(Challenge::Basic),
        "bearer" if !bearer.realm.is_empty() => Some(Challenge::Bearer(bearer)),
        _ => None,
    });
    known.collect()
}

/// A value in quotes or without, and what follows.
fn quoted(text: &str) -> (String, &str) {
    let Some(inner) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &inner[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// Asks the server of a challenge, as `credential` or as nobody.
pub(super) async fn ask(
    place: &Place,
    bearer: &Bearer,
    credential: Option<&Credential>,
    timeouts: &Timeouts,
    progress: &Progress,
) -> Result<Token, RegistryError> {
    let setup = |reason: &str| RegistryError::Setup { registry: place.host.clone(), reason: reason.to_owned() };
    let mut url = Url::parse(&bearer.realm).map_err(|_| setup("the address of its token server is none"))?;
    if url.scheme() != "https" && !(url.scheme() == "http" && place.plain) {
        return Err(setup("its token server is not spoken to by HTTPS"));
    }
    let scopes = place.scopes(bearer.scope.as_deref());
    let client = place.client(super::clients::Use::Token)?;
    let request = match credential {
        Some(Credential::IdentityToken(refresh)) => {
            let mut form = Url::parse("form:").map_err(|_| setup("no form can be made"))?;
            form.query_pairs_mut()
                .append_pair("grant_type", "refresh_token")
                .append_pair("refresh_token", refresh)
                .append_pair("client_id", CLIENT)
                .append_pair("service", bearer.service.as_deref().unwrap_or_default())
                .append_pair("scope", &scopes.join(" "));
            let body = form.query().unwrap_or_default().to_owned();
            client.request(Method::POST, url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
        }
        other => {
            if let Some(service) = &bearer.service {
                url.query_pairs_mut().append_pair("service", service);
            }
            for scope in &scopes {
                url.query_pairs_mut().append_pair("scope", scope);
            }
            url.query_pairs_mut().append_pair("client_id", CLIENT);
            match other {
                Some(Credential::Password { user, password }) => {
                    url.query_pairs_mut().append_pair("account", user);
                    let login = secret(&basic(user, password)).ok_or_else(|| setup("the login cannot be sent"))?;
                    client.get(url).header(AUTHORIZATION, login)
                }
                _ => client.get(url),
            }
        }
    };
    let asked = async {
        progress.request();
        let response = request.header(ACCEPT, "application/json").send().await;
        let response = response.map_err(|e| place.broken(e, timeouts))?;
        let response = place.good(response, &[], timeouts).await?;
        place.bounded(response, "a token", TOKEN_BYTES, timeouts).await
    };
    let bytes = match tokio::time::timeout(timeouts.exchange, asked).await {
        Ok(answer) => answer?,
        Err(_) => {
            return Err(RegistryError::Timeout { registry: place.host.clone(), waited: timeouts.exchange });
        }
    };
    read(&bytes).ok_or_else(|| setup("its token server sends no token"))
}

fn read(bytes: &[u8]) -> Option<Token> {
    let answer: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let text = |key: &str| answer.get(key).and_then(serde_json::Value::as_str).filter(|t| !t.is_empty());
    let header = secret(&format!("Bearer {}", text("token").or_else(|| text("access_token"))?))?;
    // A little early, so that it does not run out on the way.
    let lasts = answer.get("expires_in").and_then(serde_json::Value::as_u64).filter(|s| *s > 10);
    let until = lasts.and_then(|s| Instant::now().checked_add(Duration::from_secs(s.min(86_400) - 5)));
    Some(Token { header, until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let own = |t: Option<&str>| t.map(str::to_owned);
            Challenge::Bearer(Bearer { realm: realm.into(), service: own(service), scope: own(scope) })
        };
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/a:pull,push""#;
        let table = [
            (
                hub,
                vec![bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:library/a:pull,push"),
                )],
            ),
            (r#"Basic realm="a, b""#, vec![Challenge::Basic]),
            ("Basic", vec![Challenge::Basic]),
            (
                r#"basic realm="x", BEARER realm=https://t , service="s""#,
                vec![Challenge::Basic, bearer("https://t", Some("s"), None)],
            ),
            (r#"Negotiate abc==, Bearer realm="https://t/\"q",scope="""#, vec![bearer("https://t/\"q", None, None)]),
            (r#"Bearer service="no realm""#, vec![]),
            (r#"Bearer realm="open"#, vec![bearer("open", None, None)]),
            ("", vec![]),
            (",,, =\"", vec![]),
        ];
        for (text, expected) in table {
            assert_eq!(challenges(text), expected, "{text}");
        }
        let mut headers = HeaderMap::new();
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=x"));
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"https://t\""));
        assert_eq!(challenge(&headers), Some(bearer("https://t", None, None)));
    }

    #[test]
    fn tokens_are_read_in_both_forms() {
        let header = |text: &str| read(text.as_bytes()).map(|t| t.header.to_str().unwrap().to_owned());
        assert_eq!(header(r#"{"token":"a","access_token":"b"}"#).as_deref(), Some("Bearer a"));
        assert_eq!(header(r#"{"token":"","access_token":"b","expires_in":300}"#).as_deref(), Some("Bearer b"));
        assert_eq!(header(r#"{"token":"a\nX: y"}"#), None);
        assert_eq!(header(r#"{"token":7}"#), None);
        assert_eq!(header("<html>"), None);
        assert!(read(br#"{"token":"a","expires_in":300}"#).unwrap().until.is_some());
        assert!(!format!("{:?}", read(br#"{"token":"hidden"}"#).unwrap()).contains("hidden"));
    }
}
