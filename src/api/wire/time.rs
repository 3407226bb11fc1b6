//! Times on the wire are RFC 3339 in UTC.

use std::fmt;

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::model::Timestamp;

/// A moment, as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(jiff::Timestamp);

impl Time {
    /// From nanoseconds since the Unix epoch, as logs have them.
    #[must_use]
    pub fn from_nanos(ns: u64) -> Self {
        Self(jiff::Timestamp::from_nanosecond(i128::from(ns)).unwrap_or(jiff::Timestamp::MAX))
    }
    /// In the model's terms; a moment before the epoch becomes the epoch.
    #[must_use]
    pub fn timestamp(self) -> Timestamp {
        Timestamp(u64::try_from(self.0.as_millisecond()).unwrap_or(0))
    }
    /// Reads RFC 3339.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        text.parse().map(Self).map_err(|_| TimeError { text: text.chars().take(80).collect() })
    }
}

impl From<Timestamp> for Time {
    fn from(at: Timestamp) -> Self {
        // A clock that is wrong by 7000 years is shown as the last moment there is rather than as an error.
        let ms = i64::try_from(at.millis()).unwrap_or(i64::MAX);
        Self(jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time", "description": "A moment, as RFC 3339 in UTC." })
    }
}

/// Not a moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a time; write 10m, 2h30m, 3d, 2026-01-31T12:00:00Z or seconds since 1970")]
pub struct TimeError {
    text: String,
}

/// Reads `since`: how long ago (`10m`, `1h30m`, `3d`), RFC 3339, or seconds since 1970.
pub fn parse_since(text: &str, now: Timestamp) -> Result<Timestamp, TimeError> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Timestamp(seconds.saturating_mul(1000)));
    }
    if let Some(ago) = ago_ms(text) {
        return Ok(Timestamp(now.millis().saturating_sub(ago)));
    }
    Time::parse(text).map(Time::timestamp)
}

fn ago_ms(text: &str) -> Option<u64> {
    let days = text.strip_suffix('d').and_then(|d| d.parse::<u64>().ok());
    if let Some(days) = days {
        return days.checked_mul(86_400_000);
    }
    let duration: SignedDuration = text.parse().ok()?;
    u64::try_from(duration.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_read_in_all_its_forms() {
        let now = Timestamp(1_800_000_000_000);
        let since = |t: &str| parse_since(t, now).map(|t| now.since(t) / 1000);
        assert_eq!(since("10m"), Ok(600));
        assert_eq!(since("1h30m"), Ok(5400));
        assert_eq!(since("3d"), Ok(259_200));
        assert_eq!(since("1799999999"), Ok(1));
        assert_eq!(since("2027-01-15T07:59:00Z"), Ok(60));
        for bad in ["", "yesterday", "-5m", "10 parsecs", "2027-13-01T00:00:00Z"] {
            assert!(since(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_time_survives_the_wire() {
        let time = Time::from(Timestamp(1_800_000_000_123));
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(json, r#""2027-01-15T08:00:00.123Z""#);
        assert_eq!(serde_json::from_str::<Time>(&json).unwrap(), time);
        assert_eq!(Time::from(Timestamp(u64::MAX)).to_string(), jiff::Timestamp::MAX.to_string());
    }
}
