//! `volumes`, in all their forms.

use crate::model::{MountSource, Service, VolumeRef};
use crate::spec::samples::{good, hash, read_with, shown};

fn text(volumes: &str) -> String {
    format!(
        "services: {{a: {{image: b, network_mode: none, volumes: [{volumes}]}}}}\nvolumes: {{v: , w: {{name: apart}}}}\n"
    )
}

fn service(volumes: &str) -> Service {
    good(&text(volumes)).project.services.into_values().next().unwrap()
}

fn told(volumes: &str) -> String {
    let service = service(volumes);
    let one = &service.mounts[0];
    let source = match &one.source {
        MountSource::Bind(bind) => format!("{} create={}", bind.source.display(), bind.create),
        MountSource::Volume(volume) => match &volume.volume {
            VolumeRef::Named(volume) => volume.name.to_string(),
            VolumeRef::Anonymous { of, target, .. } => format!("{of} {target}"),
        },
        MountSource::Image(image) => format!("{} {}", image.reference, image.subpath.as_deref().unwrap_or("-")),
    };
    format!("{source} {}{}", one.target, if one.read_only { " ro" } else { "" })
}

#[test]
fn every_form_is_read() {
    for (volumes, expected) in [
        ("/m", "a /m /m"),
        ("'v:/m'", "shop_v /m"),
        ("'w:/m:ro'", "apart /m ro"),
        ("'./d:/m:rw,cached'", "d create=true /m"),
        ("'~/d:/m'", "/root/d create=true /m"),
        ("'/d/../e:/m/:ro,z,rslave'", "/e create=true /m ro"),
        ("{type: bind, source: d, target: /m}", "d create=false /m"),
        ("{type: bind, source: /d, target: /m, bind: {create_host_path: true}}", "/d create=true /m"),
        ("{type: volume, source: v, target: /m, read_only: true}", "shop_v /m ro"),
        ("{type: volume, target: /m}", "a /m /m"),
        ("{type: image, source: w, target: /m}", "docker.io/library/w:latest - /m ro"),
        ("{type: image, source: 'r:5000/w:1', target: /m, image: {subpath: ./a//b}}", "r:5000/w:1 a/b /m ro"),
    ] {
        assert_eq!(told(volumes), expected, "{volumes}");
    }
    let tmpfs = service("{type: tmpfs, target: /m, tmpfs: {size: 2m, mode: 0700}}").isolation.tmpfs;
    assert_eq!(tmpfs[0].options, ["size=2097152", "mode=700"]);
}

#[test]
fn what_is_wrong_is_told() {
    for (volumes, expected) in [
        ("'x:/m'", "the volume \"x\" is not defined in the file"),
        ("'../d:/m'", "\"../d\" leads out of the state directory"),
        ("'C:\\d:/m'", "\"C:\\\\d:/m\" holds a path of Windows"),
        ("'v:/m', 'w:/m/'", "two mounts have the place \"/m\""),
        ("'v:/'", "\"/\" is not a place for a mount: it would hide the whole image"),
        ("'v:/proc/x'", "\"/proc/x\" is the kernel's, and nothing is mounted there"),
        ("'v:m'", "\"m\" is not a place for a mount: it is not an absolute path"),
        ("'v:/m:rx'", "\"rx\" is not an option of a mount"),
        ("{target: /m}", "the mount has no type"),
        ("{type: image, target: /m}", "the mount of an image has no source"),
        (
            "{type: image, source: A, target: /m}",
            "\"library/A\" is not a repository name; use lower-case letters, digits and single separators '.', '_', '__', '-', parts joined by '/'",
        ),
        ("{type: image, source: w, target: /m, image: {subpath: ../x}}", "\"../x\" is not a path in an image"),
        ("{type: image, source: w, target: /m, image: {subpath: /x}}", "\"/x\" is not a path in an image"),
    ] {
        let problems = read_with(&text(volumes), &[]).expect_err(volumes);
        assert_eq!(problems[0].message, expected, "{}", shown(&problems));
        assert!(problems[0].hint.is_some(), "{volumes}");
    }
}

#[test]
fn an_image_is_read_only_and_who_asks_for_more_is_told() {
    let told = |more: &str| {
        let text = text(&format!("{{type: image, source: w, target: /m{more}}}"));
        let read = good(&text);
        assert!(read.project.services.values().all(|service| service.mounts[0].read_only), "{more}");
        shown(&read.warnings)
    };
    assert_eq!(told(""), "");
    assert_eq!(told(", read_only: true"), "");
    let said = told(", read_only: false");
    assert!(said.contains("1:93: `read_only: false` has no effect: an image is mounted read-only"), "{said}");
    let said = told(", volume: {nocopy: true}");
    assert!(said.contains("`volume` has no effect on a mount of type image"), "{said}");
}

#[test]
fn another_image_or_another_part_of_it_makes_another_container() {
    let of = |image: &str| hash(&text(&format!("{{type: image, target: /m, {image}}}")));
    let all = ["source: w", "source: 'w:1'", "source: w, image: {subpath: a}", "source: w, image: {subpath: b}"];
    let hashes: std::collections::BTreeSet<_> = all.iter().map(|image| of(image).to_string()).collect();
    assert_eq!(hashes.len(), all.len());
    assert_eq!(of("source: w"), of("source: docker.io/library/w:latest"));
}

#[test]
fn mounts_of_other_services_are_taken_where_their_place_is_free() {
    let text = "services: {a: {image: b, volumes: [/x, /y], volumes_from: ['c:ro']}, c: {image: b, volumes: [/x, /z]}}";
    let service = good(text).project.services.into_values().next().unwrap();
    let all: Vec<(&str, bool)> = service.mounts.iter().map(|m| (m.target.as_str(), m.read_only)).collect();
    assert_eq!(all, [("/x", false), ("/y", false), ("/z", true)]);
    let circle = "services: {a: {image: b, volumes_from: [c]}, c: {image: b, volumes_from: [a]}}";
    let problems = read_with(circle, &[]).unwrap_err();
    assert_eq!(problems[0].message, "mounts are taken in a circle: a -> c -> a");
}

#[test]
fn their_order_makes_no_other_container() {
    assert_eq!(hash(&text("'v:/a', /b")), hash(&text("/b, 'v:/a'")));
    assert_ne!(hash(&text("'v:/a'")), hash(&text("'v:/a:ro'")));
}
