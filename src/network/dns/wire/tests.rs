use super::*;

/// A question for `www.Example.com` A, as a C library sends it, with further bytes after the question.
fn question(additionals: &[u8], count: u8) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, count];
    bytes.extend(b"\x03www\x07Example\x03com\x00\x00\x01\x00\x01");
    bytes.extend(additionals);
    bytes
}

/// An OPT record: 4096 bytes, DO.
const OPT_RECORD: &[u8] = &[0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 0];

fn refused(bytes: &[u8]) -> u16 {
    match Question::parse(bytes) {
        Err(NoQuestion::Reply(reply)) => {
            assert_eq!(reply[..2], bytes[..2]);
            assert!(reply[2] & 0x80 != 0, "an answer");
            u16::from(reply[3] & 15)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn questions_are_read() {
    let plain = Question::parse(&question(&[], 0)).unwrap();
    assert_eq!(plain.text().as_deref(), Some("www.example.com"));
    assert_eq!((plain.id, plain.kind(), plain.edns), (0x1234, Kind::A, None));
    assert_eq!((plain.room(Transport::Udp), plain.room(Transport::Tcp)), (512, 65535));
    assert!(plain.wants_recursion() && !plain.checking_disabled() && !plain.wants_dnssec());
    let edns = Question::parse(&question(OPT_RECORD, 1)).unwrap();
    assert_eq!(edns.room(Transport::Udp), 4096);
    assert!(edns.wants_dnssec());
    // To others the name goes as it was asked, with our size.
    let asked = edns.asking(7);
    assert_eq!(asked[..2], [0, 7]);
    assert_eq!(asked[12..29], question(&[], 0)[12..29]);
    assert_eq!(asked[asked.len() - 8..], [0x04, 0xd0, 0, 0, 0x80, 0, 0, 0]);
}

#[test]
fn what_is_no_question_is_refused_or_not_answered() {
    let good = question(&[], 0);
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    for len in 0..12 {
        assert_eq!(Question::parse(&good[..len]), Err(NoQuestion::Silent), "{len} bytes");
    }
    assert_eq!(Question::parse(&with(2, 0x81)), Err(NoQuestion::Silent), "an answer");
    for len in 12..good.len() {
        assert_eq!(refused(&good[..len]), code::FORMAT, "{len} bytes");
    }
    assert_eq!(refused(&with(2, 0x29)), code::NOT_IMPLEMENTED, "an update");
    assert_eq!(refused(&with(5, 0)), code::FORMAT, "no question");
    assert_eq!(refused(&with(5, 2)), code::FORMAT, "two questions");
    assert_eq!(refused(&with(4, 255)), code::FORMAT, "many questions");
    assert_eq!(refused(&with(7, 1)), code::FORMAT, "an answer in a question");
    assert_eq!(refused(&with(11, 1)), code::FORMAT, "a record that is missing");
    assert_eq!(refused(&with(12, 0xc0)), code::FORMAT, "a pointer");
    assert_eq!(refused(&with(12, 64)), code::FORMAT, "a long part");
    assert_eq!(refused(&with(good.len() - 1, 3)), code::REFUSED, "the class CHAOS");
    assert_eq!(refused(&question(&[OPT_RECORD, OPT_RECORD].concat(), 2)), code::FORMAT, "two OPT records");
    let mut later = OPT_RECORD.to_vec();
    later[6] = 1;
    let Err(NoQuestion::Reply(reply)) = Question::parse(&question(&later, 1)) else { panic!("a version to come") };
    assert_eq!((reply[3] & 15, reply[reply.len() - 6]), (0, 1), "BADVERS: 16");
    let mut long = good[..12].to_vec();
    long.extend([&[63][..], &[b'a'; 63]].concat().repeat(4));
    long.extend([0, 0, 1, 0, 1]);
    assert_eq!(refused(&long), code::FORMAT, "a name of 257 bytes");
}

#[test]
fn a_part_with_a_dot_in_it_is_no_name_of_a_container() {
    let mut bytes = question(&[], 0);
    bytes[14] = b'.';
    assert_eq!(Question::parse(&bytes).unwrap().text(), None);
}

/// The answer to `question`: so many A records, with this TTL each, then what follows.
fn answer(id: u16, records: u16, ttl: u32, more: &[u8], authorities: u8, additionals: u8) -> Vec<u8> {
    let mut bytes = question(&[], 0);
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    bytes[2] = 0x81;
    bytes[3] = 0x80;
    bytes[6..8].copy_from_slice(&records.to_be_bytes());
    (bytes[9], bytes[11]) = (authorities, additionals);
    for number in 0..records {
        bytes.extend([0xc0, 12, 0, 1, 0, 1]);
        bytes.extend(ttl.to_be_bytes());
        bytes.extend([0, 4, 10, 0]);
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(more);
    bytes
}

fn soa(ttl: u32, least: u32) -> Vec<u8> {
    let mut bytes = vec![0xc0, 12, 0, 6, 0, 1];
    bytes.extend(ttl.to_be_bytes());
    bytes.extend([0, 22, 0, 0]);
    bytes.extend([9; 16]);
    bytes.extend(least.to_be_bytes());
    bytes
}

#[test]
fn an_answer_is_passed_on_with_the_askers_number_name_and_size() {
    let asked = Question::parse(&question(&[], 0)).unwrap();
    let read = Answer::parse(answer(9, 2, 300, OPT_RECORD, 0, 1), 9, &asked).unwrap();
    assert_eq!(read.ttl(), Some(300));
    let mut other = question(OPT_RECORD, 1);
    other[..2].copy_from_slice(&[0xab, 0xcd]);
    other[13] = b'W';
    let other = Question::parse(&other).unwrap();
    let passed = other.passed_on(&read, 100, Transport::Udp);
    let again = Answer::parse(passed.clone(), 0xabcd, &asked).unwrap();
    assert_eq!(again.ttl(), Some(200));
    assert_eq!(passed[13], b'W');
    assert_eq!((passed[11], passed.len()), (1, read.len() + 11), "an OPT record for who has one");
    let passed = asked.passed_on(&read, 1000, Transport::Udp);
    assert_eq!((passed[11], passed.len()), (0, read.len()), "none for who has none");
    assert_eq!(Answer::parse(passed, 0x1234, &asked).unwrap().ttl(), Some(0));
}

#[test]
fn what_does_not_fit_is_cut_after_a_whole_record_and_says_so() {
    let asked = Question::parse(&question(&[], 0)).unwrap();
    let read = Answer::parse(answer(9, 100, 300, &soa(5, 5), 1, 0), 9, &asked).unwrap();
    let passed = asked.passed_on(&read, 0, Transport::Udp);
    assert!(passed.len() <= 512 && passed.len() > 490, "{}", passed.len());
    let again = Answer::parse(passed, 0x1234, &asked).unwrap();
    assert!(again.truncated());
    assert_eq!(again.records.len(), (512 - 33) / 16);
    assert_eq!(asked.passed_on(&read, 0, Transport::Tcp).len(), read.len());
    let edns = Question::parse(&question(OPT_RECORD, 1)).unwrap();
    assert!(!Answer::parse(edns.passed_on(&read, 0, Transport::Udp), 0x1234, &asked).unwrap().truncated());
}

#[test]
fn only_the_answer_to_the_question_is_taken() {
    let asked = Question::parse(&question(&[], 0)).unwrap();
    let good = answer(9, 1, 300, &[], 0, 0);
    assert!(Answer::parse(good.clone(), 9, &asked).is_some());
    assert!(Answer::parse(good.clone(), 8, &asked).is_none(), "another number");
    for (at, value, what) in
        [(2, 1, "a question"), (13, b'x', "another name"), (30, 28, "another kind"), (5, 0, "nothing asked")]
    {
        let mut bad = good.clone();
        bad[at] = value;
        assert!(Answer::parse(bad, 9, &asked).is_none(), "{what}");
    }
    for len in 0..good.len() {
        assert!(Answer::parse(good[..len].to_vec(), 9, &asked).is_none(), "{len} bytes");
    }
}

#[test]
fn how_long_an_answer_holds() {
    let asked = Question::parse(&question(&[], 0)).unwrap();
    let ttl = |bytes: Vec<u8>| Answer::parse(bytes, 9, &asked).unwrap().ttl();
    let coded = |mut bytes: Vec<u8>, code: u8| {
        bytes[3] |= code;
        bytes
    };
    assert_eq!(ttl(answer(9, 1, 300, &soa(60, 5), 1, 0)), Some(60), "the least of all records");
    assert_eq!(ttl(answer(9, 0, 0, &soa(60, 5), 1, 0)), Some(5), "nothing: by the SOA");
    assert_eq!(ttl(coded(answer(9, 0, 0, &soa(4, 50), 1, 0), 3)), Some(4), "no such name: by the SOA");
    assert_eq!(ttl(answer(9, 0, 0, &[], 0, 0)), None, "nothing, and no SOA");
    assert_eq!(ttl(coded(answer(9, 0, 0, &soa(60, 60), 1, 0), 2)), None, "a failure");
    assert_eq!(ttl(answer(9, 1, 0x8000_0001, &[], 0, 0)), Some(0), "RFC 2181, 8");
    let mut cut = answer(9, 1, 300, &[], 0, 0);
    cut[2] |= 2;
    assert_eq!(ttl(cut), None, "a part");
}

#[test]
fn no_answer_of_another_server_makes_it_panic() {
    let asked = Question::parse(&question(&[], 0)).unwrap();
    let good = answer(9, 5, 300, &[soa(60, 60).as_slice(), OPT_RECORD].concat(), 1, 1);
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap()
    };
    let mut taken = 0;
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..random() % 4 {
            let at = random() % bytes.len();
            bytes[at] = u8::try_from(random() % 256).unwrap();
        }
        bytes.truncate(good.len() - random() % 3 * (random() % 40));
        if let Some(answer) = Answer::parse(bytes, 9, &asked) {
            taken += 1;
            answer.ttl();
            for age in [0, 10_000] {
                asked.passed_on(&answer, age, Transport::Udp);
            }
        }
    }
    assert!(taken > 1000, "{taken}");
}
