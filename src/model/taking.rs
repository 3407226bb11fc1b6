//! Which generations of a service are kept, and which newer images are taken by themselves.

use std::fmt;

pub use semver::{Version as Release, VersionReq as Releases};

/// What follows when too many containers of a new version fail (`update_config: failure_action`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailureAction {
    /// What was not replaced yet stays as it is.
    Pause,
    /// The others are replaced all the same.
    Continue,
    /// Back to the last version that was good.
    Rollback,
}

/// `x-longshore: keep_generations` and `update`. Not part of the hash.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taking {
    /// So many generations are kept; where the file does not say so, as many as the daemon's configuration says.
    pub keep: Option<u32>,
    /// What follows when a new version fails (`deploy.update_config: failure_action`); none: nothing.
    pub on_failure: Option<FailureAction>,
    /// What is taken by itself; none: nothing.
    pub auto: Option<AutoUpdate>,
    /// Its tag is followed now, and its registry asked this often. No file says this.
    pub follow_ms: Option<u64>,
}

/// Which newer images are taken, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoUpdate {
    /// Which.
    pub choice: Choice,
    /// When; none: at any time.
    pub window: Option<Window>,
    /// How often the registry is asked.
    pub interval_ms: u64,
}

/// Which newer images are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Whatever the tag stands for.
    Digest,
    /// The highest tag that is a version in this range.
    Semver(Releases),
}

/// A time of the day, by the host's clock, on some days of the week or on all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// From this minute of the day on.
    pub from: u16,
    /// Until this minute, which is not in it; not after `from`: it is that minute of the next day.
    pub until: u16,
    /// The days on which it begins, Monday first.
    pub days: [bool; 7],
}

/// A moment of the week by the host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// 0 is Monday.
    pub day: u8,
    /// The minute of the day.
    pub minute: u16,
}

const DAY: u16 = 24 * 60;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Window {
    /// Parses `02:00-05:00`, `22:00-04:00`, `mon-fri 02:00-05:00` or `sat,sun 00:00-24:00`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (first, second) = (words.next()?, words.next());
        let (days, hours) = second.map_or((None, first), |hours| (Some(first), hours));
        let (from, until) = hours.split_once('-')?;
        let (from, until) = (minute(from)?, minute(until)?);
        let days = days.map_or(Some([true; 7]), weekdays)?;
        (words.next().is_none() && from < DAY && from != until).then_some(Self { from, until, days })
    }

    /// Whether it is open.
    #[must_use]
    pub fn open(&self, at: Moment) -> bool {
        let begins = |day: u8| self.days.get(usize::from(day % 7)).copied().unwrap_or(false);
        if self.from < self.until {
            return begins(at.day) && (self.from..self.until).contains(&at.minute);
        }
        begins(at.day) && at.minute >= self.from || begins(at.day + 6) && at.minute < self.until
    }

    /// In how many minutes it opens; 0: it is open.
    #[must_use]
    pub fn opens_in(&self, at: Moment) -> u32 {
        let later = |ahead: u32| {
            let total = u32::from(at.minute) + ahead;
            let day = (u32::from(at.day) + total / u32::from(DAY)) % 7;
            let minute = total % u32::from(DAY);
            Moment { day: u8::try_from(day).unwrap_or(0), minute: u16::try_from(minute).unwrap_or(0) }
        };
        (0..=8 * u32::from(DAY)).find(|ahead| self.open(later(*ahead))).unwrap_or(0)
    }
}

fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |t: &str| (t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse::<u16>().ok());
    let (hours, minutes) = (digits(hours)??, digits(minutes)??);
    (minutes < 60 && hours * 60 + minutes <= DAY).then_some(hours * 60 + minutes)
}

fn weekdays(text: &str) -> Option<[bool; 7]> {
    let day = |text: &str| DAYS.iter().position(|name| text.eq_ignore_ascii_case(name));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let mut at = first;
        loop {
            days[at] = true;
            if at == last {
                break;
            }
            at = (at + 1) % 7;
        }
    }
    Some(days)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != [true; 7] {
            let days: Vec<&str> = DAYS.iter().zip(self.days).filter(|(_, on)| *on).map(|(name, _)| *name).collect();
            write!(f, "{} ", days.join(","))?;
        }
        let (from, until) = (self.from, self.until);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, until / 60, until % 60)
    }
}

