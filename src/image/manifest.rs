//! Reads what registries give: indexes and manifests, OCI and Docker v2s2. Pure; nothing is believed.
//!
//! A document is what its media type says, and only that: one with both `layers` and `manifests`, or whose
//! `Content-Type` and `mediaType` disagree, means different things to different readers and is refused (CVE-2021-41190).

use oci_client::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE,
    IMAGE_DOCKER_LAYER_TAR_MEDIA_TYPE, IMAGE_LAYER_GZIP_MEDIA_TYPE, IMAGE_LAYER_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE as INDEX_DOCKER, IMAGE_MANIFEST_MEDIA_TYPE as IMAGE_DOCKER,
    OCI_IMAGE_INDEX_MEDIA_TYPE as INDEX_OCI, OCI_IMAGE_MEDIA_TYPE as IMAGE_OCI,
};
use serde::Deserialize;

use super::error::line;
use super::settings::Limits;
use crate::model::{Digest, Platform};

/// What is asked for; the order is a preference.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Why a document of a registry is not used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of the known shape.
    #[error("its {what} cannot be read: {reason}")]
    Malformed { what: &'static str, reason: String },
    /// Of a kind that is not supported.
    #[error("its media type {media_type:?} is not supported")]
    MediaType { media_type: String },
    /// The header and the document name different types.
    #[error("the registry calls it {header:?}, it calls itself {body:?}")]
    TypeMismatch { header: String, body: String },
    /// Docker's first schema, given up by everyone.
    #[error(
        "it is stored in Docker's schema 1, which cannot be verified; push it again with a client of the last ten years"
    )]
    Schema1,
    /// It breaks a rule of the specification.
    #[error("it is refused: {reason}")]
    Refused { reason: String },
    /// No entry of the index runs here.
    #[error("there is none for {wanted}; there is {}", available.join(", "))]
    Platform { wanted: Platform, available: Vec<String> },
    /// A document beyond its limit.
    #[error("its {what} has {size} bytes; at most {limit} are allowed")]
    TooLarge { what: &'static str, size: u64, limit: u64 },
}

pub(super) fn refused<T>(reason: impl Into<String>) -> Result<T, ManifestError> {
    Err(ManifestError::Refused { reason: reason.into() })
}

/// A checked pointer to content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// One image: a configuration and its layers, lowest first.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// One way to go from an index.
#[derive(Debug, Clone)]
pub(super) struct IndexEntry {
    pub(super) target: Descriptor,
    pub(super) platform: Option<Platform>,
    /// No image, but a statement about one of the others (an attestation).
    pub(super) about_another: bool,
}

