//! What services ask of the machine and it has not. Who asked for protection must not run without it; who asked for comfort runs,
//! and is told.

use std::collections::BTreeMap;

use crate::model::{Ability, Problem, Service, Severity, Wish};

/// Whether the service must not be started on a machine that lacks this.
pub(super) fn holds(service: &Service, lacks: &BTreeMap<Ability, String>) -> bool {
    service.wishes.iter().any(|wish| wish.needed && lacks.contains_key(&wish.ability))
}

/// Each wish that cannot be met, told at its key: `Held` or `Warning`.
#[must_use]
pub fn unmet(service: &Service, lacks: &BTreeMap<Ability, String>) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    for wish in &service.wishes {
        if let Some(why) = lacks.get(&wish.ability) {
            problems.push(problem(wish, why));
        }
    }
    problems.sort();
    problems.dedup();
    problems
}

fn problem(wish: &Wish, why: &str) -> Problem {
    let key = wish.key.rsplit('.').next().unwrap_or(&wish.key);
    let message = format!("`{}` cannot be honoured on this machine: {why}", wish.key);
    let (severity, hint) = if wish.ability == Ability::Networks {
        let hint = "the service is not started; on no network of its own (`network_mode: none` or `host`) it would be";
        (Severity::Held, hint.to_owned())
    } else if wish.needed {
        (Severity::Held, format!("the service is not started; without `{key}` it would be"))
    } else {
        (Severity::Warning, "the service runs without it".to_owned())
    };
    Problem::new(severity, wish.location.clone(), message).with_key(&wish.key).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Location, ServiceName};
    use crate::plan::sim::Chance;

    #[test]
    fn protection_holds_and_comfort_is_told() {
        let mut service = crate::plan::histories::service(ServiceName::parse("a").unwrap(), 0, &mut Chance::new(1));
        let wish = |ability: Ability, line: u32| Wish {
            ability,
            needed: ability.protects(),
            key: "services.a.x".to_owned(),
            location: Location::at("a.yaml", line, 5),
        };
        service.wishes =
            vec![wish(Ability::Swap, 7), wish(Ability::AppArmor, 4), wish(Ability::AppArmor, 4), wish(Ability::Cpu, 9)];
        let swap = (Ability::Swap, "the kernel was started without swap accounting".to_owned());
        let mut lacks = BTreeMap::from([swap]);
        let told = |lacks: &BTreeMap<Ability, String>| {
            unmet(&service, lacks).iter().map(|p| format!("{:?} {p}", p.severity)).collect::<Vec<_>>()
        };
        assert_eq!(
            told(&lacks),
            [
                "Warning a.yaml:7:5: `services.a.x` cannot be honoured on this machine: the kernel was started without swap accounting (the service runs without it)"
            ]
        );
        assert!(!holds(&service, &lacks));
        lacks.insert(Ability::AppArmor, "the kernel has no AppArmor".to_owned());
        assert!(holds(&service, &lacks));
        assert_eq!(told(&lacks).len(), 2);
        assert!(told(&lacks)[1].starts_with("Held a.yaml:4:5: `services.a.x` cannot be honoured on this machine: the"));
    }
}
