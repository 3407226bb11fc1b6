//! What is executed: the order, on top of what the container's own command got.
//!
//! Variables, folder and limits come from the runtime's configuration of the run that is entered, so that they are what the
//! container was started with, whatever the defaults are by now.

use std::fs;

use nix::sys::resource::Resource;
use serde_json::Value;

use crate::container::confine::{Confinement, bounding};
use crate::container::exec::link::{ExecAsk, ExecFailure, ExecOrder, ExecStreams};
use crate::container::link::{CONTAINER, GIVEN, GivenRecord, Order};
use crate::container::privileges::{self, Privileges};
use crate::container::record::ContainerRecord;
use crate::container::seccomp;
use crate::model::{CapabilitySet, Isolation};

/// Everything about one command but where it runs.
pub(super) struct Job {
    pub(super) command: Vec<String>,
    pub(super) environment: Vec<String>,
    /// Whether `HOME` is the user's, and not somebody's wish.
    pub(super) own_home: bool,
    pub(super) working_dir: String,
    pub(super) user: String,
    /// `group_add`, and where it is the container's own user, those that it was started with.
    pub(super) groups: Vec<String>,
    pub(super) limits: Vec<(Resource, u64, u64)>,
    pub(super) oom_score: i64,
    pub(super) confinement: Confinement,
    /// What is asked of AppArmor and SELinux when the program is executed.
    pub(super) labels: Vec<String>,
    pub(super) streams: ExecStreams,
}

impl Job {
    pub(super) fn read(order: ExecOrder) -> Result<Self, ExecFailure> {
        let ExecOrder { container, ask, init: _ } = order;
        let json = fs::read(container.folder.join(CONTAINER)).map_err(|e| fail("the container's record", &e))?;
        let record = ContainerRecord::parse(&json).map_err(|e| fail("the container's record", &e))?;
        let spec = record.spec.to_model().map_err(|e| fail("the container's record", &e))?;
        let config = container.run.join("bundle/config.json");
        let config = fs::read(config).map_err(|e| fail("the container's configuration", &e))?;
        let config: Value = serde_json::from_slice(&config).map_err(|e| fail("the container's configuration", &e))?;
        let process = &config["process"];
        let (isolation, image) = (spec.service.isolation, record.image_defaults);
        let wished = spec.service.process;
        let named = image.environment.iter().any(|v| named(v) == "HOME");
        let own_home = !named && !wished.environment.iter().any(|v| v.name == "HOME");
        let given = fs::read(container.run.join("bundle").join(GIVEN)).ok();
        let given = given.and_then(|json| serde_json::from_slice::<GivenRecord>(&json).ok());
        // Nothing is written down of one that an earlier version started.
        let privileges = given.map_or_else(
            || privileges::granted(&isolation, &container, bounding()),
            |given| Privileges {
                capabilities: CapabilitySet::from_mask(given.capabilities),
                no_new_privileges: given.no_new_privileges,
            },
        );
        let confinement = confinement(&isolation, &container, privileges, ask.privileged)?;
        let mut groups = isolation.groups;
        if ask.user.is_none() {
            // Those of its devices, which no file names.
            let more = process["user"]["additionalGids"].as_array().into_iter().flatten();
            groups.extend(more.filter_map(Value::as_u64).map(|gid| gid.to_string()));
        }
        Ok(Self {
            own_home: own_home && !ask.environment.iter().any(|v| self::named(v) == "HOME"),
            environment: environment(texts(&process["env"]), &ask),
            working_dir: ask.working_dir.unwrap_or_else(|| process["cwd"].as_str().unwrap_or("/").to_owned()),
            user: ask.user.or(wished.user).unwrap_or(image.user),
            groups,
            limits: process["rlimits"].as_array().into_iter().flatten().filter_map(limit).collect(),
            oom_score: process["oomScoreAdj"].as_i64().unwrap_or(0),
            confinement,
            labels: labels(process, ask.privileged),
            streams: ask.streams,
            command: ask.command,
        })
    }
}

/// What the container's own command may do; all of it where that is asked for by name.
fn confinement(
    isolation: &Isolation,
    container: &Order,
    privileges: Privileges,
    privileged: bool,
) -> Result<Confinement, ExecFailure> {
    let Privileges { capabilities, no_new_privileges } = privileges;
    if privileged {
        return Ok(Confinement { program: None, capabilities: CapabilitySet::ALL.mask(), no_new_privileges });
    }
    let program = seccomp::cached(&container.seccomp, &isolation.seccomp, isolation.privileged, capabilities)
        .map_err(|error| fail("the container's seccomp profile", &error))?;
    Ok(Confinement { program: program.map(Into::into), capabilities: capabilities.mask(), no_new_privileges })
}

