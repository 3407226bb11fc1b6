//! The resolver alone, in the network namespace that it is started in, for `names.py`: `serve REPLICAS`.

use std::net::Ipv4Addr;

use longshore::model::{ContainerId, ContainerName, NetworkId, NetworkName, ProjectName, ServiceName};
use longshore::network::dns::{Joined, Member, Resolver, Settings, Zone, redirect, sockets};

fn id(number: u32) -> ContainerId {
    ContainerId::from_hex(&format!("{number:064x}")).expect("64 digits")
}

fn member(number: u32) -> Member {
    Member {
        container: id(number),
        name: ContainerName::parse(&format!("shop-web-{number}")).expect("a name"),
        project: ProjectName::parse("shop").expect("a name"),
        service: ServiceName::parse("web").expect("a name"),
        links: vec![Joined {
            network: NetworkId::from_hex(&"a".repeat(64)).expect("64 digits"),
            network_name: NetworkName::parse("shop_default").expect("a name"),
            v4: Some(Ipv4Addr::from_bits(0x0a59_0001 + number)),
            v6: None,
            aliases: Vec::new(),
        }],
        ports: Vec::new(),
        service_links: Vec::new(),
        upstreams: Vec::new(),
        internal_only: false,
    }
}

fn main() -> std::io::Result<()> {
    let replicas = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1);
    redirect()?;
    let (udp, tcp) = sockets()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let resolver = Resolver::new(Settings::default());
        resolver.set(Zone::new((1..=replicas).map(member).collect()));
        resolver.serve(id(1), udp, tcp)?;
        println!("ready");
        std::future::pending::<std::io::Result<()>>().await
    })
}
