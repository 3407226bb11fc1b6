//! The JSON Schema of state files is the one that is checked in, and says of samples what reading them says.

use std::path::{Path, PathBuf};

use longshore::spec::{FileError, Files, Input, parse, schema};

const CHECKED_IN: &str = "state-schema/state-file.schema.json";

/// Samples refer to files that need not be here.
struct Empty;

impl Files for Empty {
    fn read(&self, _: &Path) -> Result<Vec<u8>, FileError> {
        Ok(Vec::new())
    }
}

fn read(path: &Path, text: &[u8]) -> bool {
    parse(&Input {
        path,
        text,
        default_name: "sample",
        default_registry: "docker.io",
        profiles: &[],
        files: &Empty,
        key: Default::default(),
    })
    .is_ok()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_schema_that_is_checked_in_is_up_to_date() {
    let mut text = serde_json::to_string_pretty(&schema()).expect("a schema is JSON");
    text.push('\n');
    let file = root().join(CHECKED_IN);
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(&file, &text).expect("the folder of schemas is in the package");
    }
    let old = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(old == text, "{CHECKED_IN} is out of date; run the tests with UPDATE_SCHEMAS=1 and look at what changed");
}

const GOOD: [&str; 5] = [
    "services: {a: {image: b}}",
    "{version: '3', name: x, services: {a: {image: b, command: [c, d], environment: {A: 1, B: null, C: true}}}, x-y: 1}",
    "services: {a: {image: b, ports: ['80:80', 81, {target: 80, published: '8080'}], x-own: {any: thing}}}",
    "services: {a: {image: b, tty: '${T:-true}', scale: '${N:-1}', stop_grace_period: 1m, restart: 'no'}}",
    "services: {a: {build: {context: .}, deploy: {replicas: 2, resources: {limits: {memory: 1g}}}}}\nvolumes: {d: null}",
];

const BAD: [&str; 7] = [
    "servces: {a: {image: b}}",
    "services: {a: {imgae: b}}",
    "services: [a]",
    "services: {a: {image: [b]}}",
    "services: {a: {image: b, ports: [{target: 80, publishd: 1}]}}",
    "services: {a: {image: b, deploy: {replicas: [1]}}}",
    "services: {a: {image: b, healthcheck: {test: x, intervall: 1s}}}",
];

#[test]
fn the_schema_and_the_reader_agree_on_samples() {
    let validator = jsonschema::validator_for(&schema()).expect("the schema is one");
    for (samples, good) in [(&GOOD[..], true), (&BAD[..], false)] {
        for text in samples {
            let value: serde_json::Value = serde_saphyr::from_str(text).expect(text);
            assert_eq!(read(Path::new("sample.yaml"), text.as_bytes()), good, "read: {text}");
            assert_eq!(validator.is_valid(&value), good, "schema: {text}");
        }
    }
}

#[test]
fn every_example_is_read_and_fits_the_schema() {
    let validator = jsonschema::validator_for(&schema()).expect("the schema is one");
    for file in compose_files(&root().join("examples")) {
        let text = std::fs::read_to_string(&file).expect("a file that was just listed");
        assert!(read(&file, text.as_bytes()), "{}", file.display());
        let value: serde_json::Value = serde_saphyr::from_str(&text).expect("it was read above");
        assert!(validator.is_valid(&value), "{}", file.display());
    }
}

/// None where there is no such folder.
fn compose_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
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
