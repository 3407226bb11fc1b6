//! stub until the room is merged
use crate::model::{Problem, Project};
use std::path::{Path, PathBuf};
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("m")]
    Missing,
    #[error("t")]
    TooLarge,
    #[error("n")]
    NotRegular,
    #[error("o")]
    Outside,
    #[error("{0}")]
    Io(String),
}
pub trait Files {
    fn read(&self, relative: &Path) -> Result<Vec<u8>, FileError>;
}
pub struct Input<'a> {
    pub path: &'a Path,
    pub text: &'a [u8],
    pub default_name: &'a str,
    pub files: &'a dyn Files,
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub project: Project,
    pub warnings: Vec<Problem>,
    pub references: Vec<PathBuf>,
}
pub fn parse(_: &Input<'_>) -> Result<Document, Vec<Problem>> {
    Err(vec![])
}
