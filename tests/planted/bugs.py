#!/usr/bin/env python3
"""Plants one bug at a time into a copy of the planner and runs the histories and the tables beside them: each must be caught.

usage: tests/planted/bugs.py [NAME...]      from the project's folder; leaves the sources as they were
"""
import os, pathlib, shutil, subprocess, sys, tempfile

SLOT, MOD, MEM = "src/plan/slot.rs", "src/plan/mod.rs", "src/plan/memory.rs"
BUGS = [
    ("starts the new one beside the old one", SLOT,
     "Some(old) if !matches!(container.state, ContainerState::Running { .. }) =>",
     "Some(old) if matches!(container.state, ContainerState::StartFailed { .. }) =>"),
    ("does not see a start that is under way", MOD, "    starting || matches!(container.state", "    let _unseen = starting;\n    matches!(container.state"),
    ("acts twice on one key", MOD, "            .under_way\n            .get(&key)\n", "            .under_way\n            .get(&key)\n            .filter(|_| false)\n"),
    ("retries without a back-off", MOD, "&& failure.retry_at > self.facts.now\n", "&& failure.attempts > 1_000_000\n"),
    ("a failed start holds up the removal", MOD, "            && failure.verb == action.verb()\n", ""),
    ("one pull too many", MOD, "if *count >= limit {", "if *count > limit {"),
    ("starts a held service", SLOT, "Some(service) if !service.holds.is_empty() || service.image.is_none() =>", "Some(service) if service.image.is_none() =>"),
    ("removes what is held", SLOT, "Wanted::AsItIs => keep(planner, slot, containers),", "Wanted::AsItIs => { keep(planner, slot, &[]); clear(planner, slot, containers, \"held\") }"),
    ("removes an orphan alive", SLOT, "ContainerState::Orphaned { .. } => kill(id),", "ContainerState::Orphaned { .. } => Action::Remove { id },"),
    ("one replica too many", SLOT, "slot.number > service.replicas =>", "slot.number > service.replicas + 1 =>"),
    ("follows the policy of yesterday", SLOT, "supervise(planner, slot, container, service.restart);\n        }\n    }\n}", "supervise(planner, slot, container, container.spec.service.restart);\n        }\n    }\n}"),
    ("restarts what succeeded", SLOT, "RestartPolicy::OnFailure { .. } if status.success() =>", "RestartPolicy::OnFailure { .. } if status.code() == 77 =>"),
    ("one attempt too many", SLOT, "if restarts >= max =>", "if restarts > max =>"),
    ("does not double the back-off", SLOT, "restart_delay_ms(streak(restarts, ran_ms))", "restart_delay_ms(streak(restarts, ran_ms).min(0))"),
    ("never doubles because it does not count", MEM, "restarts.total = restarts.total.saturating_add(1);", ""),
    ("pulls although it must never", SLOT, "None if service.pull == PullPolicy::Never =>", "None if service.replicas > 1_000 =>"),
    ("asks the registry for ever", SLOT, "PullPolicy::Always => !fresh(FRESH_MS),", "PullPolicy::Always => fresh(FRESH_MS) || true,"),
    ("forgets to wake up", MOD, "if let Some(at) = until {", "if let Some(at) = until.filter(|at| at.millis() == 7) {"),
    ("stops before the successor is made", SLOT, "planner.step(slot, Action::Create { spec }, creation_reason(containers));", "planner.step(slot, Action::Create { spec }, creation_reason(containers));\n            return clear(planner, slot, containers, \"changed\");"),
    ("stops what is as the file says", SLOT, "for old in stale() {", "for old in containers {"),
    ("leaves out the last replica", MOD, "(1..=service.replicas).map", "(1..service.replicas).map"),
    ("restarts at once after an exit", SLOT, "if due > planner.facts.now {", "if due > planner.facts.now.plus_ms(150) {"),
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
