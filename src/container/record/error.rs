//! Why a record of a container cannot be used.

/// A container record that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not the JSON we write.
    #[error("not a record of a container")]
    Json(#[source] serde_json::Error),
    /// Written by a later version.
    #[error("version {0} of the record is not known")]
    Version(u32),
    /// A value that our own types do not allow.
    #[error("{what} {value:?} is not valid")]
    Value { what: &'static str, value: String },
}
