//! `$VAR`, `${VAR}` and its forms with defaults, errors and replacements (compose-spec, "Interpolation").
//!
//! Pure: the variables come in as a function. The result is bounded, so that variables which hold each other cannot grow
//! without limit.

const MAX_NESTING: usize = 32;
const MAX_RESULT: usize = 1024 * 1024;

/// A text with its variables filled in, and the names that had no value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) text: String,
    pub(super) unset: Vec<String>,
}

/// Why a text cannot be filled in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Where it begins, in characters from 0.
    pub(super) offset: usize,
    pub(super) message: String,
    pub(super) hint: &'static str,
}

/// What a `$` that begins no variable means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lone {
    /// A mistake (in a state file).
    Refused,
    /// A dollar (in a `.env` file, where passwords hold them).
    Kept,
}

/// Fills in every variable of `text`.
pub(super) fn interpolate(text: &str, lone: Lone, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Filled, Fault> {
    let mut reader = Reader { text, at: 0, lone, lookup, unset: Vec::new() };
    let text = reader.run(0, false)?;
    Ok(Filled { text, unset: reader.unset })
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    lone: Lone,
    lookup: &'t dyn Fn(&str) -> Option<String>,
    unset: Vec<String>,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn fault(&self, at: usize, message: impl Into<String>, hint: &'static str) -> Fault {
        let offset = self.text.get(..at).map_or(0, |before| before.chars().count());
        Fault { offset, message: message.into(), hint }
    }

    /// Reads to the end of the text, or up to the brace that closes the variable around it.
    fn run(&mut self, depth: usize, inside: bool) -> Result<String, Fault> {
        if depth > MAX_NESTING {
            return Err(self.fault(self.at, format!("variables are nested deeper than {MAX_NESTING}"), ""));
        }
        let mut out = String::new();
        let mut braces = 0_usize;
        while let Some(c) = self.rest().chars().next() {
            match c {
                '}' if inside && braces == 0 => break,
                '$' => self.dollar(depth, &mut out)?,
                other => {
                    braces = match other {
                        '{' => braces + 1,
                        '}' => braces.saturating_sub(1),
                        _ => braces,
                    };
                    out.push(other);
                    self.at += other.len_utf8();
                }
            }
            if out.len() > MAX_RESULT {
                return Err(self.fault(
                    self.at,
                    format!("with its variables filled in this is longer than {MAX_RESULT} bytes"),
                    "",
                ));
            }
        }
        Ok(out)
    }

    fn dollar(&mut self, depth: usize, out: &mut String) -> Result<(), Fault> {
        let start = self.at;
        self.at += 1;
        if self.rest().starts_with('$') {
            self.at += 1;
            out.push('$');
        } else if self.rest().starts_with('{') {
            self.at += 1;
            let value = self.braced(start, depth)?;
            out.push_str(&value);
        } else if let Some(name) = self.name() {
            let value = self.value(&name);
            out.push_str(&value);
        } else if self.lone == Lone::Kept {
            out.push('$');
        } else {
            return Err(self.fault(start, "`$` begins no variable here", "write `$$` for a dollar sign"));
        }
        Ok(())
    }

    fn name(&mut self) -> Option<String> {
        let rest = self.rest();
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return None;
        }
        let name: String = rest.chars().take_while(|c| good(*c)).collect();
        self.at += name.len();
        Some(name)
    }

    fn value(&mut self, name: &str) -> String {
        (self.lookup)(name).unwrap_or_else(|| {
            self.unset.push(name.to_owned());
            String::new()
        })
    }

    /// After `${`.
    fn braced(&mut self, start: usize, depth: usize) -> Result<String, Fault> {
        let Some(name) = self.name() else {
            let hint = "a variable is written `${NAME}`; write `$$` for a dollar sign";
            return Err(self.fault(start, "`${` is not followed by the name of a variable", hint));
        };
        let (colon, sign) = self.operator();
        let Some(sign) = sign else {
            self.close(start)?;
            return Ok(self.value(&name));
        };
        // What is not used must not warn about the variables in it.
        let before = self.unset.len();
        let word = self.run(depth + 1, true)?;
        self.close(start)?;
        let set = (self.lookup)(&name).filter(|value| !colon || !value.is_empty());
        let uses_word = match sign {
            '+' => set.is_some(),
            _ => set.is_none(),
        };
        if !uses_word {
            self.unset.truncate(before);
        }
        match (sign, set) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', value) => Ok(value.map_or_else(String::new, |_| word)),
            (_, Some(value)) => Ok(value),
            (_, None) => {
                let state = if colon { "not set or empty" } else { "not set" };
                let message = match word.trim() {
                    "" => format!("the required variable {name} is {state}"),
                    word => format!("the required variable {name} is {state}: {}", shown(word)),
                };
                Err(self.fault(start, message, "set it in the `.env` file beside the state file"))
            }
        }
    }

    fn operator(&mut self) -> (bool, Option<char>) {
        let rest = self.rest();
        let colon = rest.starts_with(':');
        let sign = rest.chars().nth(usize::from(colon)).filter(|c| matches!(c, '-' | '+' | '?'));
        if sign.is_some() {
            self.at += 1 + usize::from(colon);
        }
        (colon, sign)
    }

    fn close(&mut self, start: usize) -> Result<(), Fault> {
        if self.rest().starts_with('}') {
            self.at += 1;
            return Ok(());
        }
        let hint =
            "the forms are ${A}, ${A:-default}, ${A-default}, ${A:?message}, ${A?message}, ${A:+other}, ${A+other}";
        if self.rest().is_empty() {
            return Err(self.fault(start, "`${` is not closed by `}`", hint));
        }
        Err(self.fault(start, "this is not a form of `${…}`", hint))
    }
}

