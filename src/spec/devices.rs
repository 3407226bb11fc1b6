//! `devices`, `device_cgroup_rules`, and requests for devices that CDI files describe: `gpus` and
//! `deploy.resources.reservations.devices`.

use super::node::{Node, Value};
use super::scope::Scope;
use super::source_text::Span;
use super::tmpfs::absolute;
use crate::model::{Device, DeviceAccess, DeviceKind, DeviceRequest, DeviceRule, Which};

const DEVICES: &str = "devices";
const RULES: &str = "device_cgroup_rules";
const GPUS: &str = "gpus";
const RESERVED: &str = "deploy.resources.reservations.devices";

/// `devices`: devices of the host, and names of CDI devices.
pub(super) fn devices(scope: &mut Scope<'_, '_, '_>) -> (Vec<Device>, Vec<DeviceRequest>) {
    let (mut devices, mut requests) = (Vec::new(), Vec::new());
    for node in scope.given(DEVICES).map(Node::items).unwrap_or_default() {
        let (source, target, access) = written(node);
        if let Some(request) = cdi(source) {
            scope.loosen(node.at, DEVICES, format!("it is given the devices that {source} stands for"));
            requests.push(request);
        } else if let Some(device) = device(node.at, (source, target, access), scope) {
            let what = format!("it is given the device {} of the host ({})", device.source, device.access.text());
            scope.loosen(node.at, DEVICES, what);
            devices.push(device);
        }
    }
    (devices, requests)
}

/// Source, target and access, as far as they are written: `source[:target][:access]`, or a map.
fn written(node: &Node) -> (&str, Option<&str>, Option<&str>) {
    if let Value::Map(_) = node.value {
        let part = |name: &str| node.given(name).and_then(Node::text).filter(|text| !text.is_empty());
        return (part("source").unwrap_or_default(), part("target"), part("permissions"));
    }
    let text = node.text().unwrap_or_default();
    if cdi(text).is_some() {
        return (text, None, None);
    }
    let mut parts = text.splitn(3, ':');
    let source = parts.next().unwrap_or_default();
    match (parts.next(), parts.next()) {
        // As Docker reads it: the second part is an access where it can be one.
        (Some(second), None) if DeviceAccess::parse(second).is_some() => (source, None, Some(second)),
        (second, third) => (source, second, third),
    }
}

fn device(
    at: Span,
    (source, target, access): (&str, Option<&str>, Option<&str>),
    scope: &mut Scope<'_, '_, '_>,
) -> Option<Device> {
    let hint = "write /dev/NAME, /dev/NAME:/dev/OTHER:rwm, or the name of a CDI device such as vendor.com/class=name";
    let place = |path: &str| absolute(path).filter(|path| path != "/");
    let (from, to) = (place(source), place(target.unwrap_or(source)));
    let allowed = access.map_or(Some(DeviceAccess::ALL), DeviceAccess::parse);
    match (from, to, allowed) {
        (Some(source), Some(target), Some(access)) => return Some(Device { source, target, access }),
        (None, _, _) => scope.error(at, DEVICES, format!("{source:?} is not a device"), hint),
        (_, None, _) => {
            let message = format!("{:?} is not a place for a device", target.unwrap_or_default());
            scope.error(at, DEVICES, message, hint);
        }
        (_, _, None) => {
            let message = format!("{:?} is not an access to a device", access.unwrap_or_default());
            scope.error(at, DEVICES, message, "write letters of rwm: read, write, mknod");
        }
    }
    None
}

/// `vendor.com/class=name` (Container Device Interface, "Fully-qualified names").
fn cdi(text: &str) -> Option<DeviceRequest> {
    let (kind, name) = text.split_once('=')?;
    let (vendor, class) = kind.split_once('/')?;
    let word = |word: &str, more: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        word.chars().all(good) && ends(word.chars().next()) && ends(word.chars().next_back())
    };
    let good = word(vendor, "_-.") && word(class, "_-.") && word(name, "_-.:");
    let letters = [vendor, class].iter().all(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()));
    (good && letters).then(|| DeviceRequest {
        driver: kind.to_owned(),
        which: Which::Ids(vec![name.to_owned()]),
        capabilities: Vec::new(),
    })
}

/// `device_cgroup_rules`: `c 1:3 rwm`.
pub(super) fn rules(scope: &mut Scope<'_, '_, '_>) -> Vec<DeviceRule> {
    let mut rules = Vec::new();
    for (text, at) in scope.texts(RULES) {
        match rule(text) {
            Some(rule) => {
                scope.loosen(at, RULES, format!("it may use devices by number ({text})"));
                rules.push(rule);
            }
            None => {
                let hint = "write a kind (c or b), numbers and letters of rwm: `c 1:3 rwm`, `b 8:* r`, or `a *:* rwm`";
                scope.error(at, RULES, format!("{text:?} is not a rule for devices"), hint);
            }
        }
    }
    rules
}

