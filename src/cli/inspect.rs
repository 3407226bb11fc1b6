//! `longshore inspect NAME`

use serde_json::Value;

use super::Exit;
use super::args::InspectArgs;
use super::client::{Client, percent};
use super::failure::Failure;
use super::out::Out;

/// What the daemon says, in whole: a newer daemon may say more than this client knows.
pub(super) async fn run(client: &Client, args: &InspectArgs, out: &mut Out) -> Result<Exit, Failure> {
    let container: Value = client.get(&format!("/api/v1/containers/{}", percent(&args.name))).await?;
    out.json(&container)?;
    Ok(Exit::Fine)
}
