//! What is written down about formats is what the program says of itself: the schema of the configuration, and the tables of
//! the README. `UPDATE_SCHEMAS=1` writes the schema anew, `UPDATE_DOCS=1` the tables.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use longshore::spec::{KeyRole, ListedKey, keys};
use serde_json::Value;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap_or_default()
}

#[test]
fn the_schema_of_the_configuration_is_up_to_date() {
    const NAME: &str = "state-schema/config.schema.json";
    let text = serde_json::to_string_pretty(&longshore::daemon::schema()).expect("a schema is JSON") + "\n";
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(file(NAME), &text).expect("the folder of schemas is in the package");
    }
    assert!(read(NAME) == text, "{NAME} is out of date; run the tests with UPDATE_SCHEMAS=1 and look at what changed");
}

#[test]
fn the_example_configuration_fits_its_schema() {
    let validator = jsonschema::validator_for(&longshore::daemon::schema()).expect("the schema is one");
    let config: Value = serde_json::from_str(&read("examples/daemon/config.json")).expect("it is JSON");
    assert!(validator.is_valid(&config));
    let said = Command::new(env!("CARGO_BIN_EXE_longshore"))
        .args(["daemon", "--validate", "--config"])
        .arg(file("examples/daemon/config.json"))
        .output()
        .expect("the program runs");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

#[test]
fn check_finds_nothing_wrong_with_the_examples() {
    let said = Command::new(env!("CARGO_BIN_EXE_longshore"))
        .args(["check", "--json"])
        .arg(file("examples"))
        .output()
        .expect("the program runs");
    let report: Value = serde_json::from_slice(&said.stdout).expect("a report");
    assert_eq!(report["problems"], Value::Array(Vec::new()));
    assert!(report["projects"].as_array().is_some_and(|all| all.len() >= 5));
    assert_eq!(said.status.code(), Some(0));
}

#[test]
fn the_tables_of_the_readme_are_up_to_date() {
    let old = read("README.md");
    let new = filled(&filled(&old, "keys", &key_tables()), "config", &config_table());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(file("README.md"), &new).expect("the README is in the package");
    } else {
        assert!(old == new, "README.md is out of date; run the tests with UPDATE_DOCS=1 and look at what changed");
    }
}

#[test]
fn the_readme_knows_every_route_and_command() {
    let readme = read("README.md");
    let router = read("src/api/router.rs");
    let routes: Vec<&str> = router.lines().filter_map(|l| l.trim().strip_prefix("(\"")?.split('"').next()).collect();
    assert!(routes.len() > 5, "the routes were found");
    for route in routes {
        assert!(readme.contains(&format!("`{route}")) || readme.contains(&format!(" {route}`")), "README: {route}");
    }
    let help = Command::new(env!("CARGO_BIN_EXE_longshore")).arg("--help").output().expect("the program runs").stdout;
    let help = String::from_utf8(help).expect("help is text");
    let commands = help.lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| !l.is_empty());
    for command in commands.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        assert!(readme.contains(&format!("| `{command}")), "README: the command {command}");
    }
}

#[test]
fn every_file_that_the_documents_name_is_there() {
    let named = |word: &&str| ["src/", "tests/", "examples/", "state-schema/"].iter().any(|top| word.starts_with(top));
    for document in ["README.md", "CONTRIBUTING.md"] {
        let text = read(document);
        let words = text.split(|c: char| c.is_whitespace() || "()[]`,:|".contains(c)).filter(named);
        for name in words.map(|word| word.trim_end_matches('.')).filter(|word| !word.contains(['*', '<'])) {
            assert!(file(name).exists(), "{document} names {name}");
        }
    }
}

/// `text` with the part between `<!-- name -->` and `<!-- /name -->` replaced.
fn filled(text: &str, name: &str, content: &str) -> String {
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&open).unwrap_or_else(|| panic!("README.md has no {open}"));
    let (_, after) = rest.split_once(&close).unwrap_or_else(|| panic!("README.md has no {close}"));
    format!("{before}{open}{content}{close}{after}")
}

fn key_tables() -> String {
    let all = keys();
    let mut text = String::from("| acts | meaning |\n|---|---|\n");
    for key in &all {
        match key.role {
            KeyRole::Acts => text.push_str(&format!("| {} | {} |\n", name(key), cell(key.about))),
            KeyRole::Ignored => text.push_str(&format!("| {} (ignored) | {} |\n", name(key), cell(key.about))),
            KeyRole::Holds(_) | KeyRole::Warns(_) => {}
        }
    }
    let held = all.iter().filter_map(|key| match key.role {
        KeyRole::Holds(why) => Some((key, why)),
        KeyRole::Acts | KeyRole::Ignored | KeyRole::Warns(_) => None,
    });
    text.push_str(&by_reason("holds its service", "because", held));
    let warned = all.iter().filter_map(|key| match key.role {
        KeyRole::Warns(means) => Some((key, means)),
        KeyRole::Acts | KeyRole::Ignored | KeyRole::Holds(_) => None,
    });
    text.push_str(&by_reason("is warned of", "what happens instead", warned));
    text
}

/// One row for each reason, in the order in which the reasons first come up.
fn by_reason<'a>(what: &str, why: &str, keys: impl Iterator<Item = (&'a ListedKey, &'static str)>) -> String {
    let mut order = Vec::new();
    let mut rows: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (key, reason) in keys {
        let row = rows.entry(reason).or_default();
        if row.is_empty() {
            order.push(reason);
        }
        row.push(name(key));
    }
    let rows = order.iter().map(|reason| format!("| {} | {} |\n", rows[reason].join(", "), cell(reason)));
    format!("\n| {what} | {why} |\n|---|---|\n{}", rows.collect::<String>())
}

/// Keys beside `services` are told from keys of a service.
fn name(key: &ListedKey) -> String {
    if key.in_service || ["version", "name", "services"].contains(&key.key.as_str()) {
        format!("`{}`", key.key)
    } else {
        format!("`{}:` of the file", key.key)
    }
}

fn cell(text: &str) -> String {
    text.trim_end_matches('.').replace('|', "\\|")
}

fn config_table() -> String {
    let schema = longshore::daemon::schema();
    let mut text = String::from("| key | meaning |\n|---|---|\n");
    rows(&schema, &schema, "", &mut text);
    text
}

fn rows(schema: &Value, at: &Value, above: &str, text: &mut String) {
    for (key, property) in at["properties"].as_object().into_iter().flatten() {
        let inner = property["$ref"].as_str().and_then(|r| schema.pointer(r.trim_start_matches('#')));
        let each = property["additionalProperties"]["$ref"].as_str();
        if let Some(each) = each.and_then(|r| schema.pointer(r.trim_start_matches('#'))) {
            rows(schema, each, &format!("{above}{key}.HOST."), text);
            continue;
        }
        match inner.filter(|inner| inner["properties"].is_object()) {
            Some(inner) => rows(schema, inner, &format!("{above}{key}."), text),
            None => {
                let about = property["description"].as_str().unwrap_or_default().replace('\n', " ");
                text.push_str(&format!("| `{above}{key}` | {} |\n", cell(&about)));
            }
        }
    }
}
