//! The room on real folders, and on a disk that is too small.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::{Onto, VolumeError, Volumes};
use crate::model::{Volume, VolumeName, sentence};

fn name(text: &str) -> VolumeName {
    VolumeName::parse(text).unwrap()
}

fn plain(text: &str) -> Volume {
    Volume { name: name(text), options: Default::default(), labels: Default::default(), external: false }
}

fn opened(at: &Path) -> Volumes {
    let (volumes, warnings) = Volumes::open(at).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    volumes
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn free() -> Result<(), VolumeError> {
    Ok(())
}

fn import(volumes: &Volumes, to: &str, tar: &[u8]) -> Result<(), VolumeError> {
    volumes.import(&name(to), tar, Onto::Nothing, &free)
}

/// Names of volumes, and of the folders that hold them.
fn there(volumes: &Volumes, at: &Path) -> Vec<String> {
    let listed: Vec<String> = volumes.list().iter().map(|stored| stored.volume.name.to_string()).collect();
    let entries = fs::read_dir(at.join("volumes")).unwrap().flatten().map(|entry| entry.file_name());
    let mut folders: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    folders.retain(|name| name != ".trash");
    folders.sort();
    assert_eq!(folders, listed);
    for volume in &folders {
        let inside = fs::read_dir(at.join("volumes").join(volume)).unwrap().count();
        assert_eq!(inside, 2, "{volume} holds more than its record and its data");
    }
    assert_eq!(fs::read_dir(at.join("volumes/.trash")).unwrap().count(), 0);
    listed
}

/// All about a file that a copy must keep.
fn facts(path: &Path) -> (u32, u32, u32, i64, u64, u64) {
    let seen = fs::symlink_metadata(path).unwrap();
    (seen.uid(), seen.gid(), seen.mode(), seen.mtime(), seen.len(), seen.nlink())
}

/// A volume `v` with one of everything.
fn furnished(at: &Path) -> (Volumes, std::path::PathBuf) {
    let volumes = opened(at);
    wait(volumes.make(&plain("v"))).unwrap();
    let data = at.join("volumes/v/_data");
    fs::create_dir_all(data.join("a/b")).unwrap();
    fs::write(data.join("a/file"), "content").unwrap();
    fs::set_permissions(data.join("a/file"), fs::Permissions::from_mode(0o4750)).unwrap();
    std::os::unix::fs::chown(data.join("a/b"), Some(1234), Some(567)).unwrap();
    fs::hard_link(data.join("a/file"), data.join("second")).unwrap();
    symlink("/etc/passwd", data.join("link")).unwrap();
    fs::File::create(data.join("holes")).unwrap().set_len(1 << 30).unwrap();
    (volumes, data)
}

const ALL: [&str; 6] = ["a", "a/b", "a/file", "second", "link", "holes"];

fn same(one: &Path, other: &Path) {
    for path in ALL {
        let (mut one, mut other) = (facts(&one.join(path)), facts(&other.join(path)));
        if path == "a" || path == "a/b" {
            // How many names a folder has is the file system's.
            (one.5, other.5, one.4, other.4) = (0, 0, 0, 0);
        }
        assert_eq!(one, other, "{path}");
    }
    assert_eq!(fs::read_to_string(other.join("second")).unwrap(), "content");
    assert_eq!(fs::metadata(other.join("second")).unwrap().ino(), fs::metadata(other.join("a/file")).unwrap().ino());
}

#[test]
fn a_copy_and_an_archive_hold_what_the_volume_holds() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, data) = furnished(dir.path());
    let copy = volumes.snapshot(&name("v"), "before", &|_, _| {}).unwrap();
    assert!(copy.bytes < 1 << 20, "holes are counted: {}", copy.bytes);
    same(&data, &dir.path().join("snapshots/v/before/_data"));
    let mut tar = Vec::new();
    // The archive has no holes: this file would be large.
    fs::File::options().write(true).open(data.join("holes")).unwrap().set_len(1000).unwrap();
    volumes.export(&name("v"), &mut tar).unwrap();
    import(&volumes, "w", &tar).unwrap();
    same(&data, &dir.path().join("volumes/w/_data"));
    for (to, compressed) in [("gzip", gzip(&tar)), ("zstd", zstd::encode_all(&tar[..], 1).unwrap())] {
        import(&volumes, to, &compressed).unwrap();
        same(&data, &dir.path().join("volumes").join(to).join("_data"));
    }
    fs::remove_dir_all(data.join("a")).unwrap();
    fs::write(data.join("later"), "").unwrap();
    volumes.restore(&name("v"), "before", &free, &|_, _| {}).unwrap();
    same(&dir.path().join("snapshots/v/before/_data"), &data);
    assert!(!data.join("later").exists());
    assert!(matches!(volumes.snapshot(&name("v"), "before", &|_, _| {}), Err(VolumeError::SnapshotExists { .. })));
    volumes.remove_snapshot(&name("v"), "before").unwrap();
    assert_eq!((volumes.snapshots(), dir.path().join("snapshots/v").exists()), (Vec::new(), false));
    assert!(matches!(volumes.remove_snapshot(&name("v"), "before"), Err(VolumeError::NoSnapshot { .. })));
    assert_eq!(there(&volumes, dir.path()), ["gzip", "v", "w", "zstd"]);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    flate2::bufread::GzEncoder::new(bytes, flate2::Compression::fast()).read_to_end(&mut packed).unwrap();
    packed
}

