//! How a container that runs is.

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
