//! How a layer says "this is gone" (OCI image-spec, layer.md, "Whiteouts"), read from names alone.

/// What the last part of a name in a layer means.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::image) enum Mark<'a> {
    /// An ordinary entry.
    Entry,
    /// `.wh.name`: `name` of the lower layers is gone.
    Gone(&'a [u8]),
    /// `.wh..wh..opq`: everything of the lower layers in this directory is gone.
    Opaque,
    /// Bookkeeping of AUFS (`.wh..wh.plnk`, `.wh..wh.aufs`): means nothing here.
    Skip,
    /// A whiteout that names the directory itself, its parent or nothing.
    Trap,
}

const PREFIX: &[u8] = b".wh.";

/// Reads the parts of a clean relative path. A whiteout is only ever the last part; AUFS bookkeeping may be a directory.
pub(in crate::image) fn read<'a>(parts: &[&'a [u8]]) -> Mark<'a> {
    let Some((last, parents)) = parts.split_last() else { return Mark::Entry };
    for parent in parents {
        match mark(parent) {
            Mark::Entry => {}
            Mark::Skip => return Mark::Skip,
            Mark::Gone(_) | Mark::Opaque | Mark::Trap => return Mark::Trap,
        }
    }
    mark(last)
}

fn mark(part: &[u8]) -> Mark<'_> {
    let Some(name) = part.strip_prefix(PREFIX) else { return Mark::Entry };
    match name {
        b"" | b"." | b".." => Mark::Trap,
        b".wh..opq" => Mark::Opaque,
        _ if name.starts_with(PREFIX) => Mark::Skip,
        _ => Mark::Gone(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Mark<'_> {
        let parts: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        read(&parts)
    }

    #[test]
    fn names_are_read_as_the_specification_says() {
        assert_eq!(of("etc/passwd"), Mark::Entry);
        assert_eq!(of("etc/.wh.passwd"), Mark::Gone(b"passwd"));
        assert_eq!(of("etc/.wh..hidden"), Mark::Gone(b".hidden"));
        assert_eq!(of("etc/.wh..wh..opq"), Mark::Opaque);
        assert_eq!(of(".wh..wh.plnk/123.456"), Mark::Skip);
        assert_eq!(of(".wh..wh.aufs"), Mark::Skip);
        for trap in [".wh.", ".wh..", "etc/.wh...", ".wh.etc/passwd", "a/.wh..wh..opq/b"] {
            assert_eq!(of(trap), Mark::Trap, "{trap}");
        }
    }
}
