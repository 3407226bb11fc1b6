//! What is wrong with settings that are well written.

use std::net::IpAddr;
use std::path::Path;

use super::registries::{ProxyFile, RegistryFile, host_and_prefix, is_host};
use super::{Concurrency, ConfigFile, Flags, ImagesFile, NetworksFile, notices, place};
use crate::image::read_private;
use crate::model::{Cidr, ImageReference, Problem, sentence};

/// Problems, and the text that they point into.
pub(super) struct Said<'t> {
    path: &'t Path,
    text: &'t str,
    pub(super) problems: Vec<Problem>,
}

impl<'t> Said<'t> {
    pub(super) fn about(path: &'t Path, text: &'t str) -> Self {
        Self { path, text, problems: Vec::new() }
    }
    pub(super) fn wrong(&mut self, way: &[&str], message: impl Into<String>, hint: &str) {
        let place = place::locate(self.path, self.text, way);
        self.problems.push(Problem::error(place, message.into()).with_hint(hint));
    }
}

/// A setting may stand in the file or be a flag, not both.
pub(super) fn twice(said: &mut Said<'_>, file: &ConfigFile, flags: &Flags) {
    let both = [
        ("state-dir", file.state_dir.is_some() && flags.state_dir.is_some()),
        ("data-dir", file.data_dir.is_some() && flags.data_dir.is_some()),
        ("run-dir", file.run_dir.is_some() && flags.run_dir.is_some()),
        ("socket", file.socket.is_some() && flags.socket.is_some()),
        ("debug", file.debug.is_some() && flags.debug),
    ];
    for (key, _) in both.iter().filter(|(_, twice)| *twice) {
        said.wrong(&[key], format!("{key} is set in the file and by the flag --{key}"), "keep one of the two");
    }
}

pub(super) fn check(said: &mut Said<'_>, file: &ConfigFile) {
    if let Some(tcp) = file.tcp.filter(|tcp| !tcp.ip().is_loopback()) {
        let message = format!("{tcp} is not a loopback address");
        said.wrong(&["tcp"], message, "the API has no passwords; use 127.0.0.1 and a tunnel");
    }
    for (key, dir) in [("state-dir", &file.state_dir), ("data-dir", &file.data_dir), ("run-dir", &file.run_dir)] {
        if let Some(dir) = dir {
            absolute(said, &[key], dir);
        }
    }
    let logs = file.container_logs;
    if logs.max_size < 65_536 || !(1..=100).contains(&logs.max_files) {
        let message = "max-size is at least 65536, max-files 1 to 100";
        said.wrong(&["container-logs"], message, "10485760 and 5 are the defaults");
    }
    if logs.previous > 100 {
        said.wrong(&["container-logs", "previous"], "previous is 0 to 100", "3 is the default");
    }
    if file.generations.is_some_and(|keep| !(1..=100).contains(&keep)) {
        said.wrong(&["generations"], "generations is 1 to 100", "5 is the default");
    }
    let Concurrency { pulls, containers } = file.concurrency;
    if !(1..=100).contains(&pulls) || !(1..=1000).contains(&containers) {
        let message = "pulls is 1 to 100, containers 1 to 1000";
        said.wrong(&["concurrency"], message, "3 and 16 are the defaults");
    }
    if let Some(runtime) = file.runtime.as_ref().filter(|runtime| !runtime.is_file()) {
        let message = format!("{} is not a program", runtime.display());
        said.wrong(&["runtime"], message, "give the path of runc, or leave it out");
    }
    if let Some(user) = file.userns_remap_user.as_ref().filter(|user| user.is_empty() || user.contains([':', '\n'])) {
        let message = format!("{user:?} is not a user's name");
        said.wrong(&["userns-remap-user"], message, "write it as /etc/subuid has it");
    }
    for (name, program) in file.runtimes.iter().filter(|(_, program)| !program.is_file() || program.is_relative()) {
        let message = format!("{} is not a program", program.display());
        said.wrong(&["runtimes", name], message, "give the path of an OCI runtime, beginning with /");
    }
    let lists = [("login-files", &file.login_files), ("certs-dirs", &file.certs_dirs), ("cdi-dirs", &file.cdi_dirs)];
    for (key, paths) in lists {
        for (at, path) in paths.iter().flatten().enumerate() {
            absolute(said, &[key, &at.to_string()], path);
        }
    }
    if let Some(host) = file.default_registry.as_ref().filter(|host| !names_itself(host)) {
        let message = format!("{host:?} is not a registry that image names can name");
        said.wrong(
            &["default-registry"],
            message,
            "write host:port, or a host with a dot: docker.io, registry.lan:5000",
        );
    }
    for (at, profile) in file.profiles.iter().enumerate().filter(|(_, profile)| !profiles(profile)) {
        let message = format!("{profile:?} is not the name of a profile");
        said.wrong(
            &["profiles", &at.to_string()],
            message,
            "letters, digits, `_`, `.` and `-`, or \"*\" for all of them",
        );
    }
    for (at, host) in file.insecure_registries.iter().enumerate().filter(|(_, host)| !is_host(host)) {
        said.wrong(&["insecure-registries", &at.to_string()], format!("{host:?} is not host or host:port"), HOST);
    }
    for (name, registry) in &file.registries {
        let insecure = file.insecure_registries.contains(name);
        check_registry(said, name, registry, insecure);
    }
    check_networks(said, &file.networks);
    check_proxies(said, &file.proxies);
    check_images(said, &file.images);
    notices::check(said, &file.notices);
}

