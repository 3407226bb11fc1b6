//! A cron expression: which minutes of the calendar it means, and the first of them after an instant in a time zone.
//!
//! Fields and days are those of vixie's cron and cronie: `*`, numbers, names, ranges, lists and steps; where both the day of the month
//! and the day of the week are restricted, either will do. So is what becomes of a change of the zone's offset: a time that the clocks
//! leave out is made up for right after the gap, and one that they show twice counts once; where the hour is `*`, it is real time that
//! counts, and nothing is made up for or left out.

use std::fmt;

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp as Moment, ToSpan as _};

/// Looked ahead this far: the 29th of February may be eight years away.
const HORIZON_HOURS: i64 = 24 * 366 * 9;

/// Five fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Sunday is 0.
    weekdays: u64,
    /// Whether the day of the month begins with `*`.
    any_day: bool,
    any_weekday: bool,
    any_hour: bool,
}

/// Why an expression is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronError {
    /// What is wrong.
    pub message: String,
    /// What to write.
    pub hint: &'static str,
}

struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    words: &'static [&'static str],
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field { name: "minute", first: 0, last: 59, words: &[] },
    Field { name: "hour", first: 0, last: 23, words: &[] },
    Field { name: "day of the month", first: 1, last: 31, words: &[] },
    Field { name: "month", first: 1, last: 12, words: &MONTHS },
    Field { name: "day of the week", first: 0, last: 7, words: &DAYS },
];
const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];
const HINT: &str = "write five fields: minute hour day-of-month month day-of-week, as in \"30 3 * * mon-fri\"; or @hourly, @daily, @weekly, @monthly, @yearly, or @every 10m";

impl Cron {
    /// Reads five fields, or a nickname for them.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let text = text.trim();
        let wrong = |message: String| CronError { message, hint: HINT };
        let nickname = NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        if nickname.is_none() && text.starts_with('@') {
            return Err(wrong(format!("{text:?} is no time that is known")));
        }
        let fields: Vec<&str> = nickname.map_or(text, |(_, fields)| fields).split_whitespace().collect();
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(wrong(format!("{text:?} has {} fields, not five", fields.len())));
        };
        let read = |at: usize, text: &str| FIELDS[at].read(text).map_err(wrong);
        let weekdays = read(4, weekday)?;
        let cron = Self {
            text: text.to_owned(),
            minutes: read(0, minute)?,
            hours: read(1, hour)?,
            days: read(2, day)?,
            months: read(3, month)?,
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            any_day: day.starts_with('*'),
            any_weekday: weekday.starts_with('*'),
            any_hour: hour.starts_with('*'),
        };
        if cron.after(&TimeZone::UTC, Moment::UNIX_EPOCH).is_none() {
            return Err(wrong(format!("{text:?} never comes: there is no such day")));
        }
        Ok(cron)
    }

    /// The first time after an instant; none within nine years.
    #[must_use]
    pub fn after(&self, zone: &TimeZone, at: Moment) -> Option<Moment> {
        let limit = at.checked_add(SignedDuration::from_hours(HORIZON_HOURS)).ok()?;
        let (mut begin, mut past) = (at, true);
        // One stretch after the other in which the zone's offset stays the same.
        while begin < limit {
            let offset = zone.to_offset(begin);
            let change = zone.following(begin).next().map(|change| (change.timestamp(), change.offset()));
            let end = change.map_or(limit, |(at, _)| at);
            let mut from = next_minute(offset.to_datetime(begin), past)?;
            if !self.any_hour
                && let Some(shown) = shown_before(zone, begin)
            {
                from = from.max(shown);
            }
            let until = offset.to_datetime(end);
            if let Some(found) = self.within(from, until) {
                return offset.to_timestamp(found).ok();
            }
            if let Some((at, new)) = change
                && !self.any_hour
                && new.to_datetime(at) > until
                && self.within(until, new.to_datetime(at)).is_some()
            {
                // The clocks leave it out.
                return Some(at);
            }
            (begin, past) = (end, false);
        }
        None
    }

    /// The first minute that is meant in a stretch of local time.
    fn within(&self, from: DateTime, until: DateTime) -> Option<DateTime> {
        let mut date = from.date();
        let mut time = (from.hour(), from.minute());
        while date <= until.date() {
            if self.means_day(date) {
                let hours = (time.0..24).filter(|hour| self.hours >> hour & 1 == 1);
                for hour in hours {
                    let first = if hour == time.0 { time.1 } else { 0 };
                    let minute = (self.minutes >> first).trailing_zeros() + u32::from(first.unsigned_abs());
                    if let Some(minute) = i8::try_from(minute).ok().filter(|minute| *minute < 60) {
                        let found = date.to_datetime(Time::constant(hour, minute, 0, 0));
                        return (found < until).then_some(found);
                    }
                }
            }
            date = date.tomorrow().ok()?;
            time = (0, 0);
        }
        None
    }

    fn means_day(&self, date: jiff::civil::Date) -> bool {
        let day = self.days >> date.day() & 1 == 1;
        let weekday = self.weekdays >> date.weekday().to_sunday_zero_offset() & 1 == 1;
        let month = self.months >> date.month() & 1 == 1;
        month && if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }
}

