//! PAX extended headers: `length key=value\n`, again and again.

/// The records that matter; all others are read and forgotten.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) linkpath: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<i64>,
    pub(crate) gid: Option<i64>,
    pub(crate) mtime: Option<(i64, u32)>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Records {
    /// Whether these records would change a member.
    pub(crate) fn changes_members(&self) -> bool {
        *self != Self::default()
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        // An empty value takes a record back (POSIX).
        let some = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = some(),
            b"linkpath" => self.linkpath = some(),
            b"size" => self.size = decimal(value)?.map(u64::try_from).transpose().map_err(|_| "a size is negative")?,
            b"uid" => self.uid = decimal(value)?,
            b"gid" => self.gid = decimal(value)?,
            b"mtime" => self.mtime = if value.is_empty() { None } else { Some(moment(value)?) },
            _ if key.starts_with(b"GNU.sparse.") => return Err("sparse files are not supported".into()),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// Reads a whole header; a wrong length anywhere refuses it all.
pub(crate) fn parse(mut data: &[u8]) -> Result<Records, String> {
    let mut records = Records::default();
    while !data.is_empty() {
        let (key, value, rest) = record(data).ok_or("an extended header is malformed")?;
        if key.contains(&0) {
            return Err("the key of an extended header holds a NUL".into());
        }
        records.set(key, value)?;
        data = rest;
    }
    Ok(records)
}

fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(12).position(|b| *b == b' ')?;
    let digits = &data[..space];
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let body = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    if equals == 0 {
        return None;
    }
    Some((&body[..equals], &body[equals + 1..], &data[length..]))
}

fn decimal(value: &[u8]) -> Result<Option<i64>, String> {
    if value.is_empty() {
        return Ok(None);
    }
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let text = std::str::from_utf8(value).ok().filter(|_| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit));
    text.and_then(|t| t.parse().ok()).map(Some).ok_or_else(|| "a number of an extended header is out of range".into())
}

/// Seconds with a fraction of any length; times before 1970 are negative and their fraction counts backwards.
fn moment(value: &[u8]) -> Result<(i64, u32), String> {
    let (whole, fraction) = match value.iter().position(|b| *b == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &b""[..]),
    };
    let seconds = decimal(whole)?.unwrap_or(0);
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err("a time of an extended header is malformed".into());
    }
    let digit = |at: usize| fraction.get(at).map_or(0, |b| u32::from(b - b'0'));
    let nanos = (0..9).fold(0, |n, at| n * 10 + digit(at));
    if nanos > 0 && whole.starts_with(b"-") {
        Ok((seconds.saturating_sub(1), 1_000_000_000 - nanos))
    } else {
        Ok((seconds, nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_wrong_lengths_refused() {
        let read = parse(b"11 path=abc\n20 mtime=1.5000000001\n".as_slice());
        assert!(read.is_err(), "the second length is wrong: {read:?}");
        let read = parse(b"12 path=abc\n14 mtime=-1.5\n").expect("well formed");
        assert_eq!(read.path.as_deref(), Some(&b"abc"[..]));
        assert_eq!(read.mtime, Some((-2, 500_000_000)));
        for bad in [&b"0 a=b\n"[..], b"6 ab=\n7", b"x", b"99 a=b\n", b"6 a=bc", b"5 =a\n", b"-6 a=b\n"] {
            assert!(parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        assert!(parse(b"22 GNU.sparse.major=1\n").is_err());
    }
}
