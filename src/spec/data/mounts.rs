//! `volumes` and `volumes_from` of a service, one by one.

use std::collections::{BTreeMap, BTreeSet};

use super::super::node::Value;
use super::super::scope::Scope;
use super::super::source_text::Span;
use super::ours::{self, Require};
use super::{Data, Definitions, FROM, Fault, From, KEY, Places, What, Written, long, place, short, wide};
use crate::model::{Bind, ImageMount, Mount, MountSource, Owner, ServiceName, Tmpfs, VolumeMount, VolumeRef};

/// What is read while the list is.
struct Found {
    taken: BTreeMap<String, &'static str>,
    volumes: BTreeSet<String>,
    mounts: Vec<Mount>,
    tmpfs: Vec<Tmpfs>,
}

/// `tmpfs`: what the key of that name gives. `of`: the service's name.
pub(in crate::spec) fn read(
    of: &ServiceName,
    tmpfs: &[Tmpfs],
    definitions: &Definitions,
    scope: &mut Scope<'_, '_, '_>,
) -> Data {
    let body = scope.body();
    let service_key = scope.full("");
    let own = ours::read(body, service_key.trim_end_matches('.'), scope.reader);
    let everywhere = &definitions.everywhere;
    let owner = own.owner.or(everywhere.owner);
    let mut found = Found {
        taken: tmpfs.iter().map(|folder| (folder.target.clone(), "tmpfs")).collect(),
        volumes: BTreeSet::new(),
        mounts: Vec::new(),
        tmpfs: Vec::new(),
    };
    let items = scope.given(KEY).map(super::super::node::Node::items).unwrap_or_default();
    for (at, item) in items.iter().enumerate() {
        let written = match item.value {
            Value::Map(_) => long::read(item, &scope.full(&format!("{KEY}[{at}]")), scope),
            Value::Scalar(_) | Value::List(_) => short::read(item.text().unwrap_or_default(), item.at, scope),
        };
        if let Some(written) = written {
            let at = written.at;
            if let Err((message, hint)) = one(written, owner, of, &mut found, definitions, scope) {
                scope.error(at, KEY, message, &hint);
            }
        }
    }
    let (required, require_sources) = match own.require.or_else(|| everywhere.require.clone()) {
        None | Some(Require::Nothing) => (Vec::new(), false),
        Some(Require::Sources) => (Vec::new(), true),
        Some(Require::Paths(paths)) => (paths.into_iter().collect::<BTreeSet<_>>().into_iter().collect(), false),
    };
    found.mounts.sort_by(|a, b| a.target.cmp(&b.target));
    found.tmpfs.sort_by(|a, b| a.target.cmp(&b.target));
    let places = Places { volumes: found.volumes.into_iter().collect(), from: from(scope), require_sources };
    Data { mounts: found.mounts, required, tmpfs: found.tmpfs, places }
}

fn one(
    written: Written<'_>,
    owner: Option<Owner>,
    of: &ServiceName,
    found: &mut Found,
    definitions: &Definitions,
    scope: &mut Scope<'_, '_, '_>,
) -> Result<(), Fault> {
    let target = place::target(written.target)?;
    if let Some(by) = found.taken.insert(target.clone(), KEY) {
        let message = match by {
            KEY => format!("two mounts have the place {target:?}"),
            other => format!("the place {target:?} is taken by `{other}`"),
        };
        return Err((message, "remove one of them".to_owned()));
    }
    let source = match written.what {
        What::Tmpfs(options) => {
            found.tmpfs.push(Tmpfs { target, options });
            return Ok(());
        }
        What::Bind { source, create, propagation, recursive, label } => {
            let folder = scope.reader.report.source.path.parent();
            let source = place::source(source, folder.unwrap_or_else(|| "".as_ref()))?;
            MountSource::Bind(Bind { source, create, propagation, recursive, label })
        }
        What::Volume { source, subpath, no_copy, labels } => {
            let volume = match source {
                Some(key) => named(key, found, definitions, scope)?,
                None => VolumeRef::Anonymous { of: of.clone(), target: target.clone(), labels },
            };
            MountSource::Volume(VolumeMount { volume, subpath, no_copy })
        }
        What::Image { reference, subpath } => MountSource::Image(ImageMount { reference, subpath }),
    };
    let mount = Mount { target, source, read_only: written.read_only, owner: written.owner.or(owner) };
    spend(&mount, scope.reader)?;
    tell(&mount, written.at, scope);
    found.mounts.push(mount);
    Ok(())
}