/// What a registry has under a name.
#[derive(Debug, Clone)]
pub(super) enum Document {
    Image(Manifest),
    Index(Vec<IndexEntry>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: i64,
    platform: Option<RawPlatform>,
    /// Only what buildx marks its attestations with is looked at.
    annotations: Option<RawAnnotations>,
}

#[derive(Deserialize)]
struct RawAnnotations {
    #[serde(rename = "vnd.docker.reference.type")]
    reference_type: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

/// Reads a document whose bytes were verified already.
pub(super) fn read(bytes: &[u8], content_type: Option<&str>, limits: &Limits) -> Result<Document, ManifestError> {
    let raw: RawDocument = serde_json::from_slice(bytes).map_err(|e| malformed("manifest", &e))?;
    if raw.schema_version == Some(1) || raw.fs_layers.is_some() {
        return Err(ManifestError::Schema1);
    }
    if raw.schema_version != Some(2) {
        return refused("its schemaVersion is not 2");
    }
    let index = match kind(&raw, content_type)?.as_deref() {
        Some(IMAGE_OCI | IMAGE_DOCKER) => false,
        Some(INDEX_OCI | INDEX_DOCKER) => true,
        Some(SCHEMA1 | SCHEMA1_SIGNED) => return Err(ManifestError::Schema1),
        Some(other) => return Err(ManifestError::MediaType { media_type: line(other, 100) }),
        None => raw.manifests.is_some(),
    };
    match (index, raw.config, raw.layers, raw.manifests) {
        (true, None, None, Some(entries)) => {
            entries.into_iter().map(entry).collect::<Result<_, _>>().map(Document::Index)
        }
        (false, Some(config), Some(layers), None) => image(config, layers, limits).map(Document::Image),
        (true, ..) => refused("it says it is an index, but holds the parts of an image or no entries"),
        (false, ..) => {
            refused("it says it is an image, but holds the parts of an index, or lacks its config or layers")
        }
    }
}

const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
const SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// The type both sides agree on. A header that says nothing (plain JSON, text, bytes) agrees with everything.
fn kind(raw: &RawDocument, content_type: Option<&str>) -> Result<Option<String>, ManifestError> {
    let header = content_type.map(|t| t.split(';').next().unwrap_or(t).trim().to_ascii_lowercase());
    let header = header.filter(|t| t.starts_with("application/vnd."));
    match (header, raw.media_type.clone().filter(|t| !t.is_empty())) {
        (Some(header), Some(body)) if header != body => {
            Err(ManifestError::TypeMismatch { header: line(&header, 100), body: line(&body, 100) })
        }
        (header, body) => Ok(body.or(header)),
    }
}

fn image(config: RawDescriptor, layers: Vec<RawDescriptor>, limits: &Limits) -> Result<Manifest, ManifestError> {
    if layers.len() > limits.layers {
        return refused(format!("it has {} layers; at most {} are allowed", layers.len(), limits.layers));
    }
    let config = descriptor(config)?;
    match config.media_type.as_str() {
        IMAGE_CONFIG_MEDIA_TYPE | IMAGE_DOCKER_CONFIG_MEDIA_TYPE => {}
        other => {
            return refused(format!(
                "it is not a container image: its configuration is of the type {:?}",
                line(other, 100)
            ));
        }
    }
    let layers = layers.into_iter().map(layer).collect::<Result<_, _>>()?;
    Ok(Manifest { config, layers })
}

fn layer(raw: RawDescriptor) -> Result<Descriptor, ManifestError> {
    let layer = descriptor(raw)?;
    match layer.media_type.as_str() {
        IMAGE_LAYER_MEDIA_TYPE
        | IMAGE_LAYER_GZIP_MEDIA_TYPE
        | IMAGE_DOCKER_LAYER_TAR_MEDIA_TYPE
        | IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE
        | "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(layer),
        other if other.contains("nondistributable") || other.contains("foreign") => {
            refused("one of its layers may only be had from elsewhere (a foreign layer)")
        }
        other => Err(ManifestError::MediaType { media_type: line(other, 100) }),
    }
}

fn entry(mut raw: RawDescriptor) -> Result<IndexEntry, ManifestError> {
    let about_another = raw.annotations.take().is_some_and(|a| a.reference_type.is_some());
    let platform = raw.platform.take().map(|p| Platform {
        os: line(&p.os, 40),
        architecture: line(&p.architecture, 40),
        variant: p.variant.filter(|v| !v.is_empty()).map(|v| line(&v, 40)),
    });
    Ok(IndexEntry { target: descriptor(raw)?, platform, about_another })
}

fn descriptor(raw: RawDescriptor) -> Result<Descriptor, ManifestError> {
    let digest = Digest::parse(&raw.digest).or_else(|e| refused(e.to_string()))?;
    let Ok(size) = u64::try_from(raw.size) else { return refused("a size is negative") };
    Ok(Descriptor { media_type: raw.media_type, digest, size })
}

pub(super) fn malformed(what: &'static str, error: &serde_json::Error) -> ManifestError {
    ManifestError::Malformed { what, reason: line(&error.to_string(), 200) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, header: Option<&str>) -> Result<Document, ManifestError> {
        read(text.as_bytes(), header, &Limits::default())
    }
    fn descriptor(media_type: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{}","size":3}}"#, "a".repeat(64))
    }
    fn image() -> String {
        let config = descriptor("application/vnd.oci.image.config.v1+json");
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip");
        format!(r#""schemaVersion":2,"config":{config},"layers":[{layer}]"#)
    }

    #[test]
    fn an_image_is_read_with_and_without_types() {
        for header in [
            None,
            Some("application/json"),
            Some(IMAGE_OCI),
            Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
        ] {
            let read = read_text(&format!("{{{}}}", image()), header);
            assert!(matches!(read, Ok(Document::Image(m)) if m.layers.len() == 1), "{header:?}");
        }
    }

    #[test]
    fn documents_that_mean_two_things_are_refused() {
        let both = format!(r#"{{{},"manifests":[]}}"#, image());
        assert!(read_text(&both, None).is_err());
        assert!(read_text(&format!("{{{}}}", image()), Some(INDEX_OCI)).is_err());
        let typed = format!(r#"{{"mediaType":"{INDEX_OCI}",{}}}"#, image());
        assert!(matches!(read_text(&typed, Some(IMAGE_OCI)), Err(ManifestError::TypeMismatch { .. })));
        assert!(read_text(&format!("{{{}}}{{}}", image()), None).is_err());
        assert!(matches!(read_text(r#"{"schemaVersion":1,"fsLayers":[]}"#, None), Err(ManifestError::Schema1)));
    }

    #[test]
    fn foreign_layers_artifacts_and_bad_digests_are_refused() {
        let with = |from: &str, to: &str| read_text(&format!("{{{}}}", image()).replace(from, to), None);
        assert!(with("layer.v1.tar+gzip", "layer.nondistributable.v1.tar+gzip").is_err());
        assert!(with("image.config.v1", "empty.v1").is_err());
        assert!(with(&"a".repeat(64), "../../../etc/passwd").is_err());
        assert!(with(&"a".repeat(64), &"A".repeat(64)).is_err());
        assert!(with(r#""size":3"#, r#""size":-3"#).is_err());
    }
}
