//! Compose files of well-known projects, where the one who runs the tests has a folder of them: `COMPOSE_CORPUS=DIR`.

use std::path::{Path, PathBuf};

use crate::spec::samples::shown;
use crate::spec::{FileError, Files, Input, parse};

struct Folder<'f>(&'f Path);

impl Files for Folder<'_> {
    /// Projects ship samples of their `.env`; files that their owners make are taken as empty.
    fn read(&self, relative: &Path) -> Result<Vec<u8>, FileError> {
        let names = match relative.to_str() {
            Some(".env") => vec![".env", ".env.sample", ".env.example"],
            _ => vec![relative.to_str().unwrap_or_default()],
        };
        Ok(names.iter().find_map(|name| std::fs::read(self.0.join(name)).ok()).unwrap_or_default())
    }
}

#[test]
fn files_of_well_known_projects_are_accepted() {
    let Some(root) = std::env::var_os("COMPOSE_CORPUS") else { return };
    let mut files = compose_files(Path::new(&root));
    files.sort();
    assert!(!files.is_empty());
    let mut refused = Vec::new();
    for file in &files {
        let text = std::fs::read(file).expect("a file that was just listed");
        let folder = file.parent().expect("a file has a folder");
        let input = Input {
            path: file,
            text: &text,
            default_name: "corpus",
            default_registry: "docker.io",
            profiles: &[],
            files: &Folder(folder),
            key: Default::default(),
        };
        match parse(&input) {
            Ok(document) => {
                let held = document.project.services.values().filter(|service| !service.holds.is_empty()).count();
                println!(
                    "{}: {} services, {held} held, {} warnings",
                    file.display(),
                    document.project.services.len(),
                    document.warnings.len()
                );
            }
            Err(problems) => refused.push(shown(&problems)),
        }
    }
    println!("{} of {} accepted", files.len() - refused.len(), files.len());
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

fn compose_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder of COMPOSE_CORPUS").flatten();
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        if path.is_dir() {
            files.extend(compose_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml") {
            files.push(path);
        }
    }
    files
}