/// The container's variables with those of the order: `NAME=value`, or `NAME` to take one away.
fn environment(container: Vec<String>, ask: &ExecAsk) -> Vec<String> {
    let mut variables = container;
    if matches!(ask.streams, ExecStreams::Terminal { .. }) && !variables.iter().any(|v| named(v) == "TERM") {
        variables.push("TERM=xterm".to_owned());
    }
    for variable in &ask.environment {
        variables.retain(|v| named(v) != named(variable));
        if variable.contains('=') {
            variables.push(variable.clone());
        }
    }
    variables
}

/// The name of a variable.
pub(super) fn named(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

/// `exec PROFILE` for AppArmor, the label itself for SELinux.
fn labels(process: &Value, privileged: bool) -> Vec<String> {
    let profile = if privileged { "unconfined" } else { process["apparmorProfile"].as_str().unwrap_or("") };
    let profile = (!process["apparmorProfile"].is_null() && !profile.is_empty()).then(|| format!("exec {profile}"));
    let label = process["selinuxLabel"].as_str().filter(|label| !label.is_empty()).map(str::to_owned);
    profile.into_iter().chain(label).collect()
}

fn limit(limit: &Value) -> Option<(Resource, u64, u64)> {
    let resource = match limit["type"].as_str()? {
        "RLIMIT_AS" => Resource::RLIMIT_AS,
        "RLIMIT_CORE" => Resource::RLIMIT_CORE,
        "RLIMIT_CPU" => Resource::RLIMIT_CPU,
        "RLIMIT_DATA" => Resource::RLIMIT_DATA,
        "RLIMIT_FSIZE" => Resource::RLIMIT_FSIZE,
        "RLIMIT_LOCKS" => Resource::RLIMIT_LOCKS,
        "RLIMIT_MEMLOCK" => Resource::RLIMIT_MEMLOCK,
        "RLIMIT_MSGQUEUE" => Resource::RLIMIT_MSGQUEUE,
        "RLIMIT_NICE" => Resource::RLIMIT_NICE,
        "RLIMIT_NOFILE" => Resource::RLIMIT_NOFILE,
        "RLIMIT_NPROC" => Resource::RLIMIT_NPROC,
        "RLIMIT_RSS" => Resource::RLIMIT_RSS,
        "RLIMIT_RTPRIO" => Resource::RLIMIT_RTPRIO,
        "RLIMIT_RTTIME" => Resource::RLIMIT_RTTIME,
        "RLIMIT_SIGPENDING" => Resource::RLIMIT_SIGPENDING,
        "RLIMIT_STACK" => Resource::RLIMIT_STACK,
        _ => return None,
    };
    Some((resource, limit["soft"].as_u64()?, limit["hard"].as_u64()?))
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn fail(what: &str, error: &dyn std::fmt::Display) -> ExecFailure {
    ExecFailure::NotStarted(format!("{what} cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_of_the_order_come_on_top_of_the_containers() {
        let ask = |environment: &[&str], streams| ExecAsk {
            command: Vec::new(),
            environment: environment.iter().map(|v| (*v).to_owned()).collect(),
            working_dir: None,
            user: None,
            privileged: false,
            streams,
        };
        let container = || vec!["PATH=/bin".to_owned(), "A=1".to_owned(), "B=2".to_owned()];
        let pipes = ExecStreams::Pipes { stdin: false };
        assert_eq!(environment(container(), &ask(&["A=x=y", "B", "C="], pipes)), ["PATH=/bin", "A=x=y", "C="]);
        let terminal = ExecStreams::Terminal { rows: 1, columns: 1 };
        assert_eq!(environment(container(), &ask(&[], terminal))[3], "TERM=xterm");
        assert_eq!(environment(container(), &ask(&["TERM=dumb"], terminal))[3], "TERM=dumb");
    }

    #[test]
    fn limits_and_labels_are_those_of_the_configuration() {
        let process = serde_json::json!({
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}],
            "apparmorProfile": "docker-default",
            "selinuxLabel": "a:b:c",
        });
        assert_eq!(limit(&process["rlimits"][0]), Some((Resource::RLIMIT_NOFILE, 1, 2)));
        assert_eq!(labels(&process, false), ["exec docker-default", "a:b:c"]);
        assert_eq!(labels(&process, true), ["exec unconfined", "a:b:c"]);
        assert!(labels(&Value::Null, true).is_empty());
    }
}
