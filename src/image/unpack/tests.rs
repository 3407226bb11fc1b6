//! What goes into a directory and its record comes out again, byte for byte; and what was changed is found. As root.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::check::{Damage, check};
use super::ingest::Ingest;
use super::layer::{Unpacking, unpack_reader};
use super::rebuild::rebuild;
use crate::image::error::LayerError;
use crate::image::hash::sha256_hex;
use crate::image::settings::Limits;
use crate::model::Digest;

/// A header with its checksum, then data and padding.
fn member(out: &mut Vec<u8>, kind: u8, name: &str, link: &str, data: &[u8], odd: u8) {
    let mut h = [0u8; 512];
    let mut put = |at: usize, bytes: &[u8]| h[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, format!("{:07o}\0", if odd & 1 == 0 { 0o644 } else { 0o4751 }).as_bytes());
    put(108, format!("{:07o}\0", u32::from(odd & 2) * 500).as_bytes());
    put(116, format!("{:07o}\0", u32::from(odd & 4) * 11).as_bytes());
    put(124, format!("{:011o}\0", data.len()).as_bytes());
    put(136, format!("{:011o}\0", 1_700_000_000 + u64::from(odd)).as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, if odd & 8 == 0 { b"ustar\x0000" } else { b"ustar  \0" });
    put(329, b"0000001\0");
    put(337, b"0000003\0");
    // Nobody reads these bytes, but they are part of the archive.
    put(500, &[odd, 0, odd]);
    let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
    h[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend(h);
    out.extend(data);
    out.extend(vec![odd; data.len().wrapping_neg() % 512]);
}

fn pax(out: &mut Vec<u8>, key: &str, value: &str) {
    let bare = key.len() + value.len() + 3;
    let length = (bare..).find(|n| n.to_string().len() + bare == *n).unwrap();
    member(out, b'x', "pax", "", format!("{length} {key}={value}\n").as_bytes(), 0);
}

struct Layer {
    temp: tempfile::TempDir,
    ingest: Ingest,
    done: Unpacking,
}

impl Layer {
    fn of(packed: &[u8]) -> Result<Self, LayerError> {
        let temp = tempfile::tempdir().unwrap();
        let ingest = Ingest::make(temp.path()).unwrap();
        let (done, source) = unpack_reader(packed, &ingest, None, &Limits::default())?;
        assert_eq!(source.digest.as_str(), format!("sha256:{}", sha256_hex(packed)));
        assert_eq!(source.bytes, packed.len() as u64);
        Ok(Self { temp, ingest, done })
    }
    fn at(&self, path: &str) -> PathBuf {
        self.ingest.diff().join(path)
    }
    fn rebuilt(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        rebuild(self.ingest.path())?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
    fn check(&self) -> Result<(), Damage> {
        assert!(self.temp.path().exists());
        check(self.ingest.path(), &self.done.diff_id)
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    flate2::read::GzEncoder::new(data, flate2::Compression::fast()).read_to_end(&mut packed).unwrap();
    packed
}

/// The same bytes in the forms that layers have.
fn forms(tar: &[u8], cut: usize) -> Vec<Vec<u8>> {
    let (head, tail) = tar.split_at(cut.min(tar.len()));
    let skippable = [&0x184D_2A50u32.to_le_bytes()[..], &4u32.to_le_bytes(), b"skip"].concat();
    let zstd = |data: &[u8]| zstd::encode_all(data, 1).unwrap();
    vec![
        tar.to_vec(),
        [gzip(head), gzip(tail)].concat(),
        [skippable.clone(), zstd(head), skippable.clone(), zstd(tail), skippable].concat(),
    ]
}

/// A few names, so that members meet each other.
fn names() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a",
        "b",
        "d/",
        "d/a",
        "d/e/f",
        "l",
        "l/x",
        ".wh.a",
        "d/.wh..wh..opq",
        ".wh..wh.aufs",
        "./",
    ])
}

