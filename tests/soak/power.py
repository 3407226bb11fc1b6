#!/usr/bin/env python3
"""power.py - power cuts at random moments: what the status had called applied is there after the boot.

  power.py [--cuts N] [--seed S]

The machine is tests/tools/pocket: namespaces and a loop-mounted ext4 whose file system stops at once. State folder and data directory
lie on it. Each project has one service whose container_name carries the version of its file, so that the status itself says which
version it calls applied. After each boot the daemon starts without a registry: every project must run at least the version that
was called applied; then the registry comes back, and everything must match the folder.
"""
import argparse, json, os, random, re, threading, time
from lab import Failed, Lab, close_with, half_layers, median, say, wait_for
from machine import Machine

FILE = '''name: %(project)s
services:
  run:
    image: %(image)s
    container_name: %(project)s-v%(version)d
    network_mode: none
    restart: always
    stop_grace_period: 1s
    command: [work, tick, "200"]
'''


class Projects(Machine):
    """A machine whose projects carry versions."""

    def __init__(self, lab):
        super().__init__(lab)
        self.removed = {}  # {project: the last version that its removal speaks of}

    def versions(self):
        """{project: version} of the processes that run, as the status names them and the kernel shows them."""
        found = {}
        for name, pid in self.pids().items():
            project, version = name.rsplit('-v', 1)
            if os.path.exists('%s/proc/%d' % (self.root, pid)):
                found[project] = max(found.get(project, 0), int(version))
        return found

    def describe(self, projects):
        """What status and log say of projects that are not as they should be."""
        status = self.status() or {'projects': []}
        text = [json.dumps(p) for p in status['projects'] if p['name'] in projects] + [json.dumps(status.get(k)) for k in ('waiting', 'under_way', 'problems')]
        return '\n'.join(text + [line for line in self.log_text().splitlines()[-200:] if 'longshore is up' in line or any(p in line for p in projects)])

    def written(self):
        """{project: version} of the files on the disk."""
        text = {f[:-5]: open(os.path.join(self.state, f)).read() for f in os.listdir(self.state) if f.endswith('.yaml') and not f.startswith('.')}
        return {p: int(re.search(r'-v(\d+)\n', t).group(1)) for p, t in text.items()}


class Poll(threading.Thread):
    """Notes what the status calls applied, until the power is gone."""

    def __init__(self, machine):
        super().__init__(daemon=True)
        self.machine, self.applied, self.ids, self.stop = machine, {}, {}, False

    def run(self):
        while not self.stop:
            status = self.machine.status()
            for project in (status or {'projects': []})['projects']:
                for service in project['services']:
                    if project['phase'] == service['phase'] == 'applied' and len(service['containers']) == 1:
                        container = service['containers'][0]
                        version = int(container['name'].rsplit('-v', 1)[1])
                        self.ids[container['name']] = container['id']
                        self.applied[project['name']] = max(version, self.applied.get(project['name'], 0))
            time.sleep(0.005)


def edit(machine, dice, images, counter, counts):
    """One durable edit: the editor syncs file and folder."""
    here = machine.written()
    kind = dice.choice(['edit', 'edit', 'edit', 'add', 'add', 'remove'])
    if kind == 'remove' and len(here) > 5:
        project = dice.choice(sorted(here))
        machine.remove(project + '.yaml', durable=True)
        machine.removed[project] = counter[0]
    else:
        absent = [p for p in ('p%d' % i for i in range(9)) if p not in here]
        kind = 'add' if absent and (kind == 'add' or not here) else 'edit'
        project = dice.choice(absent if kind == 'add' else sorted(here))
        counter[0] += 1
        machine.put(project + '.yaml', FILE % {'project': project, 'image': dice.choice(images), 'version': counter[0]}, durable=True)
    counts[kind] = counts.get(kind, 0) + 1