fn check_networks(said: &mut Said<'_>, networks: &NetworksFile) {
    for (at, pool) in networks.pools.iter().enumerate() {
        let number = at.to_string();
        let base = Cidr::parse(&pool.base);
        let Some(base) = base.filter(|base| base.network() == *base) else {
            let message = format!("{:?} is not a range of addresses", pool.base);
            said.wrong(&["networks", "pools", &number, "base"], message, "write 10.0.0.0/16 or fd12:3456:789a::/48");
            continue;
        };
        let most = if base.address.is_ipv4() { 29 } else { 64 };
        if !(base.prefix..=most).contains(&pool.size) {
            let message = format!("size is {} to {most} here", base.prefix);
            said.wrong(&["networks", "pools", &number, "size"], message, "24 is usual, 64 for IPv6");
        }
    }
    for (at, text) in networks.block.iter().enumerate() {
        if Cidr::parse(text).is_none() && text.parse::<IpAddr>().is_err() {
            let message = format!("{text:?} is neither an address nor a range of addresses");
            said.wrong(&["networks", "block", &at.to_string()], message, "write 169.254.169.254 or 10.0.0.0/8");
        }
    }
}

/// Whether names that begin with it are read as of it: otherwise `host/name` would be a repository of another registry.
fn names_itself(host: &str) -> bool {
    let read = ImageReference::parse(&format!("{host}/name"));
    is_host(host) && read.is_ok_and(|image| image.registry() == host)
}

/// As Compose has them, and the one that stands for all.
fn profiles(name: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    name == "*" || name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(inside)
}

const HOST: &str = "write it as in image names: docker.io, registry.lan:5000";

fn absolute(said: &mut Said<'_>, way: &[&str], path: &Path) {
    if path.is_relative() {
        said.wrong(way, format!("{} is a relative path", way[0]), "begin it with /");
    }
}

fn check_registry(said: &mut Said<'_>, name: &str, registry: &RegistryFile, insecure: bool) {
    let at = |key: &'static str| ["registries", name, key];
    if !is_host(name) {
        said.wrong(&["registries", name], format!("{name:?} is not host or host:port"), HOST);
    }
    for (number, mirror) in registry.mirrors.iter().enumerate() {
        if let Err(why) = host_and_prefix(mirror) {
            let number = number.to_string();
            let way = ["registries", name, "mirrors", &number];
            // The address may hold a login; it is not repeated.
            said.wrong(&way, format!("the mirror is not an address: {why}"), "write https://host[:port][/prefix]");
        }
    }
    if insecure && registry.plain_http == Some(false) {
        let message = format!("{name} is in insecure-registries, and its plain-http is false");
        said.wrong(&at("plain-http"), message, "keep one of the two");
    }
    match (&registry.username, &registry.password_file) {
        (Some(user), Some(_)) if user.is_empty() || user.contains([':', '\n', '\0']) => {
            said.wrong(&at("username"), "a user's name is not empty and holds no colon", "write it as at the registry");
        }
        (Some(_), Some(file)) => check_secret(said, &at("password-file"), file),
        (Some(_), None) => {
            said.wrong(&at("username"), "a username without a password-file", "name the file that holds its password");
        }
        (None, Some(_)) => said.wrong(&at("password-file"), "a password-file without a username", "add the username"),
        (None, None) => {}
    }
    if let Some(file) = &registry.ca_file {
        check_pem(said, &at("ca-file"), std::fs::read(file), file, "CERTIFICATE-----");
    }
    match (&registry.client_cert_file, &registry.client_key_file) {
        (Some(cert), Some(key)) => {
            check_pem(said, &at("client-cert-file"), std::fs::read(cert), cert, "CERTIFICATE-----");
            let before = said.problems.len();
            check_secret(said, &at("client-key-file"), key);
            if said.problems.len() == before {
                check_pem(said, &at("client-key-file"), std::fs::read(key), key, "PRIVATE KEY-----");
            }
        }
        (Some(_), None) => said.wrong(&at("client-cert-file"), "a certificate without its key", "add client-key-file"),
        (None, Some(_)) => said.wrong(&at("client-key-file"), "a key without its certificate", "add client-cert-file"),
        (None, None) => {}
    }
}

