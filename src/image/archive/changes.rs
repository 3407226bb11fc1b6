//! What `--change` says about an imported image, in the words of a Dockerfile. Pure.

use serde_json::{Map, Value, json};

use super::ArchiveError;
use crate::image::error::line;

/// Puts the changes into the `config` object of an image, in order.
pub(super) fn apply(changes: &[String]) -> Result<Map<String, Value>, ArchiveError> {
    over(Map::new(), changes)
}

/// The same over what is there.
pub(super) fn over(mut config: Map<String, Value>, changes: &[String]) -> Result<Map<String, Value>, ArchiveError> {
    let says = |word: &str| {
        changes
            .iter()
            .any(|text| text.trim().split(char::is_whitespace).next().unwrap_or("").eq_ignore_ascii_case(word))
    };
    // A command of before is the arguments of the entrypoint of before.
    if says("ENTRYPOINT") && !says("CMD") {
        config.remove("Cmd");
    }
    for text in changes {
        one(&mut config, text.trim()).map_err(|why| ArchiveError::Change { text: line(text, 200), why })?;
    }
    Ok(config)
}

fn one(config: &mut Map<String, Value>, text: &str) -> Result<(), String> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    if rest.is_empty() {
        return Err("it says no value".into());
    }
    if rest.contains('\0') {
        return Err("it holds a NUL".into());
    }
    let mut set = |key: &str, value: Value| {
        config.insert(key.into(), value);
    };
    match word.to_ascii_uppercase().as_str() {
        "CMD" => set("Cmd", command(rest)?),
        "ENTRYPOINT" => set("Entrypoint", command(rest)?),
        "WORKDIR" if rest.starts_with('/') => set("WorkingDir", json!(rest)),
        "WORKDIR" => return Err("a working directory begins with /".into()),
        "USER" => set("User", json!(rest)),
        "STOPSIGNAL" => set("StopSignal", json!(rest)),
        "ENV" => pairs(rest)?.into_iter().for_each(|(name, value)| env(config, &name, Some(&value))),
        "LABEL" => pairs(rest)?.into_iter().for_each(|(name, value)| put(config, "Labels", &name, json!(value))),
        "EXPOSE" => {
            for port in rest.split_whitespace() {
                put(config, "ExposedPorts", &exposed(port)?, json!({}));
            }
        }
        "VOLUME" => {
            for path in list(rest)? {
                put(config, "Volumes", &path, json!({}));
            }
        }
        other => {
            return Err(format!(
                "{:?} is not among CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR",
                line(other, 40)
            ));
        }
    }
    Ok(())
}

/// A JSON list as it is, anything else for a shell.
fn command(text: &str) -> Result<Value, String> {
    if text.starts_with('[') {
        return strings(text).map(|words| json!(words));
    }
    Ok(json!(["/bin/sh", "-c", text]))
}

fn list(text: &str) -> Result<Vec<String>, String> {
    if text.starts_with('[') { strings(text) } else { Ok(text.split_whitespace().map(ToOwned::to_owned).collect()) }
}

fn strings(text: &str) -> Result<Vec<String>, String> {
    serde_json::from_str(text).map_err(|_| "it is not a JSON list of texts".into())
}

/// `a=b c="d e"`, or the old form `a b`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let words = words(text)?;
    let Some(first) = words.first() else { return Err("it says no value".into()) };
    if !first.contains('=') {
        let (name, value) = text.split_once(char::is_whitespace).ok_or("write name=value")?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("write name=value".to_owned()),
    };
    words.into_iter().map(pair).collect()
}

/// Words as a shell cuts them: quotes keep together, a backslash keeps a character.
fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut begun, mut quote) = (Vec::new(), String::new(), false, None);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (Some('\''), _) => word.push(letter),
            (_, '\\') => word.push(letters.next().ok_or("it ends in a backslash")?),
            (None, '"' | '\'') => (quote, begun) = (Some(letter), true),
            (None, _) if letter.is_whitespace() => {
                if begun || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (_, _) => word.push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    if begun || !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

fn exposed(text: &str) -> Result<String, String> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number = |n: &str| n.parse::<u16>().is_ok_and(|n| n > 0);
    let range = port.split_once('-').map_or_else(|| number(port), |(from, to)| number(from) && number(to));
    if range && ["tcp", "udp", "sctp"].contains(&protocol) {
        Ok(format!("{port}/{protocol}"))
    } else {
        Err(format!("{text:?} is not a port; write 80 or 53/udp"))
    }
}

/// Sets a variable; without a value, takes it away.
pub(super) fn env(config: &mut Map<String, Value>, name: &str, value: Option<&str>) {
    let Value::Array(all) = config.entry("Env").or_insert_with(|| json!([])) else { return };
    let prefix = format!("{name}=");
    all.retain(|one| !one.as_str().is_some_and(|one| one.starts_with(&prefix)));
    all.extend(value.map(|value| json!(format!("{name}={value}"))));
}

fn put(config: &mut Map<String, Value>, key: &str, name: &str, value: Value) {
    if let Value::Object(all) = config.entry(key).or_insert_with(|| json!({})) {
        all.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(changes: &[&str]) -> Result<String, String> {
        let changes: Vec<_> = changes.iter().map(|c| (*c).to_owned()).collect();
        apply(&changes).map(|c| Value::Object(c).to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn changes_are_read_as_in_a_dockerfile() {
        let table: &[(&[&str], &str)] = &[
            (&["CMD [\"a\", \"b c\"]"], r#"{"Cmd":["a","b c"]}"#),
            (&["cmd echo $X"], r#"{"Cmd":["/bin/sh","-c","echo $X"]}"#),
            (&["ENV A=b C=\"d e\" F=g\\ h", "ENV A=2"], r#"{"Env":["C=d e","F=g h","A=2"]}"#),
            (&["ENV old form is one"], r#"{"Env":["old=form is one"]}"#),
            (&["LABEL a='b'"], r#"{"Labels":{"a":"b"}}"#),
            (&["EXPOSE 80 53/udp"], r#"{"ExposedPorts":{"80/tcp":{},"53/udp":{}}}"#),
            (&["VOLUME /a /b", "VOLUME [\"/c d\"]"], r#"{"Volumes":{"/a":{},"/b":{},"/c d":{}}}"#),
            (
                &["USER web", "WORKDIR /x", "STOPSIGNAL SIGQUIT"],
                r#"{"User":"web","WorkingDir":"/x","StopSignal":"SIGQUIT"}"#,
            ),
        ];
        for (changes, expected) in table {
            assert_eq!(made(changes).as_deref(), Ok(*expected), "{changes:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for bad in
            ["RUN x", "CMD", "CMD [1]", "ENV =x", "EXPOSE 99999", "WORKDIR x", "LABEL a=\"b", "VOLUME [", "ENV a"]
        {
            let error = made(&[bad]).expect_err(bad);
            assert!(error.starts_with("cannot read the change"), "{error}");
        }
    }
}
