//! How a container that runs is, and how that is found out.

use super::RestartPolicy;

/// As its health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// It is too early to say.
    Starting,
    /// The last check went well.
    Healthy,
    /// So many checks in a row failed as it may.
    Unhealthy,
}

impl Health {
    /// The word for people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What a file asks for: how health is checked, and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HealthPolicy {
    /// `healthcheck`, or `x-longshore: probe`.
    pub check: HealthCheck,
    /// `x-longshore: on_unhealthy`; none: as the restart policy says.
    pub on_unhealthy: Option<OnUnhealthy>,
}

impl HealthPolicy {
    /// Whether the file itself says what is tried; else only the image may.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.check.over(&HealthCheck::default()).is_some()
    }

    /// What is done with a container that is unhealthy.
    #[must_use]
    pub fn reaction(&self, restart: RestartPolicy) -> OnUnhealthy {
        self.on_unhealthy.unwrap_or(match restart {
            RestartPolicy::Always | RestartPolicy::UnlessStopped => OnUnhealthy::Restart,
            RestartPolicy::No | RestartPolicy::OnFailure { .. } => OnUnhealthy::Nothing,
        })
    }
}

/// What is done with a container that is unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnhealthy {
    /// It is stopped and started again.
    Restart,
    /// It is stopped, and stays so.
    Stop,
    /// It is told.
    Nothing,
}

impl OnUnhealthy {
    /// As a file says it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Nothing => "none",
        }
    }
}

/// A health check as a file or an image gives it; what is not given comes from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HealthCheck {
    /// What is tried; none: as the image says.
    pub test: Option<HealthTest>,
    /// From the end of one check to the beginning of the next, in milliseconds.
    pub interval_ms: Option<u64>,
    /// A check that takes longer has failed.
    pub timeout_ms: Option<u64>,
    /// So many failures in a row make it unhealthy.
    pub retries: Option<u32>,
    /// For so long after the start a failure does not count.
    pub start_period_ms: Option<u64>,
    /// Between checks during that time.
    pub start_interval_ms: Option<u64>,
}

/// What is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthTest {
    /// Nothing, whatever the image says.
    Nothing,
    /// A command in the container.
    Command(Vec<String>),
    /// Words for `/bin/sh -c` in the container.
    Shell(String),
    /// A connection that we make in the container's network.
    Probe(Probe),
}

/// A connection in the container's network, to its loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A GET.
    Http {
        /// Where.
        port: u16,
        /// Begins with `/`.
        path: String,
        /// Over TLS; no certificate is checked.
        tls: bool,
        /// From which to which status is good.
        status: (u16, u16),
    },
    /// A connection that is accepted.
    Tcp {
        /// Where.
        port: u16,
    },
    /// `grpc.health.v1.Health/Check`
    Grpc {
        /// Where.
        port: u16,
        /// Of which service; empty: of the server.
        service: String,
    },
}

/// A health check that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is tried; something.
    pub test: HealthTest,
    /// When.
    pub times: CheckTimes,
}

/// When checks are done, and how many may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckTimes {
    /// From the end of one check to the beginning of the next, in milliseconds.
    pub interval_ms: u64,
    /// A check that takes longer has failed.
    pub timeout_ms: u64,
    /// So many failures in a row make it unhealthy.
    pub retries: u32,
    /// For so long after the start a failure does not count.
    pub start_period_ms: u64,
    /// Between checks during that time.
    pub start_interval_ms: u64,
}

impl Default for CheckTimes {
    /// Docker's.
    fn default() -> Self {
        Self { interval_ms: 30_000, timeout_ms: 30_000, retries: 3, start_period_ms: 0, start_interval_ms: 5_000 }
    }
}

impl HealthCheck {
    /// The check that is done by a file over that of its image: what the file does not give is the image's, else Docker's default.
    /// None: nothing is checked.
    #[must_use]
    pub fn over(&self, image: &Self) -> Option<Check> {
        let test = match self.test.as_ref().or(image.test.as_ref())? {
            HealthTest::Nothing => return None,
            test => test.clone(),
        };
        let usual = CheckTimes::default();
        Some(Check {
            test,
            times: CheckTimes {
                interval_ms: self.interval_ms.or(image.interval_ms).unwrap_or(usual.interval_ms),
                timeout_ms: self.timeout_ms.or(image.timeout_ms).unwrap_or(usual.timeout_ms),
                retries: self.retries.or(image.retries).unwrap_or(usual.retries),
                start_period_ms: self.start_period_ms.or(image.start_period_ms).unwrap_or(usual.start_period_ms),
                start_interval_ms: self
                    .start_interval_ms
                    .or(image.start_interval_ms)
                    .unwrap_or(usual.start_interval_ms),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_gives_only_times_keeps_the_test_of_its_image() {
        let image = HealthCheck {
            test: Some(HealthTest::Shell("true".into())),
            interval_ms: Some(7),
            retries: Some(9),
            ..HealthCheck::default()
        };
        let file = HealthCheck { interval_ms: Some(1_000), ..HealthCheck::default() };
        let check = file.over(&image).unwrap();
        assert_eq!(check.test, HealthTest::Shell("true".into()));
        assert_eq!((check.times.interval_ms, check.times.retries, check.times.timeout_ms), (1_000, 9, 30_000));
        assert_eq!(file.over(&HealthCheck::default()), None);
        let off = HealthCheck { test: Some(HealthTest::Nothing), ..file };
        assert_eq!(off.over(&image), None);
    }

    #[test]
    fn who_is_always_restarted_is_restarted_when_it_is_unhealthy() {
        let silent = HealthPolicy::default();
        assert_eq!(silent.reaction(RestartPolicy::Always), OnUnhealthy::Restart);
        assert_eq!(silent.reaction(RestartPolicy::UnlessStopped), OnUnhealthy::Restart);
        assert_eq!(silent.reaction(RestartPolicy::OnFailure { max: None }), OnUnhealthy::Nothing);
        let stop = HealthPolicy { on_unhealthy: Some(OnUnhealthy::Stop), ..silent };
        assert_eq!(stop.reaction(RestartPolicy::Always), OnUnhealthy::Stop);
    }
}
