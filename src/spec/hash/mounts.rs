//! `volumes` as lines of the canonical text: what the container is given, not how volumes are defined. Whoever adds a field
//! is made to say here how it is written.

use super::Canonical;
use crate::model::{
    Bind, ImageMount, Mount, MountSource, Propagation, Recursive, Relabel, ServiceName, VolumeMount, VolumeRef,
};

/// Mounts are in the order of their targets. What a service waits for before it is started makes no other container.
pub(super) fn mounts(of: &ServiceName, mounts: &[Mount], text: &mut Canonical) {
    for Mount { target, source, read_only, owner } in mounts {
        let mut values = vec![target.clone()];
        match source {
            MountSource::Bind(one) => bind(one, &mut values),
            MountSource::Volume(one) => volume(of, one, &mut values),
            MountSource::Image(one) => image(one, &mut values),
        }
        if *read_only {
            values.push("ro".to_owned());
        }
        if let Some(owner) = owner {
            values.push(format!("owner={}:{}", owner.uid, owner.gid));
        }
        text.line("mount", &values.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

fn bind(bind: &Bind, values: &mut Vec<String>) {
    // What is made where it is missing is remembered with the container, like all of this.
    let Bind { source, create, propagation, recursive, label } = bind;
    values.extend(["bind".to_owned(), source.to_string_lossy().into_owned()]);
    values.extend(create.then(|| "create".to_owned()));
    let propagation = match propagation {
        Propagation::Private => None,
        Propagation::Slave => Some("slave"),
        Propagation::Shared => Some("shared"),
    };
    let recursive = match recursive {
        Recursive::Enabled => None,
        Recursive::Disabled => Some("recursive=disabled"),
        Recursive::Writable => Some("recursive=writable"),
        Recursive::ReadOnly => Some("recursive=readonly"),
    };
    let label = label.map(|label| match label {
        Relabel::Shared => "z",
        Relabel::Private => "Z",
    });
    values.extend([propagation, recursive, label].into_iter().flatten().map(str::to_owned));
}

fn volume(of: &ServiceName, mount: &VolumeMount, values: &mut Vec<String>) {
    let VolumeMount { volume, subpath, no_copy } = mount;
    match volume {
        VolumeRef::Named(volume) => values.extend(["volume".to_owned(), volume.name.to_string()]),
        VolumeRef::Anonymous { of: other, target: _, labels: _ } if other == of => values.push("anonymous".to_owned()),
        VolumeRef::Anonymous { of: other, target, labels: _ } => {
            values.extend(["anonymous".to_owned(), other.to_string(), target.clone()]);
        }
    }
    values.extend(subpath.iter().map(|subpath| format!("subpath={subpath}")));
    values.extend(no_copy.then(|| "nocopy".to_owned()));
}

/// By its name: what it stands for is looked up when a container is made.
fn image(mount: &ImageMount, values: &mut Vec<String>) {
    let ImageMount { reference, subpath } = mount;
    values.extend(["image".to_owned(), reference.to_string()]);
    values.extend(subpath.iter().map(|subpath| format!("subpath={subpath}")));
}
