//! `health` of the record: what the file says of checks, and what the image says.

use serde::{Deserialize, Serialize};

use super::isolation::is_default;
use crate::model::{HealthCheck, HealthPolicy, HealthTest, OnUnhealthy, Probe};

/// [`HealthPolicy`] as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct HealthRecord {
    #[serde(skip_serializing_if = "is_default")]
    check: HealthCheckRecord,
    #[serde(skip_serializing_if = "is_default")]
    on_unhealthy: Option<ReactionRecord>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ReactionRecord {
    Restart,
    Stop,
    None,
}

/// [`HealthCheck`] as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthCheckRecord {
    #[serde(skip_serializing_if = "is_default")]
    test: Option<TestRecord>,
    #[serde(skip_serializing_if = "is_default")]
    interval_ms: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    retries: Option<u32>,
    #[serde(skip_serializing_if = "is_default")]
    start_period_ms: Option<u64>,
    #[serde(skip_serializing_if = "is_default")]
    start_interval_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum TestRecord {
    Nothing,
    Command(Vec<String>),
    Shell(String),
    Http { port: u16, path: String, tls: bool, status: (u16, u16) },
    Tcp { port: u16 },
    Grpc { port: u16, service: String },
}

impl From<&HealthPolicy> for HealthRecord {
    fn from(policy: &HealthPolicy) -> Self {
        let on_unhealthy = policy.on_unhealthy.map(|reaction| match reaction {
            OnUnhealthy::Restart => ReactionRecord::Restart,
            OnUnhealthy::Stop => ReactionRecord::Stop,
            OnUnhealthy::Nothing => ReactionRecord::None,
        });
        Self { check: HealthCheckRecord::from(&policy.check), on_unhealthy }
    }
}

impl From<&HealthRecord> for HealthPolicy {
    fn from(record: &HealthRecord) -> Self {
        let on_unhealthy = record.on_unhealthy.map(|reaction| match reaction {
            ReactionRecord::Restart => OnUnhealthy::Restart,
            ReactionRecord::Stop => OnUnhealthy::Stop,
            ReactionRecord::None => OnUnhealthy::Nothing,
        });
        Self { check: HealthCheck::from(&record.check), on_unhealthy }
    }
}

impl From<&HealthCheck> for HealthCheckRecord {
    fn from(check: &HealthCheck) -> Self {
        let HealthCheck { test, interval_ms, timeout_ms, retries, start_period_ms, start_interval_ms } = check.clone();
        let test = test.map(|test| match test {
            HealthTest::Nothing => TestRecord::Nothing,
            HealthTest::Command(words) => TestRecord::Command(words),
            HealthTest::Shell(line) => TestRecord::Shell(line),
            HealthTest::Probe(Probe::Http { port, path, tls, status }) => TestRecord::Http { port, path, tls, status },
            HealthTest::Probe(Probe::Tcp { port }) => TestRecord::Tcp { port },
            HealthTest::Probe(Probe::Grpc { port, service }) => TestRecord::Grpc { port, service },
        });
        Self { test, interval_ms, timeout_ms, retries, start_period_ms, start_interval_ms }
    }
}

impl From<&HealthCheckRecord> for HealthCheck {
    fn from(record: &HealthCheckRecord) -> Self {
        let HealthCheckRecord { test, interval_ms, timeout_ms, retries, start_period_ms, start_interval_ms } =
            record.clone();
        let test = test.map(|test| match test {
            TestRecord::Nothing => HealthTest::Nothing,
            TestRecord::Command(words) => HealthTest::Command(words),
            TestRecord::Shell(line) => HealthTest::Shell(line),
            TestRecord::Http { port, path, tls, status } => HealthTest::Probe(Probe::Http { port, path, tls, status }),
            TestRecord::Tcp { port } => HealthTest::Probe(Probe::Tcp { port }),
            TestRecord::Grpc { port, service } => HealthTest::Probe(Probe::Grpc { port, service }),
        });
        Self { test, interval_ms, timeout_ms, retries, start_period_ms, start_interval_ms }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Everything set.
    pub(in crate::container) fn sample() -> HealthPolicy {
        HealthPolicy {
            check: HealthCheck {
                test: Some(HealthTest::Probe(Probe::Http {
                    port: 80,
                    path: "/ready".into(),
                    tls: true,
                    status: (200, 204),
                })),
                interval_ms: Some(1),
                timeout_ms: Some(2),
                retries: Some(3),
                start_period_ms: Some(4),
                start_interval_ms: Some(5),
            },
            on_unhealthy: Some(OnUnhealthy::Stop),
        }
    }

    #[test]
    fn every_test_and_reaction_comes_back() {
        let tests = [
            None,
            Some(HealthTest::Nothing),
            Some(HealthTest::Command(vec!["a".into(), "b c".into()])),
            Some(HealthTest::Shell("a || b".into())),
            Some(HealthTest::Probe(Probe::Tcp { port: 1 })),
            Some(HealthTest::Probe(Probe::Grpc { port: 2, service: "s".into() })),
            sample().check.test,
        ];
        let reactions = [None, Some(OnUnhealthy::Restart), Some(OnUnhealthy::Stop), Some(OnUnhealthy::Nothing)];
        for (test, on_unhealthy) in tests.into_iter().zip(reactions.into_iter().cycle()) {
            let policy = HealthPolicy { check: HealthCheck { test, ..sample().check }, on_unhealthy };
            let json = serde_json::to_string(&HealthRecord::from(&policy)).expect("JSON");
            let back: HealthRecord = serde_json::from_str(&json).expect("a record");
            assert_eq!(HealthPolicy::from(&back), policy, "{json}");
        }
        let silent = serde_json::to_string(&HealthRecord::from(&HealthPolicy::default())).expect("JSON");
        assert_eq!(silent, "{}");
    }
}
