//! `longshore ps`

use super::Exit;
use super::args::PsArgs;
use super::client::Client;
use super::failure::Failure;
use super::out::{Ink, Out, Paint, now};
use super::ports;
use super::table::{Table, plain};
use super::words::{age, image, printable, until};
use crate::api::wire::{Container, ContainerState, Status};
use crate::model::Timestamp;

pub(super) async fn run(client: &Client, args: &PsArgs, out: &mut Out) -> Result<Exit, Failure> {
    let mut containers: Vec<Container> = client.get("/api/v1/containers").await?;
    if !args.all {
        containers.retain(|c| matches!(c.state, ContainerState::Running { .. }));
    }
    if args.json {
        out.json(&containers)?;
    } else {
        let status: Status = client.get("/api/v1/status").await?;
        out.text(&render(&containers, out.paint, now()))?;
        out.text(&set_aside(&status))?;
    }
    Ok(Exit::Fine)
}

/// Services that run something else than their files ask for.
fn set_aside(status: &Status) -> String {
    let services = status.projects.iter().flat_map(|p| p.services.iter().map(move |s| (&p.name, s)));
    let lines = services.filter_map(|(project, service)| {
        let said = &service.set_aside.as_ref()?.message;
        Some(format!("{}\n", printable(&format!("{project}/{}: {said}", service.name))))
    });
    lines.collect()
}

fn render(containers: &[Container], paint: Paint, now: Timestamp) -> String {
    let mut table =
        Table::new(&["ID", "NAME", "SERVICE", "IMAGE", "STATE", "RESTARTS", "PID", "PORTS", "NEXT ATTEMPT"]);
    for c in containers {
        table.row([
            (c.id.chars().take(12).collect(), Ink::Faint),
            plain(&c.name),
            plain(format!("{}/{}", c.project, c.service)),
            plain(image(&c.image)),
            paused(c).unwrap_or_else(|| state(c, now)),
            plain(c.restarts.to_string()),
            plain(pid(&c.state)),
            plain(ports::of_container(c)),
            plain(c.next_attempt.map_or_else(String::new, |t| until(t, now))),
        ]);
    }
    table.render(paint)
}

fn paused(container: &Container) -> Option<(String, Ink)> {
    container.paused.then(|| ("paused".to_owned(), Ink::Busy))
}

fn state(container: &Container, now: Timestamp) -> (String, Ink) {
    let health = container.health.as_ref().map(|health| health.status.as_str());
    match &container.state {
        ContainerState::Created => ("created".to_owned(), Ink::Busy),
        ContainerState::Running { since, .. } => {
            let ink = match health {
                Some("unhealthy") => Ink::Bad,
                Some("starting") => Ink::Busy,
                _ => Ink::Good,
            };
            let health = health.map_or_else(String::new, |word| format!(" ({word})"));
            (format!("up {}{health}", age(*since, now)), ink)
        }
        ContainerState::Exited { code: 0, at, .. } => (format!("done {} ago", age(*at, now)), Ink::Plain),
        ContainerState::Exited { how, at, .. } => (format!("{how}, {} ago", age(*at, now)), Ink::Bad),
        ContainerState::StartFailed { error, at } => (format!("start failed {} ago: {error}", age(*at, now)), Ink::Bad),
        ContainerState::Orphaned => ("orphaned: being ended".to_owned(), Ink::Bad),
    }
}

fn pid(state: &ContainerState) -> String {
    match state {
        ContainerState::Running { pid, .. } => pid.to_string(),
        ContainerState::Created
        | ContainerState::Exited { .. }
        | ContainerState::StartFailed { .. }
        | ContainerState::Orphaned => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::{ContainerHealth, NetworkLink, PublishedPort, Time};

    fn container(name: &str, state: ContainerState) -> Container {
        Container {
            id: "0123456789abcdef".repeat(4),
            name: name.into(),
            project: "shop".into(),
            service: "web".into(),
            number: 1,
            image: "docker.io/library/nginx:latest".into(),
            image_digest: String::new(),
            hash: String::new(),
            settings: Default::default(),
            state,
            health: None,
            paused: false,
            restarts: 2,
            reason: String::new(),
            next_attempt: None,
            networks: Vec::new(),
            ports: Vec::new(),
            shares_network_of: None,
        }
    }

    #[test]
    fn one_line_for_each_container() {
        let at = |s: u64| Time::from(Timestamp(s * 1000));
        let mut failed =
            container("shop-web-3", ContainerState::StartFailed { error: "no\x1b such file".into(), at: at(98) });
        failed.next_attempt = Some(at(104));
        let mut runs = container("shop-web-1", ContainerState::Running { pid: 4711, shim: 4710, since: at(1) });
        runs.health = Some(ContainerHealth { status: "healthy".into(), failing: 0, checks: Vec::new() });
        runs.ports.push(PublishedPort {
            address: None,
            port: Some(8080),
            last_port: None,
            target: 80,
            protocol: "tcp".into(),
            outside: true,
            reach: String::new(),
        });
        runs.networks.push(NetworkLink {
            network: "shop_default".into(),
            interface: "eth0".into(),
            addresses: vec!["172.30.0.2/24".into(), "fd00::2/64".into()],
            gateways: Vec::new(),
            mac: None,
            mtu: 1500,
        });
        let all = [
            runs,
            container(
                "shop-web-2",
                ContainerState::Exited { code: 137, how: "ended by SIGKILL (137)".into(), at: at(90) },
            ),
            failed,
            container("shop-job-1", ContainerState::Exited { code: 0, how: "exit code 0".into(), at: at(90) }),
        ];
        insta::assert_snapshot!(render(&all, Paint { on: false }, Timestamp(100_000)), @r"
        ID            NAME        SERVICE   IMAGE         STATE                                    RESTARTS  PID   PORTS                                    NEXT ATTEMPT
        0123456789ab  shop-web-1  shop/web  nginx:latest  up 99s (healthy)                         2         4711  0.0.0.0:8080->80/tcp, [::]:8080->80/tcp
        0123456789ab  shop-web-2  shop/web  nginx:latest  ended by SIGKILL (137), 10s ago          2         -
        0123456789ab  shop-web-3  shop/web  nginx:latest  start failed 2s ago: no\u{1b} such file  2         -                                              in 4s
        0123456789ab  shop-job-1  shop/web  nginx:latest  done 10s ago                             2         -
        ");
    }
}
