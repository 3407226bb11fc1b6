use super::*;

#[test]
fn the_file_is_read_as_the_c_library_reads_it() {
    let text = "# nameserver 9.9.9.9\n; comment\nsearch a.test\nnameserver 10.0.0.1\n\tnameserver  fd00::1 # x\n\
                nameserver fe80::1%eth7\nnameserver nonsense\nnameserver\nnameserver 10.0.0.4\n\
                options ndots:3 timeout:2 attempts:9 timeout:x rotate\n";
    let servers = Servers::parse(text, |name| (name == "eth7").then_some(7));
    let texts: Vec<_> = servers.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.0.0.1:53", "[fd00::1]:53", "[fe80::1%7]:53"]);
    assert_eq!((servers.timeout, servers.attempts), (Duration::from_secs(2), 5));
    assert_eq!(Servers::parse("", |_| None), Servers::default());
}

#[test]
fn another_file_is_seen_after_a_second_at_most_also_behind_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resolv.conf");
    let mut conf = ResolvConf::new(path.clone());
    let start = Instant::now();
    let mut seconds = 0;
    let mut look = |conf: &mut ResolvConf| {
        seconds += 1;
        let (servers, changed) = conf.look(start + Duration::from_secs(seconds));
        (servers.addresses.iter().map(|server| server.ip().to_string()).collect::<Vec<_>>().join(" "), changed)
    };
    assert_eq!(look(&mut conf), (String::new(), false), "no file");
    fs::write(&path, "nameserver 10.0.0.1\n").unwrap();
    assert_eq!(look(&mut conf), ("10.0.0.1".into(), true), "it came");
    assert_eq!(look(&mut conf), ("10.0.0.1".into(), false), "it is the same");
    fs::write(&path, "nameserver 10.0.0.2\n").unwrap();
    assert_eq!(look(&mut conf), ("10.0.0.2".into(), true), "it was written");
    for (name, address) in [("one", "10.0.1.1"), ("two", "10.0.1.2")] {
        fs::write(folder.path().join(name), format!("nameserver {address}\n")).unwrap();
        std::os::unix::fs::symlink(name, folder.path().join("draft")).unwrap();
        fs::rename(folder.path().join("draft"), &path).unwrap();
        assert_eq!(look(&mut conf), (address.into(), true), "a link was put in its place");
    }
    fs::write(folder.path().join("two"), "nameserver 10.0.1.3\n# longer\n").unwrap();
    assert_eq!(look(&mut conf), ("10.0.1.3".into(), true), "what it leads to was written");
    fs::remove_file(&path).unwrap();
    assert_eq!(look(&mut conf), (String::new(), true), "it went");
    fs::write(&path, "nameserver 10.0.0.9\n").unwrap();
    let (_, changed) = conf.look(start);
    assert!(!changed, "not looked at twice in a second");
    assert_eq!(look(&mut conf), ("10.0.0.9".into(), true));
}
