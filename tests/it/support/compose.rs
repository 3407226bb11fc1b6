//! State files in a few words.

use super::registry;

/// A service of the test image without a network; `command` is YAML.
pub(crate) fn service(name: &str, command: &str) -> String {
    with(name, command, &[])
}

/// The same with further lines of the service.
pub(crate) fn with(name: &str, command: &str, more: &[&str]) -> String {
    let image = registry::image();
    let mut text = format!("  {name}:\n    image: {image}\n    network_mode: none\n    command: {command}\n");
    for line in more {
        text.push_str(&format!("    {line}\n"));
    }
    text
}

/// A state file of these services.
pub(crate) fn file(services: &[String]) -> String {
    format!("services:\n{}", services.concat())
}