fn shown(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "A" => Some("a".to_owned()),
            "E" => Some(String::new()),
            "BIG" => Some("x".repeat(100_000)),
            _ => None,
        }
    }

    #[test]
    fn every_form_gives_what_compose_gives() {
        for (text, filled) in [
            ("plain", "plain"),
            ("$A-$A", "a-a"),
            ("${A}", "a"),
            ("$$A", "$A"),
            ("$${A}", "${A}"),
            ("${A:-d}", "a"),
            ("${E:-d}", "d"),
            ("${E-d}", ""),
            ("${U:-d}", "d"),
            ("${U-d}", "d"),
            ("${U:-${V:-c}}", "c"),
            ("${U:-{\"k\": 1}}", "{\"k\": 1}"),
            ("${A:+alt}", "alt"),
            ("${E:+alt}", ""),
            ("${E+alt}", "alt"),
            ("${U+alt}", ""),
            ("${A:?m}", "a"),
            ("${E?m}", ""),
            ("${U:-}", ""),
            ("${U:-é$A}", "éa"),
        ] {
            let result = interpolate(text, Lone::Refused, &lookup).unwrap();
            assert_eq!((result.text.as_str(), result.unset.len()), (filled, 0), "{text}");
        }
    }

    #[test]
    fn variables_without_a_value_are_named_once_they_are_used() {
        let unset = |text| interpolate(text, Lone::Refused, &lookup).unwrap().unset;
        assert_eq!(unset("$U ${V}"), ["U", "V"]);
        assert_eq!(unset("${A:-$U}"), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_variable_is_refused_with_its_place() {
        let deep = "${U:-".repeat(100);
        for (text, offset) in [
            ("é$1", 1),
            ("a $", 2),
            ("${", 0),
            ("${A", 0),
            ("${A:", 0),
            ("${A!}", 0),
            ("${}", 0),
            ("${U:?no}", 0),
            ("${E:?no}", 0),
            ("${U?}", 0),
            ("$BIG$BIG$BIG$BIG$BIG$BIG$BIG$BIG$BIG$BIG$BIG", 44),
            (&deep, 165),
        ] {
            assert_eq!(interpolate(text, Lone::Refused, &lookup).unwrap_err().offset, offset, "{text}");
        }
        assert_eq!(interpolate("a$1$", Lone::Kept, &lookup).unwrap().text, "a$1$");
    }
}
