//! Where a value stands in a JSON text, so that a complaint can point at it.

use std::path::Path;

use crate::model::Location;

/// The place of the key (or, in a list, of the value) that `way` leads to; the nearest one above where it is not there.
pub(super) fn locate<S: AsRef<str>>(path: &Path, text: &str, way: &[S]) -> Location {
    let mut walk = Walk { text: text.as_bytes(), at: 0, best: None };
    let way: Vec<&str> = way.iter().map(AsRef::as_ref).collect();
    // A text that is not JSON ends the walk early; what was found up to there is the answer.
    let _ = walk.value(Some(&way));
    let Some(at) = walk.best else { return Location::whole(path) };
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    Location::at(path, u32::try_from(line).unwrap_or(0), u32::try_from(column).unwrap_or(0))
}

/// One pass over the text. `way` is what is still to go, none off the way.
struct Walk<'t> {
    text: &'t [u8],
    at: usize,
    best: Option<usize>,
}

impl Walk<'_> {
    fn value(&mut self, way: Option<&[&str]>) -> Option<()> {
        self.space();
        match *self.text.get(self.at)? {
            b'{' => self.parts(b'}', way, true),
            b'[' => self.parts(b']', way, false),
            b'"' => self.string().map(|_| ()),
            _ => {
                let rest = &self.text[self.at..];
                self.at += rest.iter().position(|b| b",]} \t\r\n".contains(b)).unwrap_or(rest.len());
                Some(())
            }
        }
    }

    fn parts(&mut self, end: u8, way: Option<&[&str]>, named: bool) -> Option<()> {
        self.at += 1;
        for number in 0_usize.. {
            self.space();
            if *self.text.get(self.at)? == end {
                self.at += 1;
                return Some(());
            }
            let begin = self.at;
            let name = if named { self.string()? } else { number.to_string() };
            let next = way.and_then(|way| way.split_first()).filter(|(first, _)| **first == name).map(|(_, rest)| rest);
            if next.is_some() {
                self.best = Some(begin);
            }
            if named {
                self.space();
                self.at += 1;
            }
            self.value(next)?;
            self.space();
            if *self.text.get(self.at)? == b',' {
                self.at += 1;
            }
        }
        Some(())
    }

    fn string(&mut self) -> Option<String> {
        let begin = self.at;
        self.at += 1;
        loop {
            match *self.text.get(self.at)? {
                b'\\' => self.at += 2,
                b'"' => break,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        serde_json::from_slice(self.text.get(begin..self.at)?).ok()
    }

    fn space(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_that_of_the_way_and_not_of_a_namesake() {
        let text = "{\n \"mirrors\": 1, \"a\": {\"x\\\"\": [1, {\"mirrors\": 2}],\n  \"mirrors\": [\"p\", \"q\"]}}";
        let place = |way: &[&str]| {
            let found = locate(Path::new("f"), text, way);
            (found.line, found.column)
        };
        assert_eq!(place(&["mirrors"]), (2, 2));
        assert_eq!(place(&["a", "mirrors"]), (3, 3));
        assert_eq!(place(&["a", "mirrors", "1"]), (3, 20));
        assert_eq!(place(&["a", "x\"", "1", "mirrors"]), (2, 34));
        assert_eq!(place(&["a", "none"]), (2, 16), "the nearest above");
        assert_eq!(place(&["none"]), (0, 0));
        assert_eq!(locate(Path::new("f"), "{\"a\": [", &["a", "0"]).line, 1);
    }
}