def main():
    options = argparse.ArgumentParser(description='power cuts at random moments')
    options.add_argument('--cuts', type=int, default=20)
    options.add_argument('--seed', type=int, default=1)
    options = options.parse_args()
    dice, counter, counts = random.Random(options.seed), [0], {}
    failures, ready, notes, called, behind = [], [], [], 0, 0
    with Lab() as lab:
        say('making images')
        images = [lab.image('soak/small', tag='v%d' % i, marker='%d' % i) for i in range(3)]
        late = [lab.large_image('soak/large', 'v%d' % i, 40, ['work.c'], '%d' % i) for i in range(max(1, options.cuts // 2))]
        port = int(lab.address.split(':')[1])
        lab.stop_registry()
        machine = Projects(lab)
        lab.daemons.append(machine)
        machine.boot()
        applied, ids, same, kept = {}, {}, 0, 0
        for cut in range(options.cuts + 1):
            machine.start()
            ready.append(machine.ready(20))
            # Without a registry: what was applied needs none.
            on_disk = machine.written()
            must = {p: v for p, v in applied.items() if p in on_disk and v > machine.removed.get(p, 0)}

            def there():
                runs = machine.versions()
                return all(runs.get(p, 0) >= v for p, v in must.items())
            begun = time.monotonic()
            try:
                wait_for('what was applied', 15, there, 0.02)
            except Failed:
                runs = machine.versions()
                failures += ['cut %d: %s had been applied as v%d, runs as v%s, the file says v%d' % (cut, p, v, runs.get(p), on_disk[p])
                             for p, v in must.items() if runs.get(p, 0) < v]
                say(failures[-1] + '\n' + machine.describe([p for p, v in must.items() if runs.get(p, 0) < v]))
            back = time.monotonic() - begun
            # The container itself, with its log: not another one made from the file again.
            now = {name: c['id'] for name, c in machine.containers().items()}
            unchanged = {'%s-v%d' % (p, v) for p, v in must.items() if on_disk[p] == v}
            kept += len(unchanged)
            same += sum(now.get(name) == ids[name] for name in unchanged)
            gone = [p for p in applied if p not in on_disk and p in machine.versions()]
            note = (machine.status() or {'store': {'note': 'no status'}})['store']['note']
            notes += [note] if note else []
            bad = half_layers(machine.data)
            failures += ['cut %d: half a layer: %s' % (cut, b) for b in bad]
            called += len(must)
            behind += sum(applied[p] < on_disk[p] for p in must)
            if cut:
                say('cut %2d: ready after %4.0f ms, %d of %d applied projects are there after %.1f s, %d half layers%s%s' % (
                    cut, ready[-1] * 1000, sum(machine.versions().get(p, 0) >= v for p, v in must.items()), len(must), back, len(bad),
                    ', being removed: %s' % gone if gone else '', ', note: ' + note if note else ''))
            machine.registry(port)

            def as_written():
                held = (machine.status() or {'folder': {'held': None}})['folder']['held']
                if held and held['confirmable']:
                    machine.confirm()
                return machine.versions() == machine.written() and machine.settled()
            try:
                wait_for('the machine matches the folder', 90, as_written, 0.05)
            except Failed:
                failures.append('cut %d: runs %s, written %s' % (cut, machine.versions(), machine.written()))
            if cut == options.cuts:
                break
            poll = Poll(machine)
            poll.start()
            until = time.monotonic() + dice.uniform(0.2, 2.5)
            available = images + late[:1 + cut // 2]
            while time.monotonic() < until:
                edit(machine, dice, available, counter, counts)
                time.sleep(max(0, min(dice.expovariate(6), until - time.monotonic())))
            machine.cut()
            poll.stop = True
            poll.join()
            applied, ids = poll.applied, poll.ids
            machine.boot()
        log = machine.log_text()
        if 'panicked' in log:
            failures.append('the daemon panicked: ' + log.split('panicked', 1)[1][:300])
        say('')
        say('%-34s %d' % ('power cuts', options.cuts))
        say('%-34s %d (%s)' % ('durable edits', sum(counts.values()), ', '.join('%s %d' % i for i in sorted(counts.items()))))
        say('%-34s %d, of which %d had a newer file on disk' % ('projects called applied before cuts', called, behind))
        say('%-34s %d of %d whose file had not changed' % ('the very same container', same, kept))
        failures += ['%d applied containers were lost and made again' % (kept - same)] if same < kept else []
        say('%-34s median %.0f ms, max %.0f ms' % ('ready after boot', median(ready[1:]) * 1000, max(ready[1:]) * 1000))
        say('%-34s %d%s' % ('databases set aside', len(notes), ': ' + notes[0] if notes else ''))
        close_with(failures, 'power.py: %d power cuts, %d applied projects, %d lost' % (options.cuts, called, sum('had been applied' in f for f in failures)))


main()
