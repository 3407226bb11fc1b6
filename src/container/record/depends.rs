//! What a service comes after, as it is written: the order of stopping is known also when its file is gone.

use serde::{Deserialize, Serialize};

use super::{RecordError, is_default, valid};
use crate::model::{Condition, Dependency, ProjectName, ServiceName};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DependencyRecord {
    project: String,
    service: String,
    condition: String,
    #[serde(default, skip_serializing_if = "is_default")]
    restart: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    optional: bool,
}

impl From<&Dependency> for DependencyRecord {
    fn from(dependency: &Dependency) -> Self {
        Self {
            project: dependency.project.to_string(),
            service: dependency.service.to_string(),
            condition: dependency.condition.word().to_owned(),
            restart: dependency.restart,
            optional: !dependency.required,
        }
    }
}

impl DependencyRecord {
    pub(super) fn to_model(&self) -> Result<Dependency, RecordError> {
        Ok(Dependency {
            project: valid("project", &self.project, |t| ProjectName::parse(t).ok())?,
            service: valid("service", &self.service, |t| ServiceName::parse(t).ok())?,
            condition: valid("condition", &self.condition, Condition::parse)?,
            restart: self.restart,
            required: !self.optional,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One of everything.
    pub(in crate::container::record) fn sample() -> Vec<Dependency> {
        let one = |service: &str, condition: Condition, restart: bool| Dependency {
            project: ProjectName::parse("shop").expect("a name"),
            service: ServiceName::parse(service).expect("a name"),
            condition,
            restart,
            required: !restart,
        };
        vec![
            one("cache", Condition::Started, true),
            one("db", Condition::Healthy, false),
            one("setup", Condition::Completed, false),
        ]
    }
}
