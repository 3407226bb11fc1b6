//! The format of Docker's `config.json` and podman's `auth.json`: what it says about a registry. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde_json::{Map, Value};

use crate::image::settings::Credential;

/// Docker Hub's key in `auths`, and the name that its helpers are asked for.
pub(in crate::image) const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// What a login file says about a registry.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::image) enum Entry {
    /// The login itself.
    Credential(Credential),
    /// A helper knows it.
    Helper { name: String, server: String },
    /// Nothing.
    None,
}

/// What `file` says about a repository; a helper set for this registry counts before the logins in the file, and these
/// before the helper for all. `Err` says what is wrong, without any secret.
pub(in crate::image) fn entry(file: &Map<String, Value>, registry: &str, repository: &str) -> Result<Entry, String> {
    if let Some(name) = helper_for(file, registry) {
        return Ok(Entry::Helper { name: name?.to_owned(), server: server(registry) });
    }
    let Some(auths) = file.get("auths").filter(|v| !v.is_null()) else { return Ok(Entry::None) };
    let auths = auths.as_object().ok_or("\"auths\" is not an object")?;
    let mut matches: Vec<(usize, &String, &Value)> =
        auths.iter().filter_map(|(key, value)| Some((matching(key, registry, repository)?, key, value))).collect();
    matches.sort_by_key(|(length, ..)| std::cmp::Reverse(*length));
    for (_, key, value) in matches {
        // An empty entry is what Docker writes where a helper holds the secret.
        if let Some(credential) = credential(value).map_err(|why| format!("the login for {}: {why}", shown(key)))? {
            return Ok(Entry::Credential(credential));
        }
    }
    Ok(Entry::None)
}

/// The helper that holds this registry's logins: its own, or the one for all.
pub(in crate::image) fn helper_for<'f>(
    file: &'f Map<String, Value>,
    registry: &str,
) -> Option<Result<&'f str, String>> {
    let own = file.get("credHelpers").and_then(Value::as_object).and_then(|helpers| {
        helpers.iter().find(|(key, _)| host(key).is_some_and(|key| same(key, registry))).map(|(_, name)| name)
    });
    let name = own.or_else(|| file.get("credsStore")).filter(|name| !name.is_null() && name.as_str() != Some(""))?;
    let good = |name: &&str| {
        name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) && *name != ".."
    };
    Some(
        name.as_str()
            .filter(good)
            .ok_or_else(|| "the name of a credential helper is not letters, digits, '.', '_' and '-'".to_owned()),
    )
}

/// What helpers are asked for, and the key of a new login.
pub(in crate::image) fn server(registry: &str) -> String {
    if is_hub(registry) { DOCKER_HUB.to_owned() } else { registry.to_owned() }
}

/// The length of the path that a key names, if it means this repository; none otherwise.
pub(in crate::image) fn matching(key: &str, registry: &str, repository: &str) -> Option<usize> {
    if !same(host(key)?, registry) {
        return None;
    }
    let path = path(key);
    let below = repository.strip_prefix(path)?;
    // `host/a` means `host/a/b` and `host/a`, and not `host/ab`.
    (path.is_empty() || below.is_empty() || below.starts_with('/')).then_some(path.len())
}

fn bare(key: &str) -> &str {
    key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key)
}

fn host(key: &str) -> Option<&str> {
    bare(key).split('/').next().filter(|host| !host.is_empty())
}

/// The repositories' prefix; the paths of old registries' APIs are none.
fn path(key: &str) -> &str {
    let path = bare(key).split_once('/').map_or("", |(_, path)| path).trim_end_matches('/');
    if ["v1", "v2"].contains(&path) { "" } else { path }
}

fn same(key: &str, registry: &str) -> bool {
    key.eq_ignore_ascii_case(registry) || (is_hub(key) && is_hub(registry))
}

fn is_hub(host: &str) -> bool {
    ["docker.io", "index.docker.io", "registry-1.docker.io"].iter().any(|hub| host.eq_ignore_ascii_case(hub))
}

fn credential(value: &Value) -> Result<Option<Credential>, String> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credential::IdentityToken(token.to_owned())));
    }
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Credential::RegistryToken(token.to_owned())));
    }
    if let Some(auth) = text("auth") {
        return decode(auth).map(Some);
    }
    match (text("username"), text("password")) {
        (Some(user), Some(password)) => Ok(Some(of_pair(user, password))),
        (Some(_), None) => Err("it has a username and no password".to_owned()),
        (None, _) => Ok(None),
    }
}

/// `auth`: base64 of `user:password`; the password may hold colons.
fn decode(auth: &str) -> Result<Credential, String> {
    // The words of the decoder would quote a part of the secret.
    let bytes = STANDARD.decode(auth.trim()).or_else(|_| STANDARD_NO_PAD.decode(auth.trim()));
    let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.ok_or("\"auth\" is not base64 of text")?;
    let (user, password) = text.split_once(':').ok_or("\"auth\" is not base64 of user:password")?;
    // Docker's client ignores zero bytes at the end of what it wrote itself long ago.
    Ok(of_pair(user, password.trim_end_matches('\0')))
}

/// `auth` of a login.
pub(in crate::image) fn encode(user: &str, password: &str) -> String {
    STANDARD.encode(format!("{user}:{password}"))
}

/// A user called `<token>` says that the secret is an identity token.
pub(in crate::image) fn of_pair(user: &str, secret: &str) -> Credential {
    if user == "<token>" {
        Credential::IdentityToken(secret.to_owned())
    } else {
        Credential::Password { user: user.to_owned(), password: secret.to_owned() }
    }
}

