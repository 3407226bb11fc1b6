//! Variables of `-e` and `--env-file`, as Docker reads them.

use std::path::PathBuf;

use crate::cli::failure::Failure;

/// Those of the files first, then those of the command line; a later one takes the place of an earlier one.
pub(in crate::cli) fn read(variables: &[String], files: &[PathBuf]) -> Result<Vec<String>, Failure> {
    let own = |name: &str| std::env::var(name).ok();
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|err| Failure::Said(format!("cannot read {}: {err}", file.display())))?;
        let lines = of_file(&text, own);
        all.extend(lines.map_err(|(line, why)| Failure::Said(format!("{}:{line}: {why}", file.display())))?);
    }
    for variable in variables {
        if variable.is_empty() || variable.starts_with('=') {
            return Err(Failure::Said(format!("-e {variable:?}: a variable needs a name; write NAME=value")));
        }
        all.extend(complete(variable, own));
    }
    Ok(all)
}

/// `NAME=value` as it is; `NAME` alone with the value that it has here, or not at all.
fn complete(variable: &str, own: impl Fn(&str) -> Option<String>) -> Option<String> {
    if variable.contains('=') {
        return Some(variable.to_owned());
    }
    own(variable).map(|value| format!("{variable}={value}"))
}

/// One per line, values as they are, quotes and all; `#` begins a comment at the beginning of a line only.
fn of_file(text: &str, own: impl Fn(&str) -> Option<String> + Copy) -> Result<Vec<String>, (usize, String)> {
    let mut all = Vec::new();
    for (number, line) in (1..).zip(text.strip_prefix('\u{feff}').unwrap_or(text).lines()) {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or(line);
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err((number, format!("{name:?} is no name of a variable; write NAME=value")));
        }
        all.extend(complete(line, own));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_docker_reads_them() {
        let own = |name: &str| (name == "HERE").then(|| "1".to_owned());
        let read = |text| of_file(text, own);
        let text = "\u{feff}# no\n\nA=b c # d\n  B=\"q\"\nC=\nHERE\nELSEWHERE\n";
        assert_eq!(read(text), Ok(["A=b c # d", "B=\"q\"", "C=", "HERE=1"].map(str::to_owned).to_vec()));
        assert_eq!(read("A=1\n=2").map_err(|(line, _)| line), Err(2));
        assert_eq!(read("A B=2").map_err(|(line, _)| line), Err(1));
        assert!(super::read(&["=x".into()], &[]).is_err());
    }
}
