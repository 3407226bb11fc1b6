//! `Healthcheck` of an image's configuration, as Docker writes it.

use serde_json::Value;

use crate::model::{HealthCheck, HealthTest};

/// What it says. An image is not refused for a check that means nothing: then it has none.
pub(super) fn read(written: &Value, shell: &[String]) -> HealthCheck {
    let millis = |name: &str| written[name].as_u64().map(|nanos| nanos.div_ceil(1_000_000)).filter(|ms| *ms > 0);
    HealthCheck {
        test: test(&written["Test"], shell),
        interval_ms: millis("Interval"),
        timeout_ms: millis("Timeout"),
        retries: written["Retries"].as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0),
        start_period_ms: millis("StartPeriod"),
        start_interval_ms: millis("StartInterval"),
    }
}

fn test(written: &Value, shell: &[String]) -> Option<HealthTest> {
    let words: Option<Vec<String>> = written.as_array()?.iter().map(|word| word.as_str().map(str::to_owned)).collect();
    // A NUL would end a C string early: what was checked would not be what runs.
    let words = words.filter(|words| !words.iter().any(|word| word.contains('\0')))?;
    match words.split_first()? {
        (first, _) if first == "NONE" => Some(HealthTest::Nothing),
        (first, rest) if first == "CMD" && !rest.is_empty() => Some(HealthTest::Command(rest.to_vec())),
        (first, [line]) if first == "CMD-SHELL" && shell.is_empty() => Some(HealthTest::Shell(line.clone())),
        (first, rest) if first == "CMD-SHELL" && !rest.is_empty() => {
            let usual = ["/bin/sh".to_owned(), "-c".to_owned()];
            let shell = if shell.is_empty() { &usual } else { shell };
            Some(HealthTest::Command(shell.iter().chain(rest).cloned().collect()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_docker_writes_is_read() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let written = json!({"Test": ["CMD-SHELL", "curl -f x"], "Interval": 5_000_000_000_u64, "Timeout": 1, "Retries": 4,
            "StartPeriod": 0, "StartInterval": 2_000_000});
        let check = read(&written, &[]);
        assert_eq!(check.test, Some(HealthTest::Shell("curl -f x".into())));
        assert_eq!((check.interval_ms, check.timeout_ms, check.retries), (Some(5_000), Some(1), Some(4)));
        assert_eq!((check.start_period_ms, check.start_interval_ms), (None, Some(2)));
        let bash = read(&written, &words(&["/bin/bash", "-ec"])).test;
        assert_eq!(bash, Some(HealthTest::Command(words(&["/bin/bash", "-ec", "curl -f x"]))));
        let test = |written: Value| read(&json!({"Test": written}), &[]).test;
        assert_eq!(test(json!(["CMD", "a", "b"])), Some(HealthTest::Command(words(&["a", "b"]))));
        assert_eq!(test(json!(["NONE"])), Some(HealthTest::Nothing));
        for nothing in [json!([]), json!(null), json!(["CMD"]), json!(["RUN", "x"]), json!(["CMD", "a\0b"]), json!([7])]
        {
            assert_eq!(test(nothing.clone()), None, "{nothing}");
        }
    }
}
