//! `blkio_config`: weights and limits of block I/O.

use super::node::Node;
use super::scope::Scope;
use super::size;
use super::tmpfs::absolute;
use crate::model::{Ability, BlockIo};

pub(super) fn read(scope: &mut Scope<'_, '_, '_>) -> BlockIo {
    let block = BlockIo {
        weight: weight(scope),
        device_weights: devices("blkio_config.weight_device", "weight", of_weight, scope),
        read_bytes: devices("blkio_config.device_read_bps", "rate", size::bytes, scope),
        write_bytes: devices("blkio_config.device_write_bps", "rate", size::bytes, scope),
        read_operations: devices("blkio_config.device_read_iops", "rate", operations, scope),
        write_operations: devices("blkio_config.device_write_iops", "rate", operations, scope),
    };
    let limits = [&block.read_bytes, &block.write_bytes, &block.read_operations, &block.write_operations];
    if limits.iter().any(|limits| !limits.is_empty()) {
        scope.wish("blkio_config", Ability::BlockLimit);
    }
    if block.weight.is_some() || !block.device_weights.is_empty() {
        scope.wish("blkio_config", Ability::BlockWeight);
    }
    block
}

fn weight(scope: &mut Scope<'_, '_, '_>) -> Option<u16> {
    const KEY: &str = "blkio_config.weight";
    let (text, at) = scope.word(KEY)?;
    let weight = of_weight(text);
    if weight.is_none() {
        scope.error(at, KEY, format!("`{KEY}` is {text}: expected a number from 10 to 1000, or 0"), "500 is usual");
    }
    weight.and_then(|weight| u16::try_from(weight).ok()).filter(|weight| *weight > 0)
}

fn of_weight(text: &str) -> Option<i64> {
    text.parse::<i64>().ok().filter(|weight| *weight == 0 || (10..=1000).contains(weight))
}

fn operations(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// A list of devices, each with a value. Zero asks for nothing.
fn devices<T: TryFrom<i64>>(
    key: &str,
    name: &str,
    read: fn(&str) -> Option<i64>,
    scope: &mut Scope<'_, '_, '_>,
) -> Vec<(String, T)> {
    let mut all = Vec::new();
    for node in scope.given(key).map(Node::items).unwrap_or_default() {
        let path = node.given("path").and_then(Node::text).unwrap_or_default();
        let Some(device) = absolute(path).filter(|path| path != "/") else {
            scope.error(node.at, key, format!("{path:?} is not a device"), "write the path of one, such as /dev/sda");
            continue;
        };
        let text = node.given(name).and_then(Node::text).unwrap_or_default();
        match read(text).filter(|value| *value >= 0) {
            Some(0) => {}
            Some(value) => all.extend(T::try_from(value).ok().map(|value| (device, value))),
            None => {
                let at = node.given(name).map_or(node.at, |value| value.at);
                let hint =
                    if name == "weight" { "a weight is a number from 10 to 1000" } else { "write a number from 1" };
                scope.error(at, key, format!("{text:?} is not a {name}"), hint);
            }
        }
    }
    all
}
