use super::*;

fn seal() -> Seal {
    Seal::new(&[7; 32])
}

fn open(dir: &Path, stamp: &str) -> Found {
    Store::open(dir, stamp, seal())
}

fn good(text: &str) -> Record {
    let bytes: Vec<u8> = (0..=255).collect();
    let reference = |path: &str, content| Reference { path: path.into(), content };
    let references = vec![reference(".env", None), reference("web.env", Some(bytes))];
    Record::Good(Good { project: "shop".into(), default_name: "shop".into(), text: text.into(), references })
}

fn key() -> RecordKey {
    RecordKey::Good("shop.yaml".into())
}

fn written(dir: &Path) {
    let mut found = open(dir, "0");
    assert_eq!(found.note, None);
    for number in 0..200 {
        let history = History { restarts: number, streak: 0, reason: "x".repeat(300) };
        found.store.put(RecordKey::History(format!("{number:064x}")), Record::History(history));
        found.store.put(key(), good(&format!("services: {{}} # {number}")));
        found.store.commit().unwrap();
    }
    assert!(!found.store.dirty());
}

#[test]
fn what_was_committed_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    let mut found = open(dir.path(), "1");
    assert_eq!(found.note, None);
    assert_eq!(found.records.len(), 201);
    assert_eq!(found.records[&key()], good("services: {} # 199"));
    found.store.remove(key());
    found.store.commit().unwrap();
    drop(found);
    assert!(!open(dir.path(), "2").records.contains_key(&key()));
}

#[test]
fn a_deleted_emptied_or_garbled_database_is_set_aside_and_said() {
    let garble = |bytes: &mut Vec<u8>| bytes.iter_mut().enumerate().for_each(|(i, b)| *b = (i * 7) as u8);
    let truncate = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    let empty = |bytes: &mut Vec<u8>| bytes.clear();
    type Damage<'a> = (&'a str, &'a dyn Fn(&mut Vec<u8>));
    let damages: [Damage<'_>; 3] = [("garbled", &garble), ("truncated", &truncate), ("emptied", &empty)];
    for (name, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path());
        let file = dir.path().join("db/db");
        let mut bytes = std::fs::read(&file).unwrap();
        damage(&mut bytes);
        std::fs::write(&file, bytes).unwrap();
        let mut found = open(dir.path(), "1");
        let note = found.note.unwrap_or_else(|| panic!("{name}: nothing is said"));
        assert!(note.contains("db.broken-1"), "{name}: {note}");
        found.store.put(key(), good("new"));
        found.store.commit().unwrap();
        drop(found.store);
        assert_eq!(open(dir.path(), "2").records[&key()], good("new"), "{name}");
    }
}

#[test]
fn a_database_whose_files_are_gone_is_not_taken_for_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    std::fs::remove_dir_all(dir.path().join("db")).unwrap();
    let found = open(dir.path(), "1");
    assert!(found.note.unwrap().contains("gone"));
    drop(found.store);
    assert_eq!(open(dir.path(), "2").note, None);
}

#[test]
fn two_databases_broken_within_a_second_are_both_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    for aside in ["db.broken-1", "db.broken-1-2", "db.broken-1-3"] {
        written(dir.path());
        std::fs::write(dir.path().join("db/db"), "").unwrap();
        let note = open(dir.path(), "1").note.unwrap();
        assert!(note.contains(aside) && dir.path().join(aside).exists(), "{note}");
    }
}

#[test]
fn a_database_whose_lock_is_held_for_a_moment_is_waited_for_and_not_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path());
    let first = open(dir.path(), "1");
    let closing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        drop(first);
    });
    let second = open(dir.path(), "2");
    closing.join().unwrap();
    assert_eq!(second.note, None);
    assert_eq!(second.records.len(), 201);
}

#[test]
fn a_flipped_bit_another_key_or_another_place_is_noticed() {
    let record = good("services: {}");
    let mut bytes = encode(b"a", &record, &seal());
    assert_eq!(decode(b"a", &bytes, &seal()).unwrap(), (record, true));
    let refused = "it is damaged, or sealed with another key than this host's";
    assert_eq!(decode(b"b", &bytes, &seal()).unwrap_err(), refused);
    assert_eq!(decode(b"a", &bytes, &Seal::new(&[8; 32])).unwrap_err(), refused);
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    assert_eq!(decode(b"a", &bytes, &seal()).unwrap_err(), refused);
}

#[test]
fn nothing_of_a_record_is_on_disk_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    let mut found = open(dir.path(), "0");
    found.store.put(key(), good("services: {} # hunter2"));
    found.store.commit().unwrap();
    drop(found);
    assert_eq!(open(dir.path(), "1").records[&key()], good("services: {} # hunter2"));
    assert!(!anywhere(dir.path(), b"hunter2"));
    let found = Store::open(dir.path(), "2", Seal::new(&[8; 32]));
    assert!(found.note.unwrap().contains("sealed with another key"));
}

fn anywhere(dir: &Path, what: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return anywhere(&path, what);
        }
        std::fs::read(path).unwrap().windows(what.len()).any(|part| part == what)
    })
}

#[test]
fn records_in_clear_are_read_and_sealed() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), "0"));
    let record = good("services: {}");
    let json = serde_json::to_vec(&record).unwrap();
    let sum = <sha2::Sha256 as sha2::Digest>::digest(&json);
    let old = [&[1_u8][..], &sum[..8], &json].concat();
    let db = sled::open(dir.path().join("db")).unwrap();
    db.insert(key().bytes(), old).unwrap();
    db.flush().unwrap();
    drop(db);
    let mut found = open(dir.path(), "1");
    assert_eq!((found.note, &found.records[&key()]), (None, &record));
    assert!(found.store.dirty());
    found.store.commit().unwrap();
    drop(found.store);
    let db = sled::open(dir.path().join("db")).unwrap();
    assert_eq!(db.get(key().bytes()).unwrap().unwrap()[0], 2);
}

#[test]
fn every_released_record_is_still_read() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("state-schema/records");
    let mut read = 0;
    for entry in std::fs::read_dir(samples).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let record: Record = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(decode(b"k", &encode(b"k", &record, &seal()), &seal()).unwrap(), (record, true));
        read += 1;
    }
    assert!(read >= 3, "a sample of each kind of record");
}
