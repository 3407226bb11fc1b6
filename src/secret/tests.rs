use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{KeyUse, Vault, VaultError, encrypt_to, is_name};

fn open(dir: &Path) -> Vault {
    let (vault, notes) = Vault::open(dir).unwrap();
    assert_eq!(notes, Vec::<String>::new());
    vault
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn what_is_set_is_kept_encrypted_and_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let vault = open(dir.path());
    vault.set("db", b"hunter2").unwrap();
    vault.set("db", b"correct horse").unwrap();
    vault.set("empty", b"").unwrap();
    assert_eq!(vault.changes(), 3);
    let (again, recipient) = (open(dir.path()), vault.recipient());
    assert_eq!(again.recipient(), recipient);
    assert_eq!(*again.get("db").unwrap(), b"correct horse");
    assert_eq!(*again.get("empty").unwrap(), b"");
    let names: Vec<String> = again.list().unwrap().into_iter().map(|kept| kept.name).collect();
    assert_eq!(names, ["db", "empty"]);
    let folder = dir.path().join("secrets");
    assert_eq!((mode(&folder), mode(&folder.join("host.key")), mode(&folder.join("db.age"))), (0o700, 0o600, 0o600));
    for entry in fs::read_dir(&folder).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(7).any(|part| part == b"hunter2" || part == b"correct"));
    }
    again.remove("db").unwrap();
    assert!(matches!(again.get("db"), Err(VaultError::Missing(_))));
    assert!(matches!(again.remove("db"), Err(VaultError::Missing(_))));
    assert!(matches!(again.set("../x", b""), Err(VaultError::Name(_))));
    assert!(matches!(again.set("big", &vec![0; (1 << 20) + 1]), Err(VaultError::Encrypt(_))));
}

#[test]
fn files_are_encrypted_to_a_host_and_to_no_other() {
    let (at, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (here, there) = (open(at.path()), open(other.path()));
    let sealed = encrypt_to(&here.recipient(), b"hunter2").unwrap();
    assert!(sealed.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));
    assert_eq!(*here.decrypt(sealed.as_bytes()).unwrap(), b"hunter2");
    let refused = there.decrypt(sealed.as_bytes()).unwrap_err();
    assert!(refused.contains("encrypted to another key") && refused.contains(&there.recipient()), "{refused}");
    let garbled = sealed.replacen("YWdl", "AAAA", 1);
    for (sealed, said) in [(&b"hunter2"[..], "not in the age format"), (garbled.as_bytes(), "")] {
        let refused = here.decrypt(sealed).unwrap_err();
        assert!(refused.contains(said) && !refused.contains("hunter2"), "{refused}");
    }
    here.set("cut", &[7; 100_000]).unwrap();
    let mut cut = fs::read(at.path().join("secrets/cut.age")).unwrap();
    cut.truncate(70_000);
    assert!(here.decrypt(&cut).unwrap_err().contains("damaged"));
    assert!(encrypt_to("age1nobody", b"x").is_err());
}

#[test]
fn the_same_key_gives_the_same_keys_one_for_each_use() {
    let dir = tempfile::tempdir().unwrap();
    let (vault, again) = (open(dir.path()), open(dir.path()));
    assert_eq!(vault.key(KeyUse::Records), again.key(KeyUse::Records));
    assert_ne!(vault.key(KeyUse::Records), vault.key(KeyUse::Fingerprints));
    assert_eq!(format!("{vault:?}"), dir.path().join("secrets").display().to_string());
}

#[test]
fn a_key_that_is_lost_broken_or_open_to_others_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let vault = open(dir.path());
    vault.set("db", b"hunter2").unwrap();
    let (key, kept) = (dir.path().join("secrets/host.key"), dir.path().join("kept"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let (_, notes) = Vault::open(dir.path()).unwrap();
    assert!(notes[0].contains("open to others (0644)"), "{notes:?}");
    assert_eq!(mode(&key), 0o600);
    fs::rename(&key, &kept).unwrap();
    let (other, notes) = Vault::open(dir.path()).unwrap();
    assert!(notes[0].contains("is gone and a new one was made"), "{notes:?}");
    let refused = other.get("db").unwrap_err().to_string();
    assert!(refused.contains("encrypted to another key"), "{refused}");
    fs::write(&key, "no key").unwrap();
    let (_, notes) = Vault::open(dir.path()).unwrap();
    assert!(notes[0].contains("set aside as"), "{notes:?}");
    fs::rename(&kept, &key).unwrap();
    assert_eq!(*open(dir.path()).get("db").unwrap(), b"hunter2");
}

#[test]
fn names_are_those_of_plain_files() {
    for name in ["a", "db_password", "1.2-x", "_x"] {
        assert!(is_name(name), "{name}");
    }
    for name in ["", ".", "..", ".x", "-x", "a/b", "a b", "ä", &"x".repeat(129)] {
        assert!(!is_name(name), "{name}");
    }
}
