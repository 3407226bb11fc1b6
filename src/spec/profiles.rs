//! Which services of a file take part in its project: those without `profiles`, and those of which one profile is chosen, by the
//! daemon's configuration for all projects or by the file for its own.

use std::collections::{BTreeMap, BTreeSet};

use super::node::{Key, Node};
use super::project::Reader;
use crate::model::ServiceName;

const KEY: &str = "x-longshore.profiles";

/// Chooses every profile there is.
const ALL: &str = "*";

/// The profiles that are chosen.
#[derive(Debug, Default)]
pub(super) struct Chosen(BTreeSet<String>);

impl Chosen {
    /// Those of the configuration, and those of the file.
    pub(super) fn of(configured: &[String], root: &Node) -> Self {
        let own = own(root).into_iter().flat_map(Node::items).filter_map(Node::text);
        Self(configured.iter().map(String::as_str).chain(own).map(str::to_owned).collect())
    }

    /// The profiles of a service that does not take part.
    pub(super) fn leaves_out(&self, body: &Node) -> Option<Vec<String>> {
        let profiles: Vec<String> = named(body).map(str::to_owned).collect();
        let chosen = self.0.contains(ALL) || profiles.iter().any(|profile| self.0.contains(profile));
        (!profiles.is_empty() && !chosen).then_some(profiles)
    }
}

fn own(node: &Node) -> Option<&Node> {
    node.given("x-longshore")?.given("profiles")
}

fn named(body: &Node) -> impl Iterator<Item = &str> {
    body.given("profiles").map(Node::items).unwrap_or_default().iter().filter_map(Node::text)
}

/// The services that do not take part, each with its profiles. A choice that chooses nothing is told.
pub(super) fn finish(
    root: &Node,
    given: &[(Key, Node)],
    reader: &mut Reader<'_, '_>,
) -> BTreeMap<ServiceName, Vec<String>> {
    let known: BTreeSet<&str> = given.iter().flat_map(|(_, body)| named(body)).collect();
    for item in own(root).map(Node::items).unwrap_or_default() {
        let Some(text) = item.text().filter(|text| *text != ALL && !known.contains(text)) else { continue };
        let noted = reader.report.warning(item.at, KEY, format!("no service of the file has the profile {text:?}"));
        noted.hint("it chooses nothing; name it in the `profiles` of a service, or remove it here");
    }
    for (name, body) in given {
        if let Some((key, _)) = body.given("x-longshore").and_then(|own| own.entry("profiles")) {
            let message = format!("the service {:?} chooses profiles, which are chosen for the whole file", name.text);
            let place = format!("services.{}.{KEY}", name.text);
            let noted = reader.report.warning(key.at, &place, message);
            noted.hint(
                "move it into the `x-longshore` beside `services`; what a service takes part in is its `profiles`",
            );
        }
    }
    let left_out =
        |(name, body): &(Key, Node)| Some((ServiceName::parse(&name.text).ok()?, reader.chosen.leaves_out(body)?));
    given.iter().filter_map(left_out).collect()
}

/// In words, for whoever may want it.
pub(super) fn listed(profiles: &[String]) -> String {
    let all: Vec<String> = profiles.iter().map(|profile| format!("`{profile}`")).collect();
    all.join(" or ")
}