/// A tar of one file with so many bytes.
fn tar_of(path: &str, size: usize) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(size as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, path, io_of(size)).unwrap();
    tar.into_inner().unwrap()
}

fn io_of(size: usize) -> impl Read {
    std::io::repeat(7).take(size as u64)
}

#[test]
fn what_fails_leaves_no_volume_behind() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = opened(dir.path());
    let whole = tar_of("f", 100_000);
    let mut broken = whole.clone();
    broken[3] ^= 1;
    let cut = &gzip(&whole)[..60];
    for (tar, says) in
        [(&b""[..], "not one byte"), (&whole[..50_000], "archive"), (&broken, "checksum"), (cut, "archive")]
    {
        let error = import(&volumes, "new", tar).unwrap_err();
        assert!(
            sentence(&error).contains(says) && sentence(&error).contains("nothing was changed"),
            "{}",
            sentence(&error)
        );
        assert_eq!(there(&volumes, dir.path()), Vec::<String>::new());
    }
    let no_copy = volumes.restore(&name("new"), "none", &free, &|_, _| {});
    assert!(matches!(no_copy, Err(VolumeError::NoSnapshot { .. })));
    assert_eq!(there(&volumes, dir.path()), Vec::<String>::new());
    // Into one that is there: it stays as it is, empty or not.
    wait(volumes.make(&plain("empty"))).unwrap();
    import(&volumes, "empty", &broken).unwrap_err();
    import(&volumes, "full", &tar_of("deep/er/f", 10)).unwrap();
    assert!(matches!(import(&volumes, "full", &whole), Err(VolumeError::NotEmpty { .. })));
    volumes.import(&name("full"), &broken[..], Onto::Anything, &free).unwrap_err();
    assert_eq!(fs::read(dir.path().join("volumes/full/_data/deep/er/f")).unwrap(), [7; 10]);
    volumes.import(&name("full"), &whole[..], Onto::Anything, &free).unwrap();
    assert!(dir.path().join("volumes/full/_data/f").exists() && !dir.path().join("volumes/full/_data/deep").exists());
    assert_eq!(there(&volumes, dir.path()), ["empty", "full"]);
}

#[test]
fn what_was_imported_or_restored_empty_is_not_filled_from_an_image() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = opened(dir.path());
    let fills = |volumes: &Volumes, text: &str| wait(volumes.ready(&plain(text))).unwrap().fill.is_some();
    let nothing = vec![0; 1024];
    import(&volumes, "imported", &nothing).unwrap();
    wait(volumes.make(&plain("made"))).unwrap();
    volumes.snapshot(&name("made"), "empty", &|_, _| {}).unwrap();
    wait(volumes.make(&plain("other"))).unwrap();
    import(&volumes, "other", &nothing).unwrap();
    assert!(fills(&volumes, "made"));
    wait(volumes.remove(&name("made"), free)).unwrap();
    volumes.restore(&name("made"), "empty", &free, &|_, _| {}).unwrap();
    // Also by what is on the disk.
    for volumes in [volumes, opened(dir.path())] {
        for text in ["imported", "made", "other"] {
            assert!(!fills(&volumes, text), "{text}");
        }
    }
}

