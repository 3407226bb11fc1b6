//! From the configuration to the image room's settings.

use std::path::PathBuf;

use super::config::{Config, ProxyFile, RegistryFile, host_and_prefix};
use crate::image::{self, Credential, Limits, Mirror, Proxy, RegistrySettings, Settings};
use crate::plan::CollectPolicy;

/// The settings, or the file that cannot be used (it changed after the configuration was checked).
pub(super) fn settings(config: &Config) -> Result<Settings, String> {
    let file = &config.file;
    let plain =
        |host: &String| (host.clone(), RegistrySettings { plain_http: Some(true), ..RegistrySettings::default() });
    let mut settings = Settings {
        registries: file.insecure_registries.iter().map(plain).collect(),
        certs_dirs: file.certs_dirs.clone().unwrap_or_else(|| CERTS.iter().map(PathBuf::from).collect()),
        login_files: file.login_files.clone().unwrap_or_else(|| default_login_file().into_iter().collect()),
        proxy: proxy(&file.proxies),
        default_registry: config.default_registry().to_owned(),
        limits: limits(config),
        ..Settings::default()
    };
    for (name, set) in &file.registries {
        let known = settings.registries.entry(name.clone()).or_default();
        let plain_http = set.plain_http.or(known.plain_http);
        *known = RegistrySettings { plain_http, ..registry(set)? };
    }
    Ok(settings)
}

const CERTS: [&str; 2] = ["/etc/longshore/certs.d", "/etc/docker/certs.d"];

/// Where Docker's own client of the daemon's user keeps its logins.
fn default_login_file() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("DOCKER_CONFIG").filter(|dir| !dir.is_empty()) {
        return Some(PathBuf::from(dir).join("config.json"));
    }
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten()?;
    Some(user.dir.join(".docker/config.json"))
}

fn registry(set: &RegistryFile) -> Result<RegistrySettings, String> {
    let read = |path: &PathBuf| std::fs::read(path).map_err(|e| format!("{} cannot be read: {e}", path.display()));
    let secret = |path: &PathBuf| match image::read_private(path) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(format!("{} is not there", path.display())),
        Err(error) => Err(crate::model::sentence(&error)),
    };
    let client_pem = match (&set.client_cert_file, &set.client_key_file) {
        (Some(cert), Some(key)) => Some([read(cert)?, b"\n".to_vec(), secret(key)?].concat()),
        _ => None,
    };
    let credential = match (&set.username, &set.password_file) {
        (Some(user), Some(path)) => {
            let password = String::from_utf8(secret(path)?).map_err(|_| format!("{} is not text", path.display()))?;
            // An editor ends a file with a line end; a password has none.
            Some(Credential::Password {
                user: user.clone(),
                password: password.trim_end_matches(['\r', '\n']).to_owned(),
            })
        }
        _ => None,
    };
    let mirror = |url: &String| {
        let (plain, host, prefix) = host_and_prefix(url)?;
        Ok::<_, String>(Mirror { host, prefix, plain_http: Some(plain) })
    };
    Ok(RegistrySettings {
        plain_http: set.plain_http,
        mirrors: set.mirrors.iter().map(mirror).collect::<Result<_, _>>()?,
        ca_pem: set.ca_file.as_ref().map(read).transpose()?,
        client_pem,
        credential,
    })
}

fn proxy(file: &ProxyFile) -> Proxy {
    let ProxyFile { http_proxy, https_proxy, no_proxy } = file.clone();
    Proxy { http: http_proxy, https: https_proxy, no_proxy }
}

fn limits(config: &Config) -> Limits {
    let (images, limits) = (&config.file.images, &config.file.images.limits);
    Limits {
        manifest_bytes: limits.manifest_bytes,
        config_bytes: limits.config_bytes,
        layers: limits.layers,
        entries: limits.entries,
        path_bytes: limits.path_bytes,
        layer_bytes: limits.layer_bytes,
        ratio: limits.ratio,
        ratio_free_bytes: limits.ratio_free_bytes,
        parallel_layers: images.layers_at_once,
        ..Limits::default()
    }
}

/// When unused images are removed.
pub(super) fn collect(config: &Config) -> CollectPolicy {
    let file = &config.file.images.collect;
    // What is not a duration was refused when the file was read.
    let min_age_ms = file.min_age_ms().unwrap_or(CollectPolicy::default().min_age_ms);
    CollectPolicy { enabled: file.enabled, start: file.start, stop: file.stop, min_age_ms }
}

/// What is less safe than it could be, for the status.
pub(super) fn loosenings(settings: &Settings) -> Vec<String> {
    let plain = |what: &str, host: &str| {
        format!("{what} {host} is spoken to by plain HTTP: who is on the way reads logins and images")
    };
    let registries = settings.registries.iter().filter(|(host, set)| set.plain_http == Some(true) && !loopback(host));
    let mirrors = settings.registries.values().flat_map(|set| &set.mirrors);
    let mirrors = mirrors.filter(|mirror| mirror.plain_http == Some(true) && !loopback(&mirror.host));
    let mut all: Vec<String> = registries.map(|(host, _)| plain("registry", host)).collect();
    all.extend(mirrors.map(|mirror| plain("mirror", &mirror.host)));
    all
}

fn loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::daemon::Flags;

    #[test]
    fn the_file_becomes_settings() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "pa:ss word\n").unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
        let path = dir.path().join("config.json");
        let text = serde_json::json!({
            "insecure-registries": ["lab.example:5000", "127.0.0.1:5000"],
            "registries": {
                "docker.io": {"mirrors": ["https://mirror.example/hub", "http://10.0.0.1:5000"]},
                "lab.example:5000": {"username": "bob", "password-file": secret},
            },
            "login-files": ["/nowhere/config.json"],
            "proxies": {"https-proxy": "http://proxy:3128", "no-proxy": "localhost"},
            "images": {"layers-at-once": 5, "limits": {"layers": 10}, "collect": {"start": 70, "stop": 60, "min-age": "90m"}},
            "default-registry": "lab.example:5000",
        });
        std::fs::write(&path, text.to_string()).unwrap();
        let config = Config::load(&Flags { config: Some(path), ..Flags::default() }).unwrap();
        let settings = settings(&config).unwrap();
        assert_eq!(settings.default_registry, "lab.example:5000");
        assert_eq!(collect(&config), CollectPolicy { enabled: true, start: 70, stop: 60, min_age_ms: 5_400_000 });
        let lab = &settings.registries["lab.example:5000"];
        let password = Credential::Password { user: "bob".into(), password: "pa:ss word".into() };
        assert_eq!((lab.plain_http, lab.credential.clone()), (Some(true), Some(password)));
        let mirror = |host: &str, prefix: &str, plain| Mirror {
            host: host.into(),
            prefix: prefix.into(),
            plain_http: Some(plain),
        };
        assert_eq!(
            settings.registries["docker.io"].mirrors,
            [mirror("mirror.example", "hub", false), mirror("10.0.0.1:5000", "", true)]
        );
        assert_eq!((settings.limits.parallel_layers, settings.limits.layers), (5, 10));
        assert_eq!(settings.certs_dirs.len(), 2);
        assert_eq!(settings.proxy.https.as_deref(), Some("http://proxy:3128"));
        let loosened = loosenings(&settings);
        assert_eq!(loosened.len(), 2, "{loosened:?}");
        assert!(loosened[0].contains("registry lab.example:5000") && loosened[1].contains("mirror 10.0.0.1:5000"));
        assert!(!format!("{settings:?}").contains("pa:ss"));
    }
}