fn rule(text: &str) -> Option<DeviceRule> {
    let mut words = text.split_ascii_whitespace();
    let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
    let (major, minor) = numbers.split_once(':')?;
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse::<u32>().ok().map(Some) };
    let rule = DeviceRule {
        kind: match kind {
            "a" => DeviceKind::All,
            "b" => DeviceKind::Block,
            "c" => DeviceKind::Character,
            _ => return None,
        },
        major: number(major)?,
        minor: number(minor)?,
        access: DeviceAccess::parse(access)?,
    };
    // The kernel takes no numbers with `a`: it means all of them.
    let numbered = rule.kind == DeviceKind::All && (rule.major.is_some() || rule.minor.is_some());
    (words.next().is_none() && !numbered).then_some(rule)
}

/// `gpus` and `deploy.resources.reservations.devices`.
pub(super) fn requests(scope: &mut Scope<'_, '_, '_>) -> Vec<DeviceRequest> {
    let mut all = Vec::new();
    if let Some(("all", at)) = scope.word(GPUS) {
        scope.loosen(at, GPUS, "it is given all GPUs");
        all.push(DeviceRequest { driver: String::new(), which: Which::All, capabilities: vec!["gpu".to_owned()] });
    }
    for key in [GPUS, RESERVED] {
        for node in scope.given(key).map(Node::items).unwrap_or_default() {
            let Some(request) = request(node, key, scope) else { continue };
            let what = format!("it is given devices of the host ({})", in_words(&request));
            scope.loosen(node.at, key, what);
            all.push(request);
        }
    }
    all
}

fn in_words(request: &DeviceRequest) -> String {
    let which = match &request.which {
        Which::All => "all".to_owned(),
        Which::Count(count) => count.to_string(),
        Which::Ids(ids) => ids.join(" "),
    };
    let what = request.capabilities.join(" ");
    [request.driver.as_str(), what.as_str(), which.as_str()]
        .into_iter()
        .filter(|t| !t.is_empty())
        .collect::<Vec<_>>()
        .join(", ")
}

fn request(node: &Node, key: &str, scope: &mut Scope<'_, '_, '_>) -> Option<DeviceRequest> {
    let mut capabilities = texts(node, "capabilities");
    if key == GPUS && !capabilities.iter().any(|capability| capability == "gpu") {
        capabilities.push("gpu".to_owned());
    }
    if capabilities.is_empty() {
        let message = "the request for devices names no capabilities";
        scope.error(node.at, key, message, "write `capabilities: [gpu]`, as the specification asks");
    }
    if let Some(options) =
        node.given("options").filter(|options| !(options.entries().is_empty() && options.items().is_empty()))
    {
        let message = "the options of a request have no effect: they are for Docker's drivers";
        scope.warn(options.at, key, message, "remove them; CDI files say what a device needs");
    }
    let driver = node.given("driver").and_then(Node::text).unwrap_or_default().to_owned();
    let which = which(node, key, scope)?;
    Some(DeviceRequest { driver, which, capabilities })
}

/// `count` or `device_ids`; all where the file says neither. `None`: no device is asked for, or an error was told.
fn which(node: &Node, key: &str, scope: &mut Scope<'_, '_, '_>) -> Option<Which> {
    let ids = texts(node, "device_ids");
    let count = node.given("count").and_then(|count| Some((count.text()?, count.at)));
    match (count, ids.is_empty()) {
        (Some((_, at)), false) => {
            scope.error(at, key, "`count` and `device_ids` exclude each other", "remove one of them");
            None
        }
        (None, false) => Some(Which::Ids(ids)),
        (None | Some(("all" | "-1" | "", _)), true) => Some(Which::All),
        (Some((text, at)), true) => match text.parse::<u32>() {
            Ok(0) => None,
            Ok(count) => Some(Which::Count(count)),
            Err(_) => {
                scope.error(at, key, format!("{text:?} devices: expected a number or `all`"), "");
                None
            }
        },
    }
}

fn texts(node: &Node, name: &str) -> Vec<String> {
    let items = node.given(name).map(Node::items).unwrap_or_default();
    items.iter().filter_map(Node::text).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_what_the_kernel_takes() {
        for good in ["c 1:3 rwm", "b 8:* r", "a *:* rwm", "c *:* m", "c  10:200   w"] {
            assert!(rule(good).is_some(), "{good}");
        }
        for bad in ["", "c", "c 1:3", "c 1:3 x", "c 1 r", "d 1:3 r", "a 1:3 r", "c 1:3 rr", "c 1:3 r w", "c -1:3 r"] {
            assert!(rule(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn names_of_cdi_devices_are_told_from_paths() {
        for good in ["nvidia.com/gpu=all", "vendor.com/class=a:b.c-0", "v/c=0"] {
            assert!(cdi(good).is_some(), "{good}");
        }
        for bad in ["/dev/null", "nvidia.com/gpu", "gpu=all", "/dev/x=y", "v/c=", "v/=a", "1v/c=a", "v/c=a-", "v/c/d=a"]
        {
            assert!(cdi(bad).is_none(), "{bad}");
        }
        let request = cdi("nvidia.com/gpu=1").unwrap();
        assert_eq!((request.driver.as_str(), request.which), ("nvidia.com/gpu", Which::Ids(vec!["1".to_owned()])));
    }
}