#[test]
fn a_volume_that_somebody_starts_with_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let volumes = opened(dir.path());
    import(&volumes, "v", &tar_of("f", 10)).unwrap();
    volumes.snapshot(&name("v"), "s", &|_, _| {}).unwrap();
    let start = wait(volumes.ready(&plain("v"))).unwrap();
    let tar = tar_of("g", 10);
    let replaced = || volumes.import(&name("v"), &tar[..], Onto::Anything, &free);
    assert!(matches!(replaced(), Err(VolumeError::Busy { .. })));
    assert!(matches!(volumes.restore(&name("v"), "s", &free, &|_, _| {}), Err(VolumeError::Busy { .. })));
    assert!(matches!(wait(volumes.remove(&name("v"), free)), Err(VolumeError::Busy { .. })));
    drop(start);
    let needed = || VolumeError::Needed { name: name("v"), by: "the container c".into(), instead: "stop it" };
    let refused = volumes.restore(&name("v"), "s", &|| Err(needed()), &|_, _| {}).unwrap_err();
    assert_eq!(refused.to_string(), "the volume v is needed by the container c; stop it");
    assert!(matches!(wait(volumes.remove(&name("v"), move || Err(needed()))), Err(VolumeError::Needed { .. })));
    replaced().unwrap();
    wait(volumes.remove(&name("v"), free)).unwrap();
    assert_eq!(there(&volumes, dir.path()), Vec::<String>::new());
}

/// A small file system, in a mount namespace of this thread, which is gone with it.
fn small_disk(kib: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let options = format!("size={kib}k,mode=755");
    mount(Some("small"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
    dir
}

#[test]
fn on_a_full_disk_all_is_as_it_was() {
    let dir = small_disk(2048);
    let at = dir.path().join("data");
    fs::create_dir(&at).unwrap();
    let volumes = opened(&at);
    let big = tar_of("big", 1_200_000);
    let full = |error: VolumeError| {
        let text = sentence(&error);
        assert!(matches!(error, VolumeError::NoSpace { .. }), "{text}");
        assert!(text.starts_with("no space left on ") && text.ends_with("; nothing was changed"), "{text}");
    };
    // Too large for a new one and for an empty one.
    wait(volumes.make(&plain("empty"))).unwrap();
    full(import(&volumes, "new", &tar_of("big", 4 << 20)).unwrap_err());
    full(import(&volumes, "empty", &tar_of("big", 4 << 20)).unwrap_err());
    assert_eq!(there(&volumes, &at), ["empty"]);
    assert!(wait(volumes.ready(&plain("empty"))).unwrap().fill.is_some(), "it is as it was");
    // Once it fits, twice it does not.
    import(&volumes, "v", &big).unwrap();
    full(volumes.snapshot(&name("v"), "s", &|_, _| {}).unwrap_err());
    assert_eq!((volumes.snapshots(), fs::read_dir(at.join("snapshots")).unwrap().count()), (Vec::new(), 0));
    full(volumes.import(&name("v"), &big[..], Onto::Anything, &free).unwrap_err());
    assert_eq!(fs::metadata(at.join("volumes/v/_data/big")).unwrap().len(), 1_200_000);
    // A copy that cannot be put back, neither into a volume nor into a new one.
    wait(volumes.remove(&name("v"), free)).unwrap();
    import(&volumes, "v", &tar_of("big", 800_000)).unwrap();
    volumes.snapshot(&name("v"), "s", &|_, _| {}).unwrap();
    fs::write(at.join("volumes/v/_data/more"), "more").unwrap();
    full(volumes.restore(&name("v"), "s", &free, &|_, _| {}).unwrap_err());
    assert_eq!(fs::read_to_string(at.join("volumes/v/_data/more")).unwrap(), "more");
    fs::write(at.join("filler"), vec![1; 700_000]).unwrap_or_default();
    wait(volumes.remove(&name("v"), free)).unwrap();
    fs::write(at.join("filler2"), vec![1; 400_000]).unwrap();
    full(volumes.restore(&name("v"), "s", &free, &|_, _| {}).unwrap_err());
    assert_eq!(there(&volumes, &at), ["empty"]);
    // There is place again.
    for filler in ["filler", "filler2"] {
        fs::remove_file(at.join(filler)).unwrap();
    }
    volumes.restore(&name("v"), "s", &free, &|_, _| {}).unwrap();
    assert_eq!(fs::metadata(at.join("volumes/v/_data/big")).unwrap().len(), 800_000);
    let mut tar = Vec::new();
    volumes.export(&name("v"), &mut tar).unwrap();
    assert!(tar.len() > 800_000);
}
