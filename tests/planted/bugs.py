#!/usr/bin/env python3
"""Plants one bug at a time into a copy of the planner and runs the histories and the tables beside them: each must be caught.

usage: tests/planted/bugs.py [NAME...]      from the project's folder; leaves the sources as they were
"""
import os, pathlib, shutil, subprocess, sys, tempfile

SLOT, MOD, MEM = "src/plan/slot.rs", "src/plan/mod.rs", "src/plan/memory.rs"
IMAGES, COLLECT = "src/plan/images.rs", "src/plan/collect.rs"
LIVE, UNMET, SETTINGS = "src/plan/live.rs", "src/plan/unmet.rs", "src/model/settings.rs"
NETWORKS, JOINS, FILES = "src/plan/networks.rs", "src/plan/joins.rs", "src/plan/files.rs"
HAND = "src/plan/hand.rs"
HEALTH = "src/plan/health.rs"
ORDER, JOBS, JOB = "src/plan/order.rs", "src/plan/jobs.rs", "src/plan/job.rs"
BUGS = [
    ("asks about the tag of what is pinned", IMAGES,
     "tag && !pinned && matches!",
     "tag && (pinned || !pinned) && matches!"),
    ("a pinned service keeps the manifest that it should leave", IMAGES,
     "return *pinned != container.spec.image_digest;",
     "return false;"),
    ("a pinned service is made from what its tag stands for", IMAGES,
     "if let Some(digest) = pin(service, image) {",
     "if let Some(digest) = pin(service, image).filter(|_| false) {"),
    ("pulls the name of what is pinned", IMAGES,
     "let wanted = pin(service, image).map_or_else(|| image.clone(), |digest| image.at(digest));",
     "let wanted = image.clone();"),
    ("what is set aside is never asked about", IMAGES,
     "if due(planner, &slot, service, image, false) == Due::Now {\n        ask(planner, &slot, service, image);\n    }\n}\n\n#[derive",
     "let _ = (slot, image);\n}\n\n#[derive"),
    ("starts the new one beside the old one", SLOT,
     "Some(old) if !matches!(container.state, ContainerState::Running { .. }) =>",
     "Some(old) if matches!(container.state, ContainerState::StartFailed { .. }) =>"),
    ("does not see a start that is under way", MOD, "    starting || matches!(container.state", "    let _unseen = starting;\n    matches!(container.state"),
    ("acts twice on one key", MOD, "            .under_way\n            .get(&key)\n", "            .under_way\n            .get(&key)\n            .filter(|_| false)\n"),
    ("retries without a back-off", MOD, "&& failure.retry_at > self.facts.now\n", "&& failure.attempts > 1_000_000\n"),
    ("a failed start holds up the removal", MEM, "self.failures.get(&other.key()).filter(|failure| failure.verb == other.verb())", "self.failures.get(&other.key())"),
    ("one pull too many", MOD, "if *count >= limit {", "if *count > limit {"),
    ("starts a held service", NETWORKS, "        || !service.holds.is_empty()\n", "        || false\n"),
    ("removes what is held", SLOT, "Wanted::AsItIs => keep(planner, slot, containers, WaitingOn::Held),", "Wanted::AsItIs => { keep(planner, slot, &[], WaitingOn::Held); clear(planner, slot, containers, \"held\") }"),
    ("removes an orphan alive", SLOT, "ContainerState::Orphaned { .. } => kill(id),", "ContainerState::Orphaned { .. } => Action::Remove { id },"),
    ("one replica too many", SLOT, "let surplus = slot.number > service.replicas;", "let surplus = slot.number > service.replicas + 1;"),
    ("follows the policy of yesterday", SLOT, "        Verdict::Nothing => return supervise(planner, slot, container, service.restart),", "        Verdict::Nothing => return supervise(planner, slot, container, container.spec.service.restart),"),
    ("restarts what succeeded", SLOT, "RestartPolicy::OnFailure { .. } if status.success() =>", "RestartPolicy::OnFailure { .. } if status.code() == 77 =>"),
    ("one attempt too many", SLOT, "if restarts >= max =>", "if restarts > max =>"),
    ("does not double the back-off", SLOT, "pace.delay_ms(pace.streak(restarts.streak, ran_ms))", "pace.delay_ms(pace.streak(restarts.streak, ran_ms).min(0))"),
    ("never doubles because it does not count", MEM, "restarts.total = restarts.total.saturating_add(1);", ""),
    ("pulls although it must never", IMAGES, "if service.pull == PullPolicy::Never {", "if service.replicas > 1_000 {"),
    ("asks the registry for ever", IMAGES, "(making || !memory.heard(slot, &variant), FRESH_MS)", "(making || !memory.heard(slot, &variant), 0)"),
    ("asks although nothing happened", IMAGES, "(making || !memory.heard(slot, &variant), FRESH_MS)", "(true, FRESH_MS)"),
    ("never asks again", IMAGES, "PullPolicy::Every { ms } => (true, ms.max(SHORTEST_MS)),", "PullPolicy::Every { ms } => (making, ms.max(SHORTEST_MS)),"),
    ("is not woken to ask", IMAGES, "            planner.plan.wake(at);\n", ""),
    ("forgets to ask after an edit", MEM, "heard >= edited", "heard > &Timestamp(0) || heard >= edited"),
    ("forgets what was asked before the restart", MEM, "            let Some(ago) = facts.asked_ago_ms else { continue };", "            let Some(ago) = facts.asked_ago_ms.map(|ago| ago + 200_000) else { continue };"),
    ("asks about what is pinned", IMAGES, "    tag && matches!(", "    (tag || true) && matches!("),
    ("replaces although the policy is missing", IMAGES, "here(planner, service).filter(|_| follows(service))?", "here(planner, service)?"),
    ("does not replace what moved", SLOT, "same.filter(|c| images::moved(planner, service, c).is_none())", "same.filter(|c| images::moved(planner, service, c).is_none() || true)"),
    ("replaces before the new image is made", SLOT, "                return keep_running(planner, slot, Some(service), containers);", "                return clear(planner, slot, containers, \"it moved\");"),
    ("waits for a registry that is down", IMAGES, "answered.then_some(&facts.digest)", "(answered && !planner.facts.memory.failures.contains_key(&Key::Image(image.clone()))).then_some(&facts.digest)"),
    ("takes the image of another platform", IMAGES, "if named.platform == variant.1 {", "if named.platform == variant.1 || true {"),
    ("pulls back and forth between platforms", IMAGES, "planner.facts.memory.meant.get(&variant)?;", "planner.facts.memory.meant.get(&variant).filter(|_| false)?;"),
    ("asks for one platform only", MEM, "            let variant = (image.clone(), facts.platform.clone());\n", "            let variant = (image.clone(), self.machine.clone());\n"),
    ("does not tell what is here in another version", IMAGES, "!= container.spec.image_digest && !follows(service)", "!= container.spec.image_digest && follows(service)"),
    ("removes what a container uses", COLLECT, "made.chain(by_name)", "made.take(0).chain(by_name)"),
    ("removes what a service names", COLLECT, "image.pinned || named.contains(name)", "image.pinned"),
    ("removes what is pinned", COLLECT, "image.pinned || named.contains(name)", "named.contains(name)"),
    ("removes what is young", COLLECT, "idle_ms < facts.collect.min_age_ms", "idle_ms < facts.collect.min_age_ms / 2"),
    ("removes the generation before", COLLECT, ".chain(memory.generations.values().flatten())", ".chain(memory.generations.values().filter_map(|g| g.first()))"),
    ("remembers one generation", MEM, "const GENERATIONS: usize = 2;", "const GENERATIONS: usize = 1;"),
    ("removes what is about to be made", COLLECT, "kept.extend(spec.manifests());", "let _made = spec.manifests();"),
    ("mount: made without what it mounts", SLOT, "(digest, images::mounted(planner, slot, service))", "(digest, images::mounted(planner, slot, service).or_else(|| Some(BTreeMap::new())))"),
    ("mount: what it mounts is not written down", SLOT, "ContainerSpec { mounted, ..container_spec", "ContainerSpec { mounted: mounted.into_iter().take(0).collect(), ..container_spec"),
    ("mount: mounts the service's own image", IMAGES, "let Some(facts) = found(planner, service, image) else {", "let Some(facts) = here(planner, service) else {"),
    ("mount: asks about what is pinned", IMAGES, "    if !asks(service, image) {", "    if !follows(service) {"),
    ("mount: removes what a container mounts", COLLECT, "flat_map(|container| container.spec.manifests())", "map(|container| &container.spec.image_digest)"),
    ("mount: removes what a service names", COLLECT, "services.flat_map(Service::images).collect()", "services.filter_map(|service| service.image.as_ref()).collect()"),
    ("mount: removes what is about to be mounted", COLLECT, "kept.extend(spec.manifests());", "kept.insert(&spec.image_digest);"),
    ("removes below the mark", COLLECT, "if !facts.memory.collecting ||", "if disk.percent() < 60 ||"),
    ("removes and does not stop", MEM, "if self.collecting { policy.stop.min(policy.start) }", "if self.collecting { 10 }"),
    ("removes two at once", COLLECT, "if planner.attempt(None, action, reason).is_ok() {", "if planner.attempt(None, action, reason).is_ok() && *idle_ms == 7 {"),
    ("does not say that the disk is full", COLLECT, "planner.plan.crowded = Some(", "let _unsaid = Some("),
    ("forgets to wake up", MOD, "if let Some(at) = until {", "if let Some(at) = until.filter(|at| at.millis() == 7) {"),
    ("stops before the successor is made", SLOT, "planner.step(slot, Action::Create { spec }, creation_reason(service, digest, containers));", "planner.step(slot, Action::Create { spec }, creation_reason(service, digest, containers));\n            return clear(planner, slot, containers, \"changed\");"),
    ("stops what is as the file says", SLOT, "for old in stale() {", "for old in containers {"),
    ("leaves out the last replica", MOD, "(1..=service.replicas).map", "(1..service.replicas).map"),
    ("an update that failed holds up the start", LIVE, "ControlFlow::Continue(Some(blocked)),", "{\n            planner.wait(slot, blocked.0, blocked.1);\n            ControlFlow::Break(())\n        }"),
    ("starts before it is given what changed", LIVE, "        Ok(()) => ControlFlow::Break(()),", "        Ok(()) => { planner.plan.steps.pop(); ControlFlow::Continue(None) }"),
    ("does not say that an update failed", SLOT, "    if let Some(blocked) = failed {", "    if let Some(blocked) = failed.filter(|_| false) {"),
    ("an update makes a failed start forget its back-off", MEM, "Action::Update { spec } => drop(self.updates.insert(spec.id.clone(), failure)),", "Action::Update { .. } => drop(self.failures.insert(key, failure)),"),
    ("a start makes a failed update forget its back-off", MEM, "            other => drop(self.failures.remove(&other.key())),", "            other => { if let Key::Container(id) = other.key() { self.updates.remove(&id); } self.failures.remove(&other.key()); }"),
    ("updates for ever what is not recorded", LIVE, "    if Settings::same(made, service) && same_files(&made.files, &asked) {", "    if Settings::same(made, service) && same_files(&made.files, &asked) && service.loosenings.is_empty() {"),
    ("does not see that a label changed", SETTINGS, " && one.labels == other.labels", ""),
    ("gives the container of another image", LIVE, "..container.spec.clone() });", "image_digest: planner.facts.observed.images.values().next().map_or(container.spec.image_digest.clone(), |i| i.digest.clone()), ..container.spec.clone() });"),
    ("updates an orphan", SLOT, "let given = if orphaned { ControlFlow::Continue(None) } else {", "let given = if orphaned && service.replicas > 9 { ControlFlow::Continue(None) } else {"),
    ("runs without what protects", UNMET, "wish.needed && lacks.contains_key(&wish.ability)", "wish.needed && lacks.len() > 1 && lacks.contains_key(&wish.ability)"),
    ("is held for comfort", UNMET, "wish.needed && lacks", "lacks"),
    ("restarts at once after an exit", SLOT, "if due > planner.facts.now {", "if due > planner.facts.now.plus_ms(150) {"),
    ("network: removed under what runs", NETWORKS, "wanted || networks.occupied.contains(id) || networks.pinned.contains(id)", "wanted || networks.pinned.contains(id)"),
    ("network: removed under a start", NETWORKS, "            if let Action::Start { network: NetworkPlace::Networks(ids), .. } = action {", "            if let Action::Start { network: NetworkPlace::Networks(ids), .. } = action\n                && ids.len() > 9\n            {"),
    ("network: removed although a service joins it", NETWORKS, "let wanted = networks.needed.contains_key(id) || networks.asked.contains_key(id);", "let wanted = networks.asked.contains_key(id);"),
    ("network: removed of whom nobody knows", NETWORKS, "                self.pinned.extend(attached);\n            }\n            return;", "            }\n            return;"),
    ("network: made for nobody", NETWORKS, "filter(|service| service.replicas > 0)", "filter(|service| service.replicas < 99)"),
    ("network: made for a held service", NETWORKS, "Standing::InForce) {\n                    continue;", "Standing::InForce | Standing::Held) {\n                    continue;"),
    ("network: made beside what it cannot be with", NETWORKS, "None if networks.in_the_way(facts, &id, network).is_some() => continue,", ""),
    ("network: not put right under what runs", NETWORKS, "    wanted.extend(used);\n", "    drop(used);\n"),
    ("network: left over", NETWORKS, "filter(|(id, _)| !kept(id))", "filter(|(id, _)| !kept(id) && id.as_str().is_empty())"),
    ("network: the next try is forgotten", NETWORKS, "            planner.plan.wake(until);\n", ""),
    ("network: the last definition counts", NETWORKS, "defined.entry(&network.name).or_insert_with(|| (NetworkId::derive(network), network));", "defined.insert(&network.name, (NetworkId::derive(network), network));"),
    ("network: joined though it is defined otherwise", NETWORKS, "Some(Obstacle::Otherwise(_)) => return Standing::Held,", "Some(Obstacle::Otherwise(_)) => {}"),
    ("network: gone before the successor is made", NETWORKS, "if surplus || made.contains(&(slot, &service.hash)) {", "if surplus || slot.number > 0 || made.contains(&(slot, &service.hash)) {"),
    ("network: the rules are not put right", NETWORKS, "planner.facts.observed.firewall.clone().map(", "planner.facts.observed.firewall.clone().filter(|_| false).map("),
    ("network: started on a broken one", NETWORKS, "is_some_and(|observed| observed.broken.is_none());\n    let going", "is_some();\n    let going"),
    ("network: started on one that goes", NETWORKS, "    whole && !going", "    let _unseen = going;\n    whole"),
    ("network: does not see that it is another one", JOINS, "link.name == join.network && link.network != *present)", "link.name == join.network && link.network != *present && link.mtu == 7)"),
    ("network: started anew for a repair", JOINS, "link.network != *present)", "(link.network != *present || planner.facts.observed.lost.contains_key(&container.spec.id)))"),
    ("network: stopped before the other one is up", JOINS, "(!ready).then(", "(!ready && id.as_str().is_empty()).then("),
    ("network: stopped for one that cannot come", JOINS, "planner.networks.yields(&old)", "planner.networks.yields(&old) || id != &old"),
    ("network: never gives way", JOINS, "up(facts, id) || old.is_some_and(|old| planner.networks.yields(&old))", "up(facts, id) || old.is_some_and(|old| planner.networks.yields(&old) && id == &old)"),
    ("network: starts what ended before", JOINS, "(another && !ended_before)", "(another && !(ended_before && container.spec.slot.number > 9))"),
    ("network: shares what is being stopped", JOINS, "ContainerState::Running { init, .. } if !ending(planner, other) =>", "ContainerState::Running { init, .. } if !ending(planner, other) || other.spec.slot.number > 0 =>"),
    ("network: stays with the process before", JOINS, "!= owner.spec.id) || *process != present;", "!= owner.spec.id) && *process != present;"),
    ("network: connects to what is not up", JOINS, ".find(|link| !up(facts, &link.network));", ".find(|link| !up(facts, &link.network) && link.mtu == 7);"),
    ("network: never connects", SLOT, "            joins::connect(planner, slot, container);\n        }\n", "        }\n"),
    ("network: a move is a restart", MEM, "                    && !moved\n", "                    && !(moved && spec.slot.number > 9)\n"),
    ("network: a move is forgotten", MEM, "self.moving.clone_from(&plan.moving);", "self.moving.clear();\n        let _forgotten = plan;"),
    ("network: a connect makes a failed start forget its back-off", MEM, "Action::Connect { spec } => drop(self.connects.insert(spec.id.clone(), failure)),", "Action::Connect { .. } => drop(self.failures.insert(key, failure)),"),
    ("network: a move waits as after a crash", SLOT, "            Some(reason) => relocate(planner, slot, container, reason),\n", "            Some(reason) if matches!(container.state, ContainerState::Running { .. }) => relocate(planner, slot, container, reason),\n            Some(_) => supervise(planner, slot, container, service.restart),\n"),
    ("health: restarts without a pause", HEALTH, "if until > planner.facts.now {", "if until > planner.facts.now && cures.streak > 1_000 {"),
    ("health: the pause does not double", HEALTH, "FIRST_PAUSE_MS.saturating_mul(factor)", "FIRST_PAUSE_MS.saturating_mul(factor.min(1))"),
    ("health: does not count restarts", MEM, "self.cures.entry(id.clone()).or_default().note(now);", "let _uncounted = (id, now);"),
    ("health: never gets over it", MEM, "cures.healthy(now);", "cures.healthy(Timestamp::default());"),
    ("health: gets over it at once", HEALTH, "if now.since(self.at) >= OVER_IT_MS {", "if now >= self.at {"),
    ("health: restarts who is only to be told", HEALTH, "OnUnhealthy::Nothing => Verdict::Told(said),", "OnUnhealthy::Nothing => Verdict::Restart(said),"),
    ("health: restarts who starts", HEALTH, "Some(Health::Starting) => return Verdict::Starting,", "Some(Health::Starting) => {}"),
    ("health: an update makes a stop forgotten", SLOT, "    health::keep(planner, container, service);\n    // What", "    // What"),
    ("health: a stop is forgotten", MEM, "self.given_up.clone_from(&plan.given_up);", "self.given_up.clear();"),
    ("health: stays stopped whatever the file says", HEALTH, "given_up.filter(|_| reaction == OnUnhealthy::Stop)", "given_up.filter(|_| reaction != OnUnhealthy::Nothing)"),
    ("health: who starts is not spoken of", HEALTH, "Some(Health::Starting) => return Verdict::Starting,", "Some(Health::Starting) => return Verdict::Nothing,"),
    ("health: a change of it is not given", SETTINGS, "            && one.health == other.health\n", ""),
    ("files: takes a content for another one", FILES, "            fingerprint: found.fingerprint.clone(),\n            content", "            content"),
    ("files: starts without a content", FILES, "            content: found.content.clone(),\n            ..file", "            ..file"),
    ("files: does not start again", FILES, "changed.map(|file| format!", "changed.filter(|_| false).map(|file| format!"),
    ("files: starts again for what is swapped", FILES, "!swapped(file.on_change) && content_changed", "content_changed"),
    ("files: starts again only what runs", FILES, "ContainerState::Running { .. } | ContainerState::Exited { .. })", "ContainerState::Running { .. })"),
    ("files: records what was not given", FILES, "if !running || !swapped(file.on_change) =>", "if !running =>"),
    ("files: never swaps", FILES, "if !running || !swapped(file.on_change) =>", "if !running || !swapped(file.on_change) || running =>"),
    ("files: swaps in what does not run", FILES, "if !running || !swapped(file.on_change) =>", "if !swapped(file.on_change) =>"),
    ("files: swaps the wrong one", LIVE, "made.target == asked.target && made.name == asked.name && of(made) == of(asked)", "made.target == asked.target && made.name == asked.name && of(made).0 == of(asked).0"),
    ("files: starts without what nobody defines", FILES, "            return Err(WaitingOn::Content { kind: file.kind, name: file.name.clone() });", "            return Ok(file.clone());"),
    ("by hand: starts what is stopped", HAND, "by_hand.then_some(Stopped::ByHand).or_else(by_file)", "by_hand.then_some(Stopped::ByHand).filter(|_| service.replicas > 9).or_else(by_file)"),
    ("by hand: leaves running what is stopped", SLOT, "containers.iter().filter(|container| container.state.alive()) {", "containers.iter().filter(|container| matches!(container.state, ContainerState::Orphaned { .. })) {"),
    ("by hand: restarts for ever", HAND, "(begun(&container.state) == Some(*asked)).then(", "asked.millis().checked_add(1).and(begun(&container.state)).is_some().then("),
    ("by hand: a restart is forgotten", SLOT, "    let again = hand::again(planner, container);", "    let again = hand::again(planner, container).filter(|_| !running);"),
    ("by hand: never goes on", HAND, "        (false, true) => planner.step(", "        (false, true) if slot.number > 9 => planner.step("),
    ("by hand: pauses unasked", HAND, "let asked = is_paused(planner, slot);", "let asked = is_paused(planner, slot) || planner.facts.desired.by_hand(slot).is_some_and(|hand| hand.scaled.is_some());"),
    ("by hand: the lowest goes first", HAND, "same.any(|c| c.spec.slot.number > slot.number);", "same.any(|c| c.spec.slot.number > slot.number + 9);"),
    ("by hand: the highest comes first", HAND, "!(1..slot.number).all(|number| made.contains(&number))", "!(1..slot.number).all(|number| number > 0 || made.contains(&number))"),
    ("by hand: what is stopped counts as started", ORDER, "(Some(by), _) => Some(Lacking::Stopped(by)),", "(Some(_), why) => why,"),
    ("by hand: what is paused counts as started", ORDER, "(None, _) if paused => Some(Lacking::Paused),", "(None, _) if paused && slot.len() > 9 => Some(Lacking::Paused),"),
    ("by hand: what was stopped in the middle is completed", ORDER, "starting || hand::again(planner, container).is_some()", "starting || (hand::again(planner, container).is_some() && service.is_none())"),
    ("profiles: one that is not chosen is not waited for", ORDER, "=> return vec![Lacking::NotChosen],", "=> return Vec::new(),"),
    ("order: successors pile up", SLOT, "stale().filter(|old| never_ran(planner, old)).collect()", "stale().filter(|old| never_ran(planner, old) && slot.number > 9).collect()"),
    ("order: starts before its condition", SLOT, "if let Some(on) = order::unmet(planner, slot).or_else(missing) {", "if let Some(on) = missing() {"),
    ("order: what is being stopped counts", ORDER, "find(|c| runs(c) && !joins::ending(planner, c));", "find(|c| runs(c));"),
    ("order: unhealthy is healthy enough", ORDER, "Some(Health::Healthy) | None => None,", "Some(Health::Healthy | Health::Unhealthy) | None => None,"),
    ("order: any end is a success", ORDER, "Some((status, _)) if status.success() => None,", "Some((status, _)) if status.success() || status.code() == 3 => None,"),
    ("order: the end of an old container counts", ORDER, "if again || service.is_some_and(|service| service.hash != spec.service.hash) {", "if again {"),
    ("order: one replica is enough", ORDER, "((1..=service.replicas).collect(), !matches!", "((1..=service.replicas.min(1)).collect(), !matches!"),
    ("order: an optional one is not waited for", ORDER, "dependency.required || !why.is_hopeless()", "dependency.required || (!why.is_hopeless() && dependency.restart)"),
    ("order: stops what others still need", SLOT, "Some(on) if matches!(container.state, ContainerState::Running { .. }) => planner.wait(slot, on, None),", "Some(on) if matches!(container.state, ContainerState::Running { .. }) && slot.number > 9 => planner.wait(slot, on, None),"),
    ("order: a stop that failed holds for ever", ORDER, "&& !stuck && surplus", "&& !(stuck && c.spec.slot.number > 9) && surplus"),
    ("order: does not follow", ORDER, "        if !all.is_empty() {\n            following", "        if !all.is_empty() && id.as_str().is_empty() {\n            following"),
    ("order: follows at once", ORDER, "followed.iter().find(|followed| !still(planner, followed))?;", "followed.first()?;"),
    ("order: replaces what could not be started", SLOT, "stale().find_map(|old| order::holds_the_change(planner, old)) {", "stale().find_map(|old| order::holds_the_change(planner, old)).filter(|_| slot.number > 9) {"),
    ("order: waits in a circle", ORDER, "        if round {\n", "        if round && all.len() > 99 {\n"),
    ("jobs: runs a time again after the clock was set back", JOB, "            Verdict::Run(run) => {\n", "            Verdict::Run(run) => {\n                self.decided = wall.min(run.due);\n                return self.run = Some(JobRun { of: Run { due: Timestamp(run.due.0.saturating_sub(1)), why: run.why }, begun: false, stopped: None });\n"),
    ("jobs: does not remember what it decided", JOB, "self.decided = self.decided.max(run.due);", "self.decided = self.decided.max(wall.min(Timestamp(0)));"),
    ("jobs: begins a run beside another one", JOBS, "Overlap::Skip => verdicts.push(left(all, ", "Overlap::Skip if run.begun => verdicts.push(Verdict::Run(Run { due: last, why: RunWhy::Scheduled })),\n        Overlap::Skip => verdicts.push(left(all, "),
    ("jobs: runs what was missed long ago", JOBS, "Missed::RunOnce { within_ms } if late <= within_ms => Some(RunWhy::Missed)", "Missed::RunOnce { within_ms } if late <= within_ms * 9 => Some(RunWhy::Missed)"),
    ("jobs: makes up for each missed time", JOBS, "        Some(why) => before.map(missed).into_iter().chain(", "        Some(why) => before.map(missed).into_iter().skip(1).chain("),
    ("jobs: is not woken when it is time", JOBS, "    planner.wait(slot, WaitingOn::Time { next, times, last }, until);", "    planner.wait(slot, WaitingOn::Time { next, times, last }, until.filter(|at| at.millis() == 7));"),
    ("jobs: does not look at the clock", JOBS, "    planner.plan.wake(facts.now.plus_ms(LOOK_MS));\n", ""),
    ("jobs: runs again what has ended", JOBS, "            if run.stopped.is_some() || ended(planner, container, *status) =>", "            if run.stopped.is_some() || (ended(planner, container, *status) && run.of.due.millis() % 7 == 8) =>"),
    ("jobs: removes the last run", JOBS, "        } else if last.is_some_and(|last| last.spec.id != container.spec.id) {", "        } else if last.is_some() {"),
    ("jobs: a run that is lost sight of is not taken up", JOBS, "    alive.into_iter().find(|run| known.is_none_or(|known| known.of != **run))", "    alive.into_iter().find(|run| known.is_none_or(|known| known.of != **run)).filter(|run| run.due.millis() == 7)"),
    ("jobs: a small jump back begins anew", JOBS, "if job.decided.since(wall) > WRONG_MS {", "if job.decided.since(wall) > WRONG_MS / 100 {"),
    ("jobs: says that a run is over that goes on", JOBS, "Some((_, state)) if run.begun && !matches!(state, ContainerState::StartFailed { .. }) => return None,", "Some((_, state)) if run.begun && !next && !matches!(state, ContainerState::StartFailed { .. }) => return None,"),
    ("order: plans in the order of names", MOD, "    slots.sort_by_key(|slot| planner.order.rank(slot));\n", "    slots.sort();\n"),
]