fn archives() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop::sample::select(vec![b'0', b'0', b'0', b'5', b'2', b'1', b'3', b'6']);
    let one = (kinds, names(), names(), prop::collection::vec(any::<u8>(), 0..1500), any::<u8>());
    let tail = prop::collection::vec(any::<u8>(), 0..3000);
    (prop::collection::vec(one, 0..25), tail).prop_map(|(members, tail)| {
        let mut tar = Vec::new();
        for (kind, name, link, data, odd) in members {
            if odd % 5 == 0 {
                pax(&mut tar, "mtime", "1600000000.25");
            }
            let data = if kind == b'0' && !name.ends_with('/') { data } else { Vec::new() };
            member(&mut tar, kind, name, if kind == b'1' || kind == b'2' { link } else { "" }, &data, odd);
        }
        tar.extend([0; 1024]);
        tar.extend(tail);
        tar
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn an_archive_is_rebuilt_as_it_was(tar in archives(), cut in 0usize..4000) {
        for packed in forms(&tar, cut) {
            // What is refused is refused in every form.
            let Ok(layer) = Layer::of(&packed) else { continue };
            prop_assert_eq!(layer.done.diff_id.as_str(), format!("sha256:{}", sha256_hex(&tar)));
            if layer.done.rebuildable {
                prop_assert_eq!(layer.rebuilt().unwrap(), tar.clone());
                prop_assert_eq!(layer.check(), Ok(()));
            } else {
                prop_assert_eq!(layer.check(), Err(Damage::Unknown));
            }
        }
    }
}

fn sample() -> Layer {
    let mut tar = Vec::new();
    member(&mut tar, b'5', "etc/", "", b"", 0);
    member(&mut tar, b'0', "etc/passwd", "", b"root:x:0:0", 0);
    member(&mut tar, b'0', "etc/shadow", "", b"root:*", 1);
    member(&mut tar, b'2', "etc/mtab", "/proc/mounts", b"", 0);
    member(&mut tar, b'1', "etc/passwd-", "etc/passwd", b"", 0);
    member(&mut tar, b'0', "implied/deep/file", "", &[7; 300_000], 0);
    member(&mut tar, b'0', "etc/.wh.gone", "", b"", 0);
    tar.extend([0; 1024]);
    let layer = Layer::of(&tar).unwrap();
    assert!(layer.done.rebuildable);
    assert_eq!(layer.check(), Ok(()));
    layer
}

#[test]
fn damage_is_found_and_named() {
    let as_before = |path: &Path, change: &dyn Fn(&Path)| {
        let time = std::fs::metadata(path).unwrap().modified().unwrap();
        change(path);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    };
    type Change = fn(&Layer);
    let table: [(Change, &str); 10] = [
        (|l| std::fs::write(l.at("etc/stranger"), "").unwrap(), "etc/stranger: it is not of the layer"),
        (|l| std::fs::remove_file(l.at("etc/shadow")).unwrap(), "etc/shadow: it is gone"),
        (|l| std::fs::remove_file(l.at("etc/gone")).unwrap(), "etc/gone: it is gone"),
        (|l| std::fs::write(l.at("etc/shadow"), "longer than before").unwrap(), "etc/shadow: its size"),
        (|l| std::fs::set_permissions(l.at("etc/shadow"), PermissionsExt::from_mode(0o666)).unwrap(), "mode is 0666"),
        (|l| std::os::unix::fs::chown(l.at("etc/passwd"), Some(5), None).unwrap(), "owner is 5:0"),
        (
            |l| {
                std::fs::remove_file(l.at("etc/mtab")).unwrap();
                std::os::unix::fs::symlink("/etc/shadow", l.at("etc/mtab")).unwrap();
            },
            "etc/mtab: it leads to /etc/shadow",
        ),
        (
            |l| {
                std::fs::remove_file(l.at("etc/passwd-")).unwrap();
                std::fs::copy(l.at("etc/passwd"), l.at("etc/passwd-")).unwrap();
            },
            "etc/passwd-: it is no longer the same file as etc/passwd",
        ),
        (
            |l| {
                std::fs::rename(l.at("implied"), l.at("moved")).unwrap();
                std::os::unix::fs::symlink("moved", l.at("implied")).unwrap();
            },
            "implied/deep/file: something else stands",
        ),
        (
            |l| {
                std::fs::remove_file(l.at("etc/shadow")).unwrap();
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    l.at("etc/shadow"),
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::empty(),
                    0,
                )
                .unwrap();
            },
            "etc/shadow: ",
        ),
    ];
    for (change, told) in table {
        let layer = sample();
        change(&layer);
        let text = layer.check().expect_err(told).to_string();
        assert!(text.contains(told) && !text.contains('\n'), "{text:?} should say {told:?}");
    }
    let layer = sample();
    as_before(&layer.at("implied/deep/file"), &|path| {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[1234] ^= 1;
        std::fs::write(path, bytes).unwrap();
    });
    let text = layer.check().unwrap_err().to_string();
    assert_eq!(text, "implied/deep/file: its content is not what was unpacked");
    assert!(layer.rebuilt().unwrap_err().to_string().contains("implied/deep/file"));
}