fn shown(key: &str) -> String {
    // A key may hold a login (`https://user:password@host`).
    crate::image::error::line(key.rsplit('@').next().unwrap_or_default(), 100)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pair(user: &str, password: &str) -> Entry {
        Entry::Credential(Credential::Password { user: user.into(), password: password.into() })
    }
    fn auth(text: &str) -> Value {
        json!({ "auth": STANDARD.encode(text) })
    }
    fn asked(file: &Value, image: &str) -> Result<Entry, String> {
        let (registry, repository) = image.split_once('/').unwrap();
        entry(file.as_object().unwrap(), registry, repository)
    }

    #[test]
    fn logins_are_found_by_all_forms_of_their_key() {
        for (key, image) in [
            ("r.example", "r.example/a"),
            ("R.Example", "r.example/a"),
            ("r.example:5000", "r.example:5000/a"),
            ("https://r.example", "r.example/a"),
            ("https://r.example/", "r.example/a"),
            ("http://r.example/v1/", "r.example/a"),
            ("https://r.example/v2/", "r.example/a"),
            ("r.example/a", "r.example/a"),
            ("r.example/a", "r.example/a/b"),
            ("https://index.docker.io/v1/", "docker.io/library/nginx"),
            ("index.docker.io", "docker.io/library/nginx"),
            ("docker.io", "docker.io/library/nginx"),
            ("docker.io/library", "docker.io/library/nginx"),
        ] {
            assert_eq!(asked(&json!({"auths": {key: auth("u:p")}}), image), Ok(pair("u", "p")), "{key}");
        }
        for (key, image) in [
            ("r.example", "r.example:5000/a"),
            ("r.example:5000", "r.example/a"),
            ("r.example/a", "r.example/ab"),
            ("r.example/a/b", "r.example/a"),
            ("example", "r.example/a"),
            ("", "r.example/a"),
            ("https://", "r.example/a"),
            ("https://index.docker.io/v1/", "r.example/a"),
        ] {
            assert_eq!(asked(&json!({"auths": {key: auth("u:p")}}), image), Ok(Entry::None), "{key}");
        }
    }

    #[test]
    fn the_longest_path_counts() {
        let file = json!({"auths": {"r": auth("r:1"), "r/a/b": auth("ab:1"), "r/a": auth("a:1"), "r/e": {}}});
        for (image, user) in [("r/a/b/c", "ab"), ("r/a/b", "ab"), ("r/a/c", "a"), ("r/x", "r"), ("r/e/f", "r")] {
            assert_eq!(asked(&file, image), Ok(pair(user, "1")), "{image}");
        }
    }

    #[test]
    fn all_forms_of_a_login_are_read() {
        let table = [
            (auth("u:p:with:colons"), Ok(pair("u", "p:with:colons"))),
            (json!({"auth": "dTpw\n"}), Ok(pair("u", "p"))),
            (json!({"username": "u", "password": "p"}), Ok(pair("u", "p"))),
            (json!({"identitytoken": "t", "auth": "x"}), Ok(Entry::Credential(Credential::IdentityToken("t".into())))),
            (json!({"registrytoken": "t"}), Ok(Entry::Credential(Credential::RegistryToken("t".into())))),
            (auth("<token>:t"), Ok(Entry::Credential(Credential::IdentityToken("t".into())))),
            (json!({}), Ok(Entry::None)),
            (json!({"auth": ""}), Ok(Entry::None)),
            (json!({"username": "u"}), Err("the login for r: it has a username and no password".to_owned())),
            (json!({"auth": "hunter2!"}), Err("the login for r: \"auth\" is not base64 of text".to_owned())),
            (auth("nocolon"), Err("the login for r: \"auth\" is not base64 of user:password".to_owned())),
        ];
        for (value, expected) in table {
            assert_eq!(asked(&json!({"auths": {"r": value}}), "r/a"), expected, "{value}");
        }
        assert_eq!(asked(&json!({"auths": null}), "r/a"), Ok(Entry::None));
        assert!(asked(&json!({"auths": []}), "r/a").is_err());
    }

    #[test]
    fn helpers_are_named_for_one_registry_or_for_all() {
        let file = json!({"credHelpers": {"r": "own", "https://index.docker.io/v1/": "hub", "off": ""}, "credsStore": "all",
            "auths": {"r": auth("u:p")}});
        for (image, helper, asks) in [("r/a", "own", "r"), ("docker.io/a", "hub", DOCKER_HUB), ("x:1/a", "all", "x:1")]
        {
            assert_eq!(asked(&file, image), Ok(Entry::Helper { name: helper.into(), server: asks.into() }), "{image}");
        }
        for bad in ["../evil", "a b", "a;b", "a/b", ".."] {
            assert!(asked(&json!({"credsStore": bad}), "r/a").is_err(), "{bad}");
        }
        assert_eq!(asked(&json!({"credsStore": "", "auths": {"r": auth("u:p")}}), "r/a"), Ok(pair("u", "p")));
    }

    #[test]
    fn no_secret_shows() {
        let said = asked(&json!({"auths": {"https://bob:hunter2@r": auth("u:p")}}), "bob:hunter2@r/a");
        assert!(!format!("{said:?}").contains("\"p\""));
        let file = json!({"auths": {"r": {"identitytoken": "hunter2"}}});
        assert!(!format!("{:?}", asked(&file, "r/a")).contains("hunter2"));
    }
}