def main():
    top = pathlib.Path(__file__).resolve().parents[2]
    chosen = [b for b in BUGS if not sys.argv[1:] or any(w in b[0] for w in sys.argv[1:])]
    target = os.environ.get("CARGO_TARGET_DIR", str(top / "target"))
    missed = 0
    with tempfile.TemporaryDirectory() as work:
        copy = pathlib.Path(work) / "longshore"
        shutil.copytree(top, copy, ignore=shutil.ignore_patterns("target", ".git"))
        env = dict(os.environ, CARGO_TARGET_DIR=target, LONGSHORE_HISTORIES="3000")
        for name, file, old, new in chosen:
            path = copy / file
            sound = path.read_text()
            assert sound.count(old) == 1, f"{name}: {file} has changed, plant it anew"
            path.write_text(sound.replace(old, new))
            run = subprocess.run(["cargo", "test", "--lib", "--quiet", "plan::histories"], cwd=copy, env=env,
                                 capture_output=True, text=True)
            path.write_text(sound)
            text = run.stdout + run.stderr
            assert "error: could not compile" not in text, f"{name}: does not compile\n{text[-2000:]}"
            caught = run.returncode != 0
            missed += not caught
            lines = text.splitlines()
            said = [after for line, after in zip(lines, lines[1:]) if "panicked at src/plan/" in line]
            print(f"{'caught' if caught else 'MISSED'}  {name:45} {said[0][:90] if caught and said else ''}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} planted bugs caught")
    sys.exit(1 if missed else 0)


main()
