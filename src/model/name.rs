//! Names: of projects, services and containers. A name that exists as a value is safe in a path, a host name and a log line.

use std::fmt;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was written.
    #[error("the {what} is empty")]
    Empty { what: &'static str },
    /// Longer than any path component or cgroup can carry.
    #[error("the {what} has {len} characters; at most {max} are allowed")]
    TooLong { what: &'static str, len: usize, max: usize },
    /// A character outside the allowed set.
    #[error("the {what} {name:?} may hold only {allowed}, and must begin with a letter or a digit")]
    Character { what: &'static str, name: String, allowed: &'static str },
}

fn check(
    what: &'static str,
    name: &str,
    max: usize,
    allowed: &'static str,
    ok: impl Fn(char) -> bool,
) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    let len = name.chars().count();
    if len > max {
        return Err(NameError::TooLong { what, len, max });
    }
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !first || !name.chars().all(ok) {
        return Err(NameError::Character { what, name: name.to_owned(), allowed });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $max:literal, $allowed:literal, $ok:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(String);

        impl $type {
            /// Parses the name.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check($what, text, $max, $allowed, $ok)?;
                Ok(Self(text.to_owned()))
            }
            /// The name as it was written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A Compose project: `[a-z0-9][a-z0-9_-]*` (compose-spec, "Name top-level element").
    ProjectName, "project name", 63, "lower-case letters, digits, '-' and '_'",
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_'
);
name!(
    /// A Compose service: `[a-zA-Z0-9._-]+`, and never one that begins with a dot or a dash.
    ServiceName, "service name", 63, "letters, digits, '.', '-' and '_'",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
);
name!(
    /// A container's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, as Docker has it.
    ContainerName, "container name", 200, "letters, digits, '.', '-' and '_'",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
);

name!(
    /// A network's name outside its project: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, as Docker has it.
    NetworkName, "network name", 127, "letters, digits, '.', '-' and '_'",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
);

impl NetworkName {
    /// The name a network has when the file gives none: `project_network`, as Compose writes it.
    #[must_use]
    pub fn of_project(project: &ProjectName, network: &ServiceName) -> Self {
        Self(format!("{project}_{network}"))
    }
}

impl ContainerName {
    /// The name a replica has when the file gives none: `project-service-1`, as Compose writes it.
    #[must_use]
    pub fn of_replica(project: &ProjectName, service: &ServiceName, number: u32) -> Self {
        Self(format!("{project}-{service}-{number}"))
    }
}

name!(
    /// A volume's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, as Docker has it.
    VolumeName, "volume name", 200, "letters, digits, '.', '-' and '_'",
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
);

impl VolumeName {
    /// One that nobody has to remember: `hex` is 64 digits.
    pub(super) fn anonymous(hex: &str) -> Self {
        Self(hex.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_folder_or_a_shell_word_are_refused() {
        for bad in ["", ".", "..", "../x", "/etc/x", "a b", "a\nb", "-rf", "a\0b", "😀", "$(id)", "%s%n", "A"] {
            assert!(ProjectName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(ProjectName::parse(&"n".repeat(300)).is_err());
        assert!(ServiceName::parse("..").is_err());
        assert_eq!(ProjectName::parse("shop_2-b").map(|n| n.to_string()), Ok("shop_2-b".into()));
        assert_eq!(ServiceName::parse("Web.1").map(|n| n.to_string()), Ok("Web.1".into()));
    }
}