/// The version that a tag is: `1.2.3` or `v1.2.3`, without a pre-release and without build metadata.
#[must_use]
pub fn release(tag: &str) -> Option<Release> {
    let version = Release::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()?;
    (version.pre.is_empty() && version.build.is_empty()).then_some(version)
}

/// Of these tags the highest that is a version in the range and higher than `above`. Of two spellings of one version the one without
/// a `v`.
#[must_use]
pub fn highest<'a>(tags: impl Iterator<Item = &'a str>, range: &Releases, above: Option<&Release>) -> Option<&'a str> {
    let versions = tags.filter_map(|tag| Some((release(tag)?, tag)));
    let fitting = versions.filter(|(version, _)| range.matches(version) && above.is_none_or(|above| version > above));
    fitting.max_by(|a, b| a.0.cmp(&b.0).then_with(|| b.1.len().cmp(&a.1.len()))).map(|(_, tag)| tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read_and_open_when_they_say() {
        let open = |text: &str, day, minute| Window::parse(text).unwrap().open(Moment { day, minute });
        assert!(open("02:00-05:00", 3, 120) && open("02:00-05:00", 3, 299) && !open("02:00-05:00", 3, 300));
        // Over midnight it belongs to the day on which it began.
        assert!(open("fri 22:00-04:00", 4, 22 * 60) && open("fri 22:00-04:00", 5, 239));
        assert!(!open("fri 22:00-04:00", 4, 239) && !open("fri 22:00-04:00", 5, 22 * 60));
        assert!(open("sun 23:00-01:00", 0, 10) && !open("sun 23:00-01:00", 6, 10));
        assert!(open("sat-mon 00:00-24:00", 0, 1439) && !open("sat-mon 00:00-24:00", 1, 0));
        for bad in [
            "",
            "2:00-5:00",
            "02:00",
            "02:00-02:00",
            "24:00-01:00",
            "02:00-24:01",
            "xxx 02:00-05:00",
            "02:60-03:00",
            "mon 01:00-02:00 x",
        ] {
            assert_eq!(Window::parse(bad), None, "{bad}");
        }
        for text in ["02:00-05:00", "mon,tue,sun 22:00-04:00", "sat 00:00-24:00"] {
            assert_eq!(Window::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_time_until_a_window_opens() {
        let ahead = |text: &str, day, minute| Window::parse(text).unwrap().opens_in(Moment { day, minute });
        assert_eq!(ahead("02:00-05:00", 3, 130), 0);
        assert_eq!(ahead("02:00-05:00", 3, 60), 60);
        assert_eq!(ahead("02:00-05:00", 3, 300), 21 * 60);
        assert_eq!(ahead("mon 02:00-05:00", 0, 300), 7 * 1440 - 180);
    }

    #[test]
    fn the_highest_stable_version_of_the_range_is_taken_and_none_that_is_lower() {
        let tags = ["latest", "1.2.3", "v1.3.0", "1.3.0", "1.10.0-rc.1", "1.9.0", "2.0.0", "1.9", "1.9.0-alpine", "x"];
        let pick = |range: &str, above: Option<&str>| {
            let above = above.and_then(release);
            highest(tags.iter().copied(), &Releases::parse(range).unwrap(), above.as_ref())
        };
        assert_eq!(pick(">=1.2, <2", None), Some("1.9.0"));
        assert_eq!(pick("~1.3", None), Some("1.3.0"));
        assert_eq!(pick("1.x", Some("1.9.0")), None);
        assert_eq!(pick("1.x", Some("1.2.3")), Some("1.9.0"));
        assert_eq!(pick("*", Some("1.9.0")), Some("2.0.0"));
        assert_eq!(pick("~3", None), None);
    }
}
