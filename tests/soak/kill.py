#!/usr/bin/env python3
"""kill.py - kill -9 of the daemon at random moments of random edits, pulls and removals.

  kill.py [--kills N] [--seed S]

Each container is `solo`, in the host's network: it binds an abstract unix socket of its slot's name, so that a second copy of a slot
cannot start unnoticed. Beside that the cgroups are sampled all the time for two containers of one slot that live at once.
Afterwards the machine must match the folder: the same slots, each with the folder's version and image; and once the folder is
empty, nothing may be left.
"""
import argparse, os, random, socket, sys, threading, time
from lab import Failed, Lab, close_with, median, say, wait_for

PROJECTS, KEPT = 8, 4
SERVICES = ('s0', 's1', 'r0')  # r0 has one or two replicas, and a socket name for each; the others have one of each


class Reports(threading.Thread):
    """Hears what the containers tell: starts, ends and conflicts."""

    def __init__(self, name):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind('\0' + name)
        self.starts, self.conflicts = 0, []

    def run(self):
        while True:
            line = self.socket.recv(1000).decode(errors='replace')
            self.starts += line.startswith('started')
            if line.startswith('CONFLICT'):
                self.conflicts.append(line)


class Sampler(threading.Thread):
    """Looks for two containers of one slot that run `solo` at the same time."""

    def __init__(self, daemon):
        super().__init__(daemon=True)
        self.host, self.slots, self.samples, self.conflicts, self.stop = daemon, {}, 0, [], False

    def run(self):
        folder = '/sys/fs/cgroup/pids/longshore/' + self.host.instance()
        while not self.stop:
            running = {}
            for id in os.listdir(folder) if os.path.isdir(folder) else ():
                if id not in self.slots:
                    self.slots.update({i: (s['project'], s['service']['name'], s['number']) for i, s in self.host.specs().items()})
                for pid in solos(folder + '/' + id):
                    running.setdefault(self.slots.get(id), {})[id] = pid
            for slot, found in running.items():
                # The first may have ended before the second began: it counts only if it is still there now.
                if slot and len(found) > 1 and all(alive(pid) for pid in found.values()):
                    self.conflicts.append('%s: %s' % (slot, sorted(found)))
            self.samples += 1
            time.sleep(0.005)


def solos(cgroup):
    try:
        return [pid for pid in map(int, open(cgroup + '/cgroup.procs').read().split()) if alive(pid)]
    except OSError:
        return []


def alive(pid):
    try:
        comm, rest = open('/proc/%d/stat' % pid).read().split('(')[1].rsplit(')', 1)
        return comm == 'solo' and rest.split()[0] not in 'ZX'
    except (OSError, IndexError):
        return False


class Folder:
    """What the folder says, and random edits of it."""

    def __init__(self, daemon, dice, images, report):
        self.host, self.dice, self.images, self.report = daemon, dice, images, report
        self.projects, self.version, self.edits = {}, 0, {}

    def service(self, name):
        self.version += 1
        return {'version': self.version, 'image': self.dice.choice(list(self.images)), 'grace': self.dice.choice((0, 0, 50, 400)),
                'scale': self.dice.choice((1, 2)) if name == 'r0' else 1}

    def write(self, name):
        text = 'name: %s\nservices:\n' % name
        for service, s in self.projects[name].items():
            text += ('  %s:\n    image: %s\n    network_mode: host\n    restart: always\n    scale: %d\n    stop_grace_period: 2s\n'
                     '    environment: {VERSION: "%d"}\n    command: [solo, %s-%s-%s, %s, "%d", "%d"]\n'
                     % (service, s['image'], s['scale'], s['version'], self.report, name, service, self.report, s['grace'], 1 + (service == 'r0')))
        self.host.put(name + '.yaml', text)

    def edit(self):
        names, dice = sorted(self.projects), self.dice
        absent = [n for n in ('p%d' % i for i in range(PROJECTS)) if n not in names]
        kind = dice.choice(['change'] * 4 + ['scale', 'add service', 'remove service', 'add', 'add', 'remove', 'replace'])
        if kind == 'remove' and len(names) > KEPT:
            name = dice.choice(names)
            del self.projects[name]
            self.host.remove(name + '.yaml')
        elif kind == 'add' and absent or len(names) < KEPT:
            kind, name = 'add', dice.choice(absent)
            self.projects[name] = {s: self.service(s) for s in dice.sample(SERVICES, dice.randint(1, 3))}
            self.write(name)
        else:
            name = dice.choice(names)
            services = self.projects[name]
            service = dice.choice(sorted(services))
            if kind == 'scale' and 'r0' in services:
                services['r0']['scale'] = 3 - services['r0']['scale']
            elif kind == 'add service':
                services.update({s: self.service(s) for s in SERVICES if s not in services})
            elif kind == 'remove service' and len(services) > 1:
                del services[service]
            elif kind == 'replace':
                self.host.remove(name + '.yaml')  # by unlink and write, as some editors do: no removal
            else:
                kind = 'change'
                services[service] = self.service(service)
            self.write(name)
        self.edits[kind] = self.edits.get(kind, 0) + 1

    def wanted(self):
        return {(p, s, n): (str(x['version']), self.images[x['image']]) for p, services in self.projects.items()
                for s, x in services.items() for n in range(1, x['scale'] + 1)}


def running(daemon):
    """{slot: (version, image)} of the processes that really run, and all slots of them in a list."""
    found, every = {}, []
    for id, spec in daemon.specs().items():
        for pid in solos('/sys/fs/cgroup/pids/longshore/%s/%s' % (daemon.instance(), id)):
            slot = (spec['project'], spec['service']['name'], spec['number'])
            try:
                environment = dict(e.split('=', 1) for e in open('/proc/%d/environ' % pid).read().split('\0') if '=' in e)
                found[slot] = (environment.get('VERSION'), open('/proc/%d/root/etc/tag' % pid).read())
            except OSError:
                continue
            every.append(slot)
    return found, sorted(every)


