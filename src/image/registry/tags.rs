//! The tags of a repository (distribution-spec, "Listing Tags"): page after page, with bounds.

use reqwest::Response;
use reqwest::header::LINK;
use serde::Deserialize;

use super::error::RegistryError;
use super::place::{Ask, Place};
use super::session::Session;

/// So many tags are asked for at once; a registry may give fewer.
const PAGE: usize = 1_000;
/// Not more pages.
const PAGES: usize = 100;
/// A page is not larger.
const LARGEST: u64 = 4 << 20;

#[derive(Deserialize)]
struct Page {
    /// Some registries say `null` for none.
    tags: Option<Vec<String>>,
}

impl Session<'_> {
    /// All tags of the image's repository.
    pub(in crate::image) async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        self.each(|place| Box::pin(self.tags_of(place))).await
    }

    async fn tags_of(&self, place: &Place) -> Result<Vec<String>, RegistryError> {
        let (mut all, mut path) = (Vec::new(), format!("tags/list?n={PAGE}"));
        for _ in 0..PAGES {
            let response = place.send(&Ask::get(path), self.settings(), self.progress()).await?;
            let next = next(&response);
            let bytes = place.bounded(response, "a list of tags", LARGEST, &self.settings().timeouts).await?;
            let page: Page = serde_json::from_slice(&bytes).map_err(|error| RegistryError::Setup {
                registry: place.host.clone(),
                reason: format!("its list of tags cannot be read: {error}"),
            })?;
            all.extend(page.tags.unwrap_or_default());
            match next {
                Some(next) => path = next,
                None => return Ok(all),
            }
        }
        Err(RegistryError::TooLarge {
            registry: place.host.clone(),
            what: "a list of tags",
            limit: (PAGE * PAGES) as u64,
        })
    }
}

/// Where the next page is: `Link: </v2/a/tags/list?last=x&n=1000>; rel="next"`.
fn next(response: &Response) -> Option<String> {
    let links = response.headers().get_all(LINK).into_iter().filter_map(|value| value.to_str().ok());
    let link = links.flat_map(|text| text.split(',')).find_map(target)?;
    response.url().join(&link).ok().map(String::from)
}

fn target(link: &str) -> Option<String> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let next = parameters.split(';').any(|p| matches!(p.trim(), "rel=\"next\"" | "rel=next"));
    next.then(|| target.to_owned())
}

#[cfg(test)]
mod tests {
    use super::target;

    #[test]
    fn the_next_page_is_found() {
        let link = "</v2/a/tags/list?last=x&n=2>; rel=\"next\"";
        assert_eq!(target(link).as_deref(), Some("/v2/a/tags/list?last=x&n=2"));
        assert_eq!(target("<x>; rel=prev"), None);
        assert_eq!(target("x; rel=next"), None);
    }
}
