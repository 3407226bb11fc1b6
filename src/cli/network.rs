//! `longshore network …`

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Exit;
use super::client::{Client, percent};
use super::failure::Failure;
use super::out::{Ink, Out, Paint};
use super::table::{Table, plain};
use crate::api::wire::Network;

#[derive(Debug, Subcommand)]
pub(super) enum NetworkCommand {
    /// List networks
    Ls(LsArgs),
    /// Show all about networks, as JSON
    Inspect(InspectArgs),
}

#[derive(Debug, Args)]
pub(super) struct LsArgs {
    /// For programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// Names, ids, or beginnings of ids
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

pub(super) async fn run(client: &Client, command: &NetworkCommand, out: &mut Out) -> Result<Exit, Failure> {
    match command {
        NetworkCommand::Ls(args) => list(client, args.json, out).await,
        NetworkCommand::Inspect(args) => inspect(client, &args.names, out).await,
    }
}

async fn list(client: &Client, json: bool, out: &mut Out) -> Result<Exit, Failure> {
    let networks: Vec<Network> = client.get("/api/v1/networks").await?;
    if json {
        out.json(&networks)?;
    } else {
        out.text(&render(&networks, out.paint))?;
    }
    Ok(Exit::Fine)
}

/// What the daemon says, in whole, as a list: one name or many. One that fails does not keep the others from being asked.
async fn inspect(client: &Client, names: &[String], out: &mut Out) -> Result<Exit, Failure> {
    let mut found: Vec<Value> = Vec::new();
    let mut exit = Exit::Fine;
    for name in names {
        match client.get(&format!("/api/v1/networks/{}", percent(name))).await {
            Ok(network) => found.push(network),
            Err(failure) if names.len() == 1 => return Err(failure),
            Err(failure) => {
                out.complain(&failure.to_string());
                exit = Exit::Error;
            }
        }
    }
    out.json(&found)?;
    Ok(exit)
}

fn render(networks: &[Network], paint: Paint) -> String {
    let mut table = Table::new(&["ID", "NAME", "DRIVER", "SUBNETS", "INTERFACE", "CONTAINERS", "STATE"]);
    for n in networks {
        let inside = if n.internal { ", internal" } else { "" };
        let mode = n.mode.as_ref().map_or_else(String::new, |mode| format!(" {mode}"));
        table.row([
            (n.id.chars().take(12).collect(), Ink::Faint),
            plain(&n.name),
            plain(format!("{}{mode}{inside}", n.driver)),
            plain(n.subnets.join(" ")),
            plain(n.interface.as_deref().unwrap_or("-")),
            plain(n.containers.len().to_string()),
            state(n),
        ]);
    }
    table.render(paint)
}

pub(super) fn state(network: &Network) -> (String, Ink) {
    match &network.broken {
        None => ("up".to_owned(), Ink::Good),
        Some(why) => (why.clone(), Ink::Bad),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::Member;

    #[test]
    fn one_line_for_each_network() {
        let member =
            Member { id: String::new(), name: "shop-web-1".into(), addresses: vec!["172.30.0.2/24".into()], mac: None };
        let network = Network {
            id: "0123456789abcdef".repeat(4),
            name: "shop_default".into(),
            driver: "bridge".into(),
            mode: None,
            internal: false,
            subnets: vec!["172.30.0.0/24".into(), "fd00::/64".into()],
            gateways: vec!["172.30.0.1".into()],
            interface: Some("ls-0123456789".into()),
            mtu: None,
            labels: Default::default(),
            broken: None,
            containers: vec![member],
        };
        let broken = Network {
            name: "lan".into(),
            driver: "macvlan".into(),
            mode: Some("bridge".into()),
            internal: true,
            interface: None,
            broken: Some("its parent eth7 is\u{1b} gone".into()),
            containers: Vec::new(),
            ..network.clone()
        };
        insta::assert_snapshot!(render(&[network, broken], Paint { on: false }), @r"
        ID            NAME          DRIVER                    SUBNETS                  INTERFACE      CONTAINERS  STATE
        0123456789ab  shop_default  bridge                    172.30.0.0/24 fd00::/64  ls-0123456789  1           up
        0123456789ab  lan           macvlan bridge, internal  172.30.0.0/24 fd00::/64  -              0           its parent eth7 is\u{1b} gone
        ");
    }
}
