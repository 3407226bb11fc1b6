//! What a service comes after.

use super::{ProjectName, ServiceName};

/// Another service that comes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependency {
    /// Its project.
    pub project: ProjectName,
    /// Which service of it.
    pub service: ServiceName,
    /// How far it has to be.
    pub condition: Condition,
    /// Whether the dependent is started anew once the other one was made or started anew by us.
    pub restart: bool,
    /// Whether the dependent waits for what cannot be met.
    pub required: bool,
}

/// How far a service has to be before those that come after it are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// `service_started`: all its containers run, or ran and stay ended by their policy.
    Started,
    /// `service_completed_successfully`: all its containers ended with 0.
    Completed,
    /// `service_healthy`: the health checks of all its containers say so.
    Healthy,
}

impl Condition {
    /// As Compose names it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Started => "service_started",
            Self::Completed => "service_completed_successfully",
            Self::Healthy => "service_healthy",
        }
    }

    /// By Compose's name for it.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Started, Self::Completed, Self::Healthy].into_iter().find(|condition| condition.word() == word)
    }
}

impl std::fmt::Display for Dependency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} {}", self.project, self.service, self.condition.word())?;
        f.write_str(if self.restart { ", restart" } else { "" })?;
        f.write_str(if self.required { "" } else { ", not required" })
    }
}
