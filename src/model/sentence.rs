//! Errors, for people.

use std::error::Error;

/// An error with its causes, in one sentence. Each layer tells its own part only; the chain is joined once, at the edge.
#[must_use]
pub fn sentence(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}
