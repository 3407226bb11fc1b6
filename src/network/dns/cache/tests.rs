use super::super::wire::Question;
use super::*;

fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    bytes.push(u8::try_from(name.len()).unwrap());
    bytes.extend(name.as_bytes());
    bytes.extend([0, 0, 16, 0, 1]);
    bytes
}

/// An answer of one TXT record of this length.
fn answer(name: &str, ttl: u32, len: u16) -> (Key, Arc<Answer>) {
    let asked = question(name);
    let question = Question::parse(&asked).unwrap();
    let mut bytes = asked;
    (bytes[2], bytes[7]) = (0x81, 1);
    bytes.extend([0xc0, 12, 0, 16, 0, 1]);
    bytes.extend(ttl.to_be_bytes());
    bytes.extend(len.to_be_bytes());
    bytes.extend(vec![0; usize::from(len)]);
    let key = Key::new(&question, &["10.0.0.1:53".parse().unwrap()]);
    (key, Arc::new(Answer::parse(bytes, 1, &question).unwrap()))
}

#[test]
fn an_answer_is_kept_as_long_as_it_says_and_ages() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    let after = |seconds| now + Duration::from_secs(seconds);
    let (key, kept) = answer("short", 10, 4);
    cache.keep(key.clone(), kept, now);
    assert_eq!(cache.find(&key, now).map(|(_, age)| age), Some(0));
    assert_eq!(cache.find(&key, after(9)).map(|(_, age)| age), Some(9));
    assert_eq!(cache.find(&key, after(10)), None);
    let (long, kept) = answer("long", 1_000_000, 4);
    cache.keep(long.clone(), kept, now);
    assert!(cache.find(&long, after(3599)).is_some() && cache.find(&long, after(3600)).is_none());
    let (none, kept) = answer("none", 0, 4);
    cache.keep(none.clone(), kept, now);
    assert_eq!(cache.find(&none, now), None);
}

#[test]
fn what_is_used_stays_and_the_whole_is_bounded() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    let (used, kept) = answer("used", 1000, 4);
    cache.keep(used.clone(), kept, now);
    let (unused, kept) = answer("unused", 1000, 4);
    cache.keep(unused.clone(), kept, now);
    for number in 0..1000 {
        let (key, kept) = answer(&number.to_string(), 1000, 60_000);
        cache.keep(key, kept, now);
        assert!(cache.find(&used, now).is_some(), "{number}");
        assert!(cache.young.bytes + cache.old.bytes <= 2 * BYTES + 2 * 60_100);
    }
    assert!(cache.find(&unused, now).is_none());
    for number in 0..3 * ANSWERS {
        let (key, kept) = answer(&number.to_string(), 1000, 4);
        cache.keep(key, kept, now);
    }
    assert!(cache.young.answers.len() + cache.old.answers.len() <= 2 * (ANSWERS + 1));
    cache.clear();
    assert!(cache.find(&used, now).is_none());
}
