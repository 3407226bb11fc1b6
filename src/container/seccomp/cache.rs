//! Compiled programs, kept as files: most containers of a machine have the same profile and the same capabilities.
//!
//! ```text
//! DATA/seccomp/HASH    magic, number of instructions, instructions, SHA-256 of all that in hex
//! ```
//! The name is the hash of what the program depends on: profile, capabilities, kernel, and the very program that compiled it. A file
//! that is not whole is not used.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{Instruction, LONGEST, ProfileError, program_for};
use crate::model::{CapabilitySet, Seccomp, SpecHash};

const MAGIC: &[u8; 8] = b"LSBPF-01";
const HEAD: usize = MAGIC.len() + 4;
const HASH: usize = 64;
/// One more, and the others are taken away: profiles come and go with the files of their owners.
const MOST: usize = 256;

/// [`program_for`], from the folder's files where one fits. What cannot be kept is compiled each time.
pub fn cached(
    folder: &Path,
    seccomp: &Seccomp,
    privileged: bool,
    capabilities: CapabilitySet,
) -> Result<Option<Vec<Instruction>>, ProfileError> {
    let text = match seccomp {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Default if privileged => return Ok(None),
        Seccomp::Default => "",
        Seccomp::Profile(text) => text,
    };
    let Ok(build) = build() else { return program_for(seccomp, privileged, capabilities) };
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let key = format!("{build}\n{kernel}\n{:x}\n{text}", capabilities.mask());
    let file = folder.join(SpecHash::of(key.as_bytes()).as_str());
    if let Some(program) = fs::read(&file).ok().as_deref().and_then(parse) {
        return Ok(Some(program));
    }
    let program = program_for(seccomp, privileged, capabilities)?;
    if let Some(program) = &program {
        // What is not kept costs the next start a little.
        let _ = keep(folder, &file, &written(program));
    }
    Ok(program)
}

/// Tells builds of ours apart.
fn build() -> io::Result<String> {
    let meta = fs::metadata("/proc/self/exe")?;
    Ok(format!("{} {} {} {}.{}", meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
}

fn written(program: &[Instruction]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(u32::try_from(program.len()).unwrap_or(0).to_le_bytes());
    for Instruction { code, jt, jf, k } in program {
        bytes.extend(code.to_le_bytes());
        bytes.extend([*jt, *jf]);
        bytes.extend(k.to_le_bytes());
    }
    let hash = SpecHash::of(&bytes);
    bytes.extend(hash.as_str().as_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> Option<Vec<Instruction>> {
    let (body, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH)?)?;
    let (head, code) = body.split_at_checked(HEAD)?;
    let (magic, count) = head.split_at(MAGIC.len());
    let count = u32::from_le_bytes(count.try_into().ok()?) as usize;
    let whole = magic == MAGIC && (1..=LONGEST).contains(&count) && code.len() == count * 8;
    if !whole || SpecHash::of(body).as_str().as_bytes() != hash {
        return None;
    }
    let one = |c: &[u8]| Instruction {
        code: u16::from_le_bytes([c[0], c[1]]),
        jt: c[2],
        jf: c[3],
        k: u32::from_le_bytes([c[4], c[5], c[6], c[7]]),
    };
    Some(code.chunks_exact(8).map(one).collect())
}

/// Readers see all of it or nothing.
fn keep(folder: &Path, file: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let there: Vec<_> = fs::read_dir(folder)?.flatten().collect();
    if there.len() >= MOST {
        there.iter().for_each(|entry| drop(fs::remove_file(entry.path())));
    }
    let draft = folder.join(format!(".{}.new", std::process::id()));
    fs::File::create(&draft)?.write_all(bytes)?;
    fs::rename(draft, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_compiled_once_and_a_damaged_one_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let get = |seccomp: &Seccomp, caps| cached(folder.path(), seccomp, false, caps).expect("compiles");
        let fresh = program_for(&Seccomp::Default, false, CapabilitySet::STRICT).expect("compiles");
        let files = || fs::read_dir(folder.path()).expect("there").flatten().map(|e| e.path()).collect::<Vec<_>>();
        assert_eq!(get(&Seccomp::Default, CapabilitySet::STRICT), fresh);
        let file = files().pop().expect("kept");
        let whole = fs::read(&file).expect("a file");
        assert_eq!(parse(&whole), fresh);
        assert_eq!(get(&Seccomp::Default, CapabilitySet::STRICT), fresh);
        // A bit in the middle, a shorter one, nothing, other bytes.
        let mut flipped = whole.clone();
        flipped[1000] ^= 1;
        for odd in [flipped, whole[..whole.len() - 8].to_vec(), Vec::new(), vec![0; 5000], MAGIC.to_vec()] {
            assert_eq!(parse(&odd), None);
            fs::write(&file, &odd).expect("written");
            assert_eq!(get(&Seccomp::Default, CapabilitySet::STRICT), fresh);
            assert_eq!(fs::read(&file).expect("a file"), whole, "kept anew");
        }
        assert_ne!(get(&Seccomp::Default, CapabilitySet::ALL), fresh, "other capabilities, another program");
        assert_eq!(files().len(), 2);
        assert_eq!(get(&Seccomp::Unconfined, CapabilitySet::ALL), None);
    }
}
