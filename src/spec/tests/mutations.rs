//! No text, however broken, makes this room panic.

use proptest::prelude::*;

use crate::spec::samples::{read_bytes, shown};

const GOOD: &str = "\
name: shop
x-base: &base {restart: always, labels: [a=b]}
services:
  web:
    <<: *base
    image: nginx:${TAG:-1.27}
    command: ['sh', \"-c\", 'echo $$HOME']
    environment:
      A: ${A:-${B:-c}}
      N: 0755
    env_file: [{path: a.env, required: false}]
    ports: ['80:80', '[::1]:8000-8001:1-2/udp', {target: 443, published: '443'}]
    expose: [9000-9001]
    links: ['db:store']
    networks: {back: {ipv4_address: 10.5.0.9, aliases: [w], mac_address: '02:42:ac:11:00:02'}, default: }
    deploy: {replicas: 1, resources: {limits: {memory: 64m}}}
    healthcheck: {test: [CMD, x], interval: 1m30s}
    depends_on: {db: {condition: service_healthy}}
  db:
    image: postgres
    network_mode: none
    volumes: [{type: volume, source: data, target: /d}]
  vpn: {image: c, network_mode: 'service:web'}
networks:
  back: {enable_ipv6: true, driver_opts: {mtu: 1400}, ipam: {config: [{subnet: 10.5.0.0/24, gateway: 10.5.0.1}]}}
  far: {external: {name: lan}}
volumes: {data: }
";

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let bits = [
        "${",
        "}",
        "$",
        ":-",
        "&a ",
        "*a",
        "<<: ",
        "- ",
        "? ",
        ": ",
        "{",
        "[",
        "]",
        "\"",
        "'",
        "|\n",
        ">-\n",
        "\t",
        "\r",
        "\n  ",
        "!!str ",
        "!x ",
        "---\n",
        "...\n",
        "# ",
        "%YAML 1.2\n",
        "\u{feff}",
        "é",
        "\\0",
        "~",
        "services:",
        "image",
    ];
    prop_oneof![
        proptest::sample::select(bits.map(|bit| bit.as_bytes().to_vec()).to_vec()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read_bytes(&bytes, &[]);
    }

    #[test]
    fn any_pieces_are_answered(parts in proptest::collection::vec(pieces(), 0..60)) {
        let _ = read_bytes(&parts.concat(), &[]);
    }

    #[test]
    fn a_mutated_file_is_answered(edits in proptest::collection::vec((any::<usize>(), 0_usize..8, pieces()), 1..6), env in proptest::collection::vec(pieces(), 0..20)) {
        let mut bytes = GOOD.as_bytes().to_vec();
        for (at, cut, piece) in edits {
            let from = at % (bytes.len() + 1);
            let to = (from + cut).min(bytes.len());
            bytes.splice(from..to, piece);
        }
        let env = String::from_utf8_lossy(&env.concat()).into_owned();
        match read_bytes(&bytes, &[(".env", &env), ("a.env", &env)]) {
            Ok(_) => {}
            Err(problems) => prop_assert!(!problems.is_empty()),
        }
    }
}

#[test]
fn the_file_that_is_mutated_is_good() {
    let document = read_bytes(GOOD.as_bytes(), &[]).unwrap_or_else(|problems| panic!("{}", shown(&problems)));
    assert_eq!(document.project.services.len(), 3);
    let held = |name: &str| document.project.services.values().any(|s| s.name.as_str() == name && !s.holds.is_empty());
    assert!(!held("web") && !held("vpn"));
}