#[test]
fn a_damaged_record_is_damage_and_a_missing_one_is_not() {
    let layer = sample();
    let path = layer.ingest.path().join("split.zst");
    let good = std::fs::read(&path).unwrap();
    for at in [0, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&path, &bad).unwrap();
        assert!(matches!(layer.check(), Err(Damage::Found(_))), "a flipped bit at {at}");
    }
    std::fs::write(&path, &good[..good.len() - 5]).unwrap();
    assert!(matches!(layer.check(), Err(Damage::Found(_))), "cut");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(layer.check(), Err(Damage::Unknown));
}

#[test]
fn replaced_contents_are_kept_while_they_are_small() {
    let mut tar = Vec::new();
    for round in 0..3u8 {
        member(&mut tar, b'0', "same", "", &[round; 100_000], 0);
        member(&mut tar, b'1', "other", "same", b"", 0);
    }
    tar.extend([0; 1024]);
    let layer = Layer::of(&tar).unwrap();
    assert!(layer.done.rebuildable && layer.check() == Ok(()));
    assert_eq!(layer.rebuilt().unwrap(), tar);
    let mut large = Vec::new();
    member(&mut large, b'0', "same", "", &[1; 2 << 20], 0);
    member(&mut large, b'0', "same", "", b"small", 0);
    let layer = Layer::of(&large).unwrap();
    assert!(!layer.done.rebuildable);
    assert_eq!(layer.check(), Err(Damage::Unknown));
    assert!(layer.rebuilt().is_err());
}

#[test]
fn contents_are_found_where_links_led() {
    let mut tar = Vec::new();
    member(&mut tar, b'2', "l", "d", b"", 0);
    member(&mut tar, b'0', "l/x", "", b"through the link", 0);
    member(&mut tar, b'5', "l", "", b"", 0);
    member(&mut tar, b'0', "l/x", "", b"in a directory of its own", 0);
    let layer = Layer::of(&tar).unwrap();
    assert_eq!(std::fs::read(layer.at("d/x")).unwrap(), b"through the link");
    assert_eq!((layer.rebuilt().unwrap(), layer.check()), (tar, Ok(())));
}

#[test]
fn what_takes_the_place_of_a_directory_keeps_its_own_time() {
    let mut tar = Vec::new();
    member(&mut tar, b'5', "d", "", b"", 0);
    member(&mut tar, b'0', "d", "", b"a file now", 152);
    let layer = Layer::of(&tar).unwrap();
    assert_eq!(layer.check(), Ok(()));
}

#[test]
fn a_promise_is_compared() {
    let mut tar = Vec::new();
    member(&mut tar, b'0', "f", "", b"x", 0);
    let temp = tempfile::tempdir().unwrap();
    let unpack = |promised: &str| {
        let ingest = Ingest::make(temp.path()).unwrap();
        let promised = Digest::parse(&format!("sha256:{promised}")).unwrap();
        unpack_reader(tar.as_slice(), &ingest, Some(&promised), &Limits::default()).map(|(done, _)| done.bytes)
    };
    assert_eq!(unpack(&sha256_hex(&tar)).unwrap(), tar.len() as u64);
    assert!(matches!(unpack(&sha256_hex(b"else")), Err(LayerError::DiffId { .. })));
}