def difference(folder):
    wanted, (found, every) = folder.wanted(), running(folder.host)
    if found == wanted and len(every) == len(wanted):
        return None
    return {'missing': sorted(set(wanted) - set(found)), 'not wanted': sorted(set(found) - set(wanted)),
            'other version': sorted((s, found[s], wanted[s]) for s in found if s in wanted and found[s] != wanted[s]),
            'twice': sorted({s for s in every if every.count(s) > 1})}


def converge(folder, seconds):
    """Waits until status and machine agree with the folder; confirms removals that the fuse holds, as an owner would."""
    begun, confirmed = time.monotonic(), 0

    def ask():
        nonlocal confirmed
        status = folder.host.status()
        if status and status['folder']['held'] and status['folder']['held']['confirmable']:
            confirmed += folder.host.cli('confirm')[0] == 0
        return status and status['ready'] and status['settled'] and not difference(folder)
    try:
        wait_for('the machine matches the folder', seconds, ask, 0.01)
    except Failed as error:
        raise Failed('%s: %s' % (error, difference(folder)))
    return time.monotonic() - begun, confirmed


def main():
    options = argparse.ArgumentParser(description='kill -9 of the daemon at random moments')
    options.add_argument('--kills', type=int, default=50)
    options.add_argument('--seed', type=int, default=1)
    options = options.parse_args()
    dice = random.Random(options.seed)
    with Lab() as lab:
        report = 'soak-%d' % os.getpid()
        say('making images')
        images = {lab.image('soak/small', ['solo.c'], 'v%d' % i, 'small %d' % i): 'small %d' % i for i in range(3)}
        daemon = lab.daemon()
        large = [('v%d' % i, 'large %d' % i) for i in range(max(2, options.kills // 8))]
        folder = Folder(daemon, dice, images, report)
        reports, sampler = Reports(report), Sampler(daemon)
        reports.start()
        for _ in range(KEPT):
            folder.edit()
        daemon.start().ready()
        converge(folder, 60)
        sampler.start()
        times, confirmed, hit, begun = [], 0, {}, time.monotonic()
        for kill in range(1, options.kills + 1):
            if kill % 8 == 1 and large:
                tag, marker = large.pop(0)
                images[lab.large_image('soak/large', tag, 120, ['solo.c'], marker)] = marker
                for name in sorted(folder.projects)[:2]:  # so that there is a pull to hit at once
                    folder.projects[name]['s0'] = {**folder.service('s0'), 'image': list(images)[-1]}
                    folder.write(name)
            until = time.monotonic() + dice.uniform(0.01, 1.6)
            while time.monotonic() < until:
                folder.edit()
                time.sleep(min(dice.expovariate(8), max(0, until - time.monotonic())))
            status = daemon.status() or {'under_way': []}
            for verb in {step['verb'] for step in status['under_way']} or {'nothing seen under way'}:
                hit[verb] = hit.get(verb, 0) + 1
            daemon.kill()
            for _ in range(dice.choice((0, 0, 1, 2))):
                folder.edit()
            daemon.start()
            if kill % 5 == 0 or kill == options.kills:
                daemon.ready()
                took, more = converge(folder, 120)
                times.append(took)
                confirmed += more
                say('kill %3d: the machine matches the folder after %.2f s (%d containers)' % (kill, took, len(folder.wanted())))
            else:
                time.sleep(dice.choice((0, 0.02, 0.2)))
        failures = []
        # A match that does not last is none.
        time.sleep(2)
        if difference(folder):
            failures.append('afterwards: %s' % difference(folder))
        for name in list(folder.projects):
            del folder.projects[name]
            daemon.remove(name + '.yaml')
        confirmed += converge(folder, 60)[1]
        daemon.terminate()
        sampler.stop = True
        sampler.join()
        left = daemon.leftovers()
        say('')
        say('%-28s %s' % ('kills', options.kills))
        say('%-28s %s' % ('under way at the kill', ', '.join('%s %d' % i for i in sorted(hit.items()))))
        say('%-28s %d (%s)' % ('edits', sum(folder.edits.values()), ', '.join('%s %d' % i for i in sorted(folder.edits.items()))))
        say('%-28s %d' % ('container starts', reports.starts))
        say('%-28s %d told by a program, %d seen in %d samples' % ('two of a slot at once', len(reports.conflicts), len(sampler.conflicts), sampler.samples))
        say('%-28s median %.2f s, max %.2f s (%d times)' % ('time to converge', median(times), max(times), len(times)))
        say('%-28s %d' % ('fuse confirmed', confirmed))
        say('%-28s %s' % ('left over', ', '.join('%s %d' % (k, len(v)) for k, v in left.items())))
        say('%-28s %.0f s' % ('took', time.monotonic() - begun))
        failures += ['conflict: ' + c for c in reports.conflicts[:5] + sampler.conflicts[:5]]
        failures += ['left over, %s: %s' % (k, v[:5]) for k, v in left.items() if v]
        if 'the database' in daemon.log_text():
            failures.append('the database: ' + daemon.log_text().split('the database', 1)[1][:200])
        if 'panicked' in daemon.log_text():
            failures.append('the daemon panicked: ' + daemon.log_text().split('panicked', 1)[1][:300])
        close_with(failures, 'kill.py: %d kills, %d edits, %d conflicts, %d left over' % (
            options.kills, sum(folder.edits.values()), len(reports.conflicts) + len(sampler.conflicts), sum(map(len, left.values()))))


main()
