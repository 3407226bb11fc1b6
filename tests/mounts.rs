//! What containers see of volumes and of the host: as root, with a root made of Debian's static busybox.

#[expect(dead_code, reason = "networks are for other tests")]
mod network_support;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use longshore::container::{GivenMount, GivenSource, Runtime, StartGiven};
use longshore::model::{ContainerState, Owner, Propagation, Recursive, UserNamespace};
use network_support::{LIMIT, Place, apart, spec};

fn given(source: &Path, target: &str) -> GivenMount {
    GivenMount {
        source: GivenSource::Path(source.to_owned()),
        target: target.into(),
        read_only: false,
        propagation: Propagation::Private,
        recursive: Recursive::Enabled,
        label: None,
        owner: None,
        subpath: None,
        fill: None,
        in_use: false,
    }
}

const SIZE: u32 = 65_536;

const LOOKS: &str = "cd /; busybox stat -c '%u %g %a' /filled /filled/passwd; cat /data/file /etc/hosts /sub/deep
    echo new > /data/new; echo no > /closed/new; busybox stat -c '%u %g' /owned/file; echo own > /owned/new";

async fn seen(runtime: Runtime, user: UserNamespace) {
    let (place, dir) = (Place::new(runtime), tempfile::tempdir().expect("a folder"));
    let path = |name: &str| dir.path().join(name);
    for folder in ["data", "closed", "owned", "volume/_data", "sub/a"] {
        fs::create_dir_all(path(folder)).expect("made");
    }
    fs::write(path("data/file"), "data\n").expect("written");
    fs::write(path("hosts"), "hosts\n").expect("written");
    fs::write(path("sub/a/deep"), "deep\n").expect("written");
    std::os::unix::fs::symlink("/a", path("sub/link")).expect("a link");
    fs::write(path("owned/file"), "").expect("written");
    for name in ["owned", "owned/file"] {
        chown(path(name), Some(1234), Some(567)).expect("owned");
    }
    let mounts = vec![
        given(&path("data"), "/data"),
        given(&path("hosts"), "/etc/hosts"),
        GivenMount { read_only: true, ..given(&path("closed"), "/closed") },
        GivenMount { owner: Some(Owner { uid: 1234, gid: 567 }), ..given(&path("owned"), "/owned") },
        GivenMount { subpath: Some("link".into()), ..given(&path("sub"), "/sub") },
        GivenMount { fill: Some(path("volume/.fill")), ..given(&path("volume/_data"), "/etc") },
        given(&path("volume/_data"), "/filled"),
    ];
    let looks = spec("looks", LOOKS, |service| {
        service.isolation.user = user;
        service.network = longshore::model::NetworkMode::None;
    });
    place.create(&looks).await;
    place.all().start_with(&looks.id, StartGiven { mounts, ..StartGiven::default() }).await.expect("started");
    let mut changed = place.all().changed();
    let wait = async {
        while !matches!(place.all().observe()[&looks.id].state, ContainerState::Exited { .. }) {
            changed.changed().await.expect("open");
        }
    };
    tokio::time::timeout(LIMIT, wait).await.expect("it ends");
    let text = place.written(&looks).await;
    assert!(text.starts_with("0 0 755\n0 0 644\ndata\nhosts\ndeep\n"), "{text}");
    assert!(text.contains("Read-only file system") && text.contains("\n0 0\n"), "{text}");
    assert_eq!(fs::metadata(path("data/new")).expect("written").uid(), 0);
    assert_eq!(fs::metadata(path("owned/new")).expect("written").uid(), 1234);
    assert_eq!(fs::metadata(path("volume/_data")).expect("filled").permissions().mode() & 0o777, 0o755);
    assert!(!path("closed/new").exists() && !path("volume/.fill").exists());
}

#[test]
fn mounts_by_the_embedded_runtime() {
    apart(|| seen(Runtime::Embedded, UserNamespace::Host));
}

#[test]
fn mounts_by_runc() {
    apart(|| seen(Runtime::External("/usr/sbin/runc".into()), UserNamespace::Host));
}

#[test]
fn mounts_by_the_embedded_runtime_with_users_of_its_own() {
    apart(|| seen(Runtime::Embedded, UserNamespace::Auto { size: SIZE }));
}

#[test]
fn mounts_by_runc_with_users_of_its_own() {
    apart(|| seen(Runtime::External("/usr/sbin/runc".into()), UserNamespace::Auto { size: SIZE }));
}
