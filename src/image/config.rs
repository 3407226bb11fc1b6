//! An image's configuration: what it wants to run, and which layers it is made of.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::health;
use super::manifest::{Manifest, ManifestError, malformed, refused};
use crate::model::{Digest, HealthCheck, Platform};

/// What an image says about the containers made from it. Only read; nothing in here is believed by the daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageConfig {
    /// What it was built for.
    pub platform: Platform,
    /// The fixed part of the command.
    pub entrypoint: Vec<String>,
    /// The part of the command that is replaced by arguments.
    pub cmd: Vec<String>,
    /// `NAME=value`, in order.
    pub env: Vec<String>,
    /// Where the command starts; empty for the root.
    pub working_dir: String,
    /// `user`, `uid`, `user:group`, `uid:gid`; empty for root.
    pub user: String,
    /// The signal that asks it to stop.
    pub stop_signal: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Paths that want to be volumes.
    pub volumes: Vec<String>,
    /// `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// How its health is checked.
    pub health: HealthCheck,
    /// When it was made, as it was written.
    pub created: Option<String>,
    /// The layers' contents, lowest first.
    pub diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct RawConfig {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    variant: Option<String>,
    created: Option<String>,
    config: Option<RawProcess>,
    rootfs: Option<RawRootfs>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct RawProcess {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
    labels: Option<BTreeMap<String, Option<String>>>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    healthcheck: Option<serde_json::Value>,
    shell: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(rename = "type")]
    kind: Option<String>,
    diff_ids: Option<Vec<String>>,
}

/// Reads a configuration whose bytes were verified already.
pub(super) fn read(bytes: &[u8]) -> Result<ImageConfig, ManifestError> {
    let raw: RawConfig = serde_json::from_slice(bytes).map_err(|e| malformed("configuration", &e))?;
    let diff_ids = diff_ids(raw.rootfs)?;
    let process = raw.config.unwrap_or_default();
    let config = ImageConfig {
        platform: Platform {
            os: raw.os,
            architecture: raw.architecture,
            variant: raw.variant.filter(|v| !v.is_empty()),
        },
        entrypoint: process.entrypoint.unwrap_or_default(),
        cmd: process.cmd.unwrap_or_default(),
        env: process.env.unwrap_or_default(),
        working_dir: process.working_dir.unwrap_or_default(),
        user: process.user.unwrap_or_default(),
        stop_signal: process.stop_signal.filter(|s| !s.is_empty()),
        labels: process.labels.unwrap_or_default().into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect(),
        volumes: process.volumes.unwrap_or_default().into_keys().collect(),
        exposed_ports: process.exposed_ports.unwrap_or_default().into_keys().collect(),
        health: process
            .healthcheck
            .map(|written| health::read(&written, &process.shell.unwrap_or_default()))
            .unwrap_or_default(),
        created: raw.created,
        diff_ids,
    };
    without_nul(&config)?;
    Ok(config)
}

/// Checks that the configuration belongs to the manifest.
pub(super) fn belongs(config: &ImageConfig, manifest: &Manifest) -> Result<(), ManifestError> {
    let (promised, brought) = (config.diff_ids.len(), manifest.layers.len());
    if promised == brought {
        return Ok(());
    }
    refused(format!("its configuration speaks of {promised} layers, its manifest of {brought}"))
}

fn diff_ids(rootfs: Option<RawRootfs>) -> Result<Vec<Digest>, ManifestError> {
    let Some(rootfs) = rootfs else { return refused("its configuration has no rootfs") };
    if rootfs.kind.as_deref() != Some("layers") {
        return refused("the rootfs of its configuration is not of the type \"layers\"");
    }
    let texts = rootfs.diff_ids.unwrap_or_default();
    texts.iter().map(|text| Digest::parse(text).or_else(|e| refused(e.to_string()))).collect()
}

/// A NUL would end a C string early: what was checked would not be what runs.
fn without_nul(config: &ImageConfig) -> Result<(), ManifestError> {
    let lists = [&config.entrypoint, &config.cmd, &config.env, &config.volumes];
    let mut texts = lists.into_iter().flatten().chain([&config.working_dir, &config.user]);
    if texts.any(|t| t.contains('\0')) { refused("its configuration holds a NUL character") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_and_absent_parts_are_empty() {
        let read = read(
            br#"{"os":"linux","architecture":"amd64","config":{"Cmd":null,"Env":["A=b"],"Labels":null},
            "rootfs":{"type":"layers","diff_ids":[]}}"#,
        )
        .unwrap();
        assert_eq!((read.cmd.len(), read.env.len(), read.labels.len()), (0, 1, 0));
    }

    #[test]
    fn what_breaks_the_rules_is_refused() {
        for bad in [
            r#"{}"#,
            r#"{"rootfs":{"type":"tree","diff_ids":[]}}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":["sha256:../x"]}}"#,
            r#"{"config":{"Entrypoint":"sh"},"rootfs":{"type":"layers","diff_ids":[]}}"#,
            r#"{"config":{"Env":["A=\u0000"]},"rootfs":{"type":"layers","diff_ids":[]}}"#,
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