fn tell(mount: &Mount, at: Span, scope: &mut Scope<'_, '_, '_>) {
    for what in wide::said(mount, scope.reader.report.source.path) {
        scope.loosen(at, KEY, what);
    }
}

/// A volume of the file by its key there.
fn named(
    key: &str,
    found: &mut Found,
    definitions: &Definitions,
    scope: &Scope<'_, '_, '_>,
) -> Result<VolumeRef, Fault> {
    let Some(definition) = definitions.find(key) else {
        let message = format!("the volume {key:?} is not defined in the file");
        if key.contains(['/', '\\']) {
            let hint = "a folder of the host begins with `/` or `./`, and in the long form its type is `bind`";
            return Err((message, hint.to_owned()));
        }
        // To explain a hundred thousand unknown names would take seconds.
        let near = if scope.reader.report.full() { None } else { definitions.nearest(key) };
        let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        return Err((message, format!("{near}volumes are defined below `volumes:` of the file")));
    };
    found.volumes.insert(key.to_owned());
    Ok(VolumeRef::Named(Box::new(definition.volume.clone())))
}

/// Takes note of what a mount needs in memory: a volume's labels are written once and read into each of its mounts.
pub(super) fn spend(mount: &Mount, reader: &mut super::super::project::Reader<'_, '_>) -> Result<(), Fault> {
    let texts = |map: &BTreeMap<String, String>| map.iter().map(|(k, v)| k.len() + v.len() + 100).sum::<usize>();
    let source = match &mount.source {
        MountSource::Bind(bind) => bind.source.as_os_str().len(),
        MountSource::Volume(volume) => match &volume.volume {
            VolumeRef::Named(volume) => volume.name.as_str().len() + texts(&volume.options) + texts(&volume.labels),
            VolumeRef::Anonymous { target, labels, .. } => target.len() + texts(labels),
        },
        MountSource::Image(image) => image.reference.to_string().len() + image.subpath.as_ref().map_or(0, String::len),
    };
    if reader.spend_mount(400 + mount.target.len() + source) {
        return Ok(());
    }
    let message = "the file has too many mounts, or their volumes too many labels".to_owned();
    Err((message, "divide it into several projects".to_owned()))
}

fn from(scope: &mut Scope<'_, '_, '_>) -> Vec<From> {
    let mut all = Vec::new();
    for (text, at) in scope.texts(FROM) {
        let (name, mode) = match text.strip_prefix("container:") {
            Some(_) => {
                let why =
                    "the mounts of a container that is not of this file are not known, and the service would lack them";
                scope.hold(
                    at,
                    FROM,
                    why,
                    "name a service of the file, or mount the same volume: external volumes can be shared",
                );
                continue;
            }
            None => text.split_once(':').unwrap_or((text, "rw")),
        };
        let read_only = match mode {
            "rw" => false,
            "ro" => true,
            other => {
                let hint = "write SERVICE, SERVICE:ro or SERVICE:rw";
                scope.error(at, FROM, format!("{other:?} is not a way to mount volumes"), hint);
                continue;
            }
        };
        match ServiceName::parse(name) {
            Ok(name) => all.push(From { name, read_only, at }),
            Err(error) => scope.error(at, FROM, error.to_string(), "write the name of a service of the file"),
        }
    }
    all
}