/// The next whole minute, or this one where it is whole and not past.
fn next_minute(at: DateTime, past: bool) -> Option<DateTime> {
    let minute = at.date().to_datetime(Time::constant(at.hour(), at.minute(), 0, 0));
    if minute == at && !past { Some(minute) } else { minute.checked_add(1.minute()).ok() }
}

/// Up to which local time the clocks have shown everything before already.
fn shown_before(zone: &TimeZone, at: Moment) -> Option<DateTime> {
    let after = at.checked_add(SignedDuration::from_nanos(1)).ok()?;
    let change = zone.preceding(after).next()?;
    let before = change.timestamp().checked_sub(SignedDuration::from_nanos(1)).ok()?;
    Some(zone.to_offset(before).to_datetime(change.timestamp()))
}

impl Field {
    fn read(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |all, part| Ok(all | self.part(part)?))
    }

    fn part(&self, text: &str) -> Result<u64, String> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => {
                let number = step.parse::<u32>().ok().filter(|step| *step > 0);
                (
                    range,
                    Some(number.ok_or_else(|| format!("the step {step:?} of the {} is no number from 1", self.name))?),
                )
            }
            None => (text, None),
        };
        let (first, last) = match (range, range.split_once('-')) {
            ("*", _) => (self.first, self.last),
            (_, Some((first, last))) => (self.number(first)?, self.number(last)?),
            (_, None) => {
                let first = self.number(range)?;
                (first, if step.is_some() { self.last } else { first })
            }
        };
        if first > last {
            return Err(format!("the range {range:?} of the {} goes backwards", self.name));
        }
        let step = usize::try_from(step.unwrap_or(1)).unwrap_or(usize::MAX);
        Ok((first..=last).step_by(step).fold(0, |bits, number| bits | 1_u64 << number))
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        let word = self.words.iter().position(|word| word.eq_ignore_ascii_case(text));
        let base = if self.first == 1 { 1 } else { 0 };
        let number = word.and_then(|at| u32::try_from(at).ok()).map(|at| at + base).or_else(|| text.parse().ok());
        number.filter(|number| (self.first..=self.last).contains(number)).ok_or_else(|| {
            let words = if self.words.is_empty() { "" } else { ", or the first three letters of its name" };
            format!("{} {text:?}: expected a number from {} to {}{words}", self.name, self.first, self.last)
        })
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let (cron, zone) = (Cron::parse(cron).unwrap(), TimeZone::get(zone).unwrap());
        let mut at: Moment = from.parse().unwrap();
        let mut all = Vec::new();
        for _ in 0..count {
            at = cron.after(&zone, at).unwrap();
            all.push(jiff::ZonedDateTime::new(at, zone.clone()).strftime("%a %Y-%m-%d %H:%M %:z").to_string());
        }
        all
    }

    #[test]
    fn fields_mean_what_they_mean_to_cron() {
        for (cron, from, all) in [
            ("*/20 9-10 * * *", "2026-11-25T09:00:00Z", &["09:20", "09:40", "10:00", "10:20", "10:40"][..]),
            ("5,7 */12 * * *", "2026-11-25T00:00:00Z", &["00:05", "00:07", "12:05", "12:07"]),
            ("50/5 1 * * *", "2026-11-25T00:00:00Z", &["01:50", "01:55"]),
        ] {
            let found = times(cron, "UTC", from, all.len());
            assert_eq!(found.iter().map(|time| &time[15..20]).collect::<Vec<_>>(), all, "{cron}");
        }
        // Either day, where both are restricted; a field with a star in front does not restrict.
        insta::assert_debug_snapshot!(
            [
                times("0 3 13 * fri", "UTC", "2026-11-09T00:00:00Z", 3),
                times("0 3 */2 * sun", "UTC", "2026-11-25T00:00:00Z", 2),
                times("0 3 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1),
                times("@weekly", "UTC", "2026-11-25T00:00:00Z", 1),
                times("0 0 * * 7", "UTC", "2026-11-25T00:00:00Z", 1),
                times("0 0 1 jan-MAR/2 *", "UTC", "2026-11-25T00:00:00Z", 2),
            ],
            @r#"
            [
                [
                    "Fri 2026-11-13 03:00 +00:00",
                    "Fri 2026-11-20 03:00 +00:00",
                    "Fri 2026-11-27 03:00 +00:00",
                ],
                [
                    "Sun 2026-11-29 03:00 +00:00",
                    "Sun 2026-12-13 03:00 +00:00",
                ],
                [
                    "Fri 2104-02-29 03:00 +00:00",
                ],
                [
                    "Sun 2026-11-29 00:00 +00:00",
                ],
                [
                    "Sun 2026-11-29 00:00 +00:00",
                ],
                [
                    "Fri 2027-01-01 00:00 +00:00",
                    "Mon 2027-03-01 00:00 +00:00",
                ],
            ]
            "#
        );
    }

    #[test]
    fn the_clocks_go_forward_and_back() {
        // Berlin: on 2026-03-29 from 02:00 to 03:00, on 2026-10-25 from 03:00 to 02:00.
        insta::assert_debug_snapshot!(
            [
                times("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3),
                times("*/30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 3),
                times("0 3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2),
                times("30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3),
                times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
                times("*/30 2 * * *", "Europe/Berlin", "2026-10-24T22:00:00Z", 3),
                times("30 * * * *", "Europe/Berlin", "2026-10-24T23:00:00Z", 4),
            ],
            @r#"
            [
                [
                    "Sat 2026-03-28 02:30 +01:00",
                    "Sun 2026-03-29 03:00 +02:00",
                    "Mon 2026-03-30 02:30 +02:00",
                ],
                [
                    "Sun 2026-03-29 03:00 +02:00",
                    "Mon 2026-03-30 02:00 +02:00",
                    "Mon 2026-03-30 02:30 +02:00",
                ],
                [
                    "Sun 2026-03-29 03:00 +02:00",
                    "Mon 2026-03-30 03:00 +02:00",
                ],
                [
                    "Sun 2026-03-29 01:30 +01:00",
                    "Sun 2026-03-29 03:30 +02:00",
                    "Sun 2026-03-29 04:30 +02:00",
                ],
                [
                    "Sun 2026-10-25 02:30 +02:00",
                    "Mon 2026-10-26 02:30 +01:00",
                ],
                [
                    "Sun 2026-10-25 02:00 +02:00",
                    "Sun 2026-10-25 02:30 +02:00",
                    "Mon 2026-10-26 02:00 +01:00",
                ],
                [
                    "Sun 2026-10-25 01:30 +02:00",
                    "Sun 2026-10-25 02:30 +02:00",
                    "Sun 2026-10-25 02:30 +01:00",
                    "Sun 2026-10-25 03:30 +01:00",
                ],
            ]
            "#
        );
        // Asked in the middle of the hour that comes twice, and at the very moment of the change.
        insta::assert_debug_snapshot!(
            [
                times("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1),
                times("30 2 * * *", "Europe/Berlin", "2026-03-29T01:00:00Z", 1),
                times("30 2 * * *", "Europe/Berlin", "2026-03-29T00:59:59Z", 1),
            ],
            @r#"
            [
                [
                    "Mon 2026-10-26 02:30 +01:00",
                ],
                [
                    "Mon 2026-03-30 02:30 +02:00",
                ],
                [
                    "Sun 2026-03-29 03:00 +02:00",
                ],
            ]
            "#
        );
    }

    #[test]
    fn what_is_no_expression_says_what_is_wrong() {
        let wrong = |text: &str| Cron::parse(text).unwrap_err().message;
        insta::assert_debug_snapshot!(
            [
                wrong(""),
                wrong("* * * *"),
                wrong("75 * * * *"),
                wrong("0 3 * * funday"),
                wrong("0 3 30 2 *"),
                wrong("0-70 * * * *"),
                wrong("9-5 * * * *"),
                wrong("*/0 * * * *"),
                wrong("@reboot"),
                wrong("0 3 * 13 *"),
                wrong("0 0 0 0 0 0"),
            ],
            @r#"
            [
                "\"\" has 0 fields, not five",
                "\"* * * *\" has 4 fields, not five",
                "minute \"75\": expected a number from 0 to 59",
                "day of the week \"funday\": expected a number from 0 to 7, or the first three letters of its name",
                "\"0 3 30 2 *\" never comes: there is no such day",
                "minute \"70\": expected a number from 0 to 59",
                "the range \"9-5\" of the minute goes backwards",
                "the step \"0\" of the minute is no number from 1",
                "\"@reboot\" is no time that is known",
                "month \"13\": expected a number from 1 to 12, or the first three letters of its name",
                "\"0 0 0 0 0 0\" has 6 fields, not five",
            ]
            "#
        );
    }
}
