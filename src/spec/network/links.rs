//! `links` and `external_links`.

use super::super::scope::Scope;
use super::{ALIAS_HINT, is_alias};
use crate::model::ServiceLink;

pub(super) fn read(scope: &mut Scope<'_, '_, '_>) -> Vec<ServiceLink> {
    let mut links = Vec::new();
    for key in ["links", "external_links"] {
        for (text, at) in scope.texts(key) {
            let (target, alias) = text.split_once(':').unwrap_or((text, text));
            if key == "links" && !scope.reader.has_service(target) {
                let message = format!("there is no service {target:?} in the file");
                scope.error(at, key, message, "write SERVICE or SERVICE:ALIAS");
            } else if let Some(wrong) = [target, alias].into_iter().find(|name| !is_alias(name)) {
                scope.stop(at, key, format!("{wrong:?} is not a name"), ALIAS_HINT);
            } else {
                links.push(ServiceLink { target: target.to_owned(), alias: alias.to_owned() });
            }
        }
    }
    links
}
