//! `longshore confirm`

use super::Exit;
use super::client::Client;
use super::failure::Failure;
use super::out::Out;
use crate::api::wire::Confirmed;

pub(super) async fn run(client: &Client, out: &mut Out) -> Result<Exit, Failure> {
    let _: Confirmed = client.post("/api/v1/confirm").await?;
    out.text("confirmed: what the folder does not name any more is removed now\n")?;
    Ok(Exit::Fine)
}