pub(super) fn check_secret(said: &mut Said<'_>, way: &[&str], file: &Path) {
    match read_private(file) {
        Ok(Some(bytes)) if bytes.iter().all(u8::is_ascii_whitespace) => {
            said.wrong(way, format!("{} is empty", file.display()), "write the secret into it");
        }
        Ok(Some(_)) => {}
        Ok(None) => said.wrong(way, format!("{} is not there", file.display()), "give the path of the file"),
        Err(error) => said.wrong(way, sentence(&error), "the daemon reads no secret that others could read"),
    }
}

fn check_pem(said: &mut Said<'_>, way: &[&str], read: std::io::Result<Vec<u8>>, file: &Path, word: &str) {
    match read {
        Ok(bytes) if String::from_utf8_lossy(&bytes).contains(word) => {}
        Ok(_) => {
            let message = format!("{} holds no {} in PEM", file.display(), word.trim_end_matches('-').to_lowercase());
            said.wrong(way, message, "convert it by openssl: PEM begins with -----BEGIN");
        }
        Err(error) => {
            said.wrong(way, format!("{} cannot be read: {error}", file.display()), "give the path of the file");
        }
    }
}

fn check_proxies(said: &mut Said<'_>, proxies: &ProxyFile) {
    for (key, proxy) in [("http-proxy", &proxies.http_proxy), ("https-proxy", &proxies.https_proxy)] {
        let Some(proxy) = proxy else { continue };
        let rest = proxy.strip_prefix("http://").or_else(|| proxy.strip_prefix("https://"));
        // A proxy may have a login of its own; it is not shown.
        let host = rest.map(|rest| rest.trim_end_matches('/').rsplit('@').next().unwrap_or_default());
        if !host.is_some_and(is_host) {
            said.wrong(&["proxies", key], format!("{key} is not an address"), "write http://host:port");
        }
    }
}

fn check_images(said: &mut Said<'_>, images: &ImagesFile) {
    if !(1..=32).contains(&images.layers_at_once) {
        said.wrong(&["images", "layers-at-once"], "layers-at-once is 1 to 32", "3 is the default");
    }
    let collect = &images.collect;
    for (key, percent) in [("start", collect.start), ("stop", collect.stop)] {
        if !(1..=99).contains(&percent) {
            said.wrong(&["images", "collect", key], format!("{key} is 1 to 99 percent"), "85 and 80 are the defaults");
        }
    }
    if collect.stop >= collect.start {
        let message = format!("stop ({} %) is not below start ({} %)", collect.stop, collect.start);
        said.wrong(&["images", "collect", "stop"], message, "85 and 80 are the defaults");
    }
    if collect.min_age_ms().is_none() {
        said.wrong(&["images", "collect", "min-age"], "min-age is not a duration", "write 90m, 24h or 7d");
    }
    let limits = &images.limits;
    let bounds = [
        ("manifest-bytes", limits.manifest_bytes, 1024, 64 << 20),
        ("config-bytes", limits.config_bytes, 1024, 64 << 20),
        // overlayfs stacks no more.
        ("layers", limits.layers as u64, 1, 500),
        ("entries", limits.entries, 1, u64::MAX),
        ("path-bytes", limits.path_bytes as u64, 64, 4095),
        ("layer-bytes", limits.layer_bytes, 1024, u64::MAX),
        ("ratio", limits.ratio, 2, u64::MAX),
    ];
    for (key, value, least, most) in
        bounds.into_iter().filter(|(_, value, least, most)| !(least..=most).contains(&value))
    {
        let message = if most == u64::MAX {
            format!("{key} is {value}; it is at least {least}")
        } else {
            format!("{key} is {value}; it is {least} to {most}")
        };
        said.wrong(&["images", "limits", key], message, "leave it out for the default");
    }
}
