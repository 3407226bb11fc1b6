//! `longshore volume ls`

use super::PATIENCE;
use super::args::LsArgs;
use crate::api::wire::VolumeEntry;
use crate::cli::Exit;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::out::{Ink, Out, Paint, now};
use crate::cli::table::{Table, plain};
use crate::cli::words::{age, bytes, printable};
use crate::model::Timestamp;

pub(super) async fn run(client: &Client, args: &LsArgs, out: &mut Out) -> Result<Exit, Failure> {
    let query = if args.no_size || args.quiet { "" } else { "?size=true" };
    let mut all: Vec<VolumeEntry> = client.get_within(&format!("/api/v1/volumes{query}"), PATIENCE).await?;
    all.retain(|volume| volume.unused || !args.unused);
    if args.json {
        out.json(&all)?;
    } else if args.quiet {
        out.text(&all.iter().map(|volume| format!("{}\n", printable(&volume.name))).collect::<String>())?;
    } else {
        out.text(&render(&all, now(), out.paint))?;
    }
    Ok(Exit::Fine)
}

fn render(all: &[VolumeEntry], now: Timestamp, paint: Paint) -> String {
    let mut table = Table::new(&["NAME", "DRIVER", "SIZE", "CREATED", "USED BY"]);
    for volume in all {
        table.row([
            plain(&volume.name),
            plain(driver(volume)),
            plain(volume.bytes.map_or_else(|| "-".to_owned(), bytes)),
            plain(age(volume.created, now)),
            user(volume),
        ]);
    }
    table.render(paint)
}

fn driver(volume: &VolumeEntry) -> String {
    let options: Vec<String> = volume.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if options.is_empty() { volume.driver.clone() } else { format!("{} ({})", volume.driver, options.join(" ")) }
}

/// Containers; else who would have one; else nobody, which is what a prune looks for.
fn user(volume: &VolumeEntry) -> (String, Ink) {
    match (volume.used_by.as_slice(), volume.defined_by.as_slice()) {
        ([], []) => ("unused".to_owned(), Ink::Busy),
        ([], files) => (format!("no container; named by {}", files.join(", ")), Ink::Plain),
        (containers, _) => (containers.join(", "), Ink::Plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_volume() {
        let volume = VolumeEntry {
            name: "shop_data".into(),
            driver: "local".into(),
            options: Default::default(),
            labels: Default::default(),
            created: Timestamp(0).into(),
            path: "/p".into(),
            anonymous: false,
            mounted: false,
            used_by: vec!["shop-db-1".into(), "shop-db-2".into()],
            defined_by: vec!["/s/shop.yaml".into()],
            unused: false,
            bytes: Some(4096),
            files: Some(2),
        };
        let options = [("type".to_owned(), "nfs".to_owned()), ("device".to_owned(), ":/\u{1b}m".to_owned())].into();
        let media = VolumeEntry { name: "media".into(), options, used_by: vec![], bytes: None, ..volume.clone() };
        let old =
            VolumeEntry { name: "old".into(), used_by: vec![], defined_by: vec![], unused: true, ..volume.clone() };
        insta::assert_snapshot!(render(&[volume, media, old], Timestamp(7_200_000), Paint { on: false }), @r"
        NAME       DRIVER                             SIZE     CREATED  USED BY
        shop_data  local                              4.0 KiB  2h       shop-db-1, shop-db-2
        media      local (device=:/\u{1b}m type=nfs)  -        2h       no container; named by /s/shop.yaml
        old        local                              4.0 KiB  2h       unused
        ");
    }
}
