#!/usr/bin/env python3
"""histories.py - random histories with real containers: edits, kills, failures, killed daemons; in the end the machine is as the files say.

  histories.py [--histories N] [--seed S] [--side-by-side N]

Each history has a daemon of its own and a few projects, and does a dozen things to them, with pauses between none and a second. What must
hold all the time:
  * of a service with one replica never two copies run (a lock on a file that its containers share);
  * a task (`restart: no`) runs at most once for each version of its file, and exactly once for the last one;
  * who depends on another is not started before that runs;
  * what runs is neither stopped nor removed unless its file changed, it was unhealthy, or its owner asked for it, and every step has a reason;
  * a daemon that is killed leaves what runs as it is.
In the end all that runs is what the files ask for, and once they are gone nothing is left. A history is repeated by its seed.
"""
import argparse, collections, concurrent.futures, datetime, json, os, random, re, signal, threading, time
from lab import Failed, Lab, close_with, say, wait_for

TAGS = 3
EVENT = re.compile(r'^(\S+) +(?:INFO|WARN|ERROR) (.*) kind="(container\.\w+)" what="([^"]*)"')
OWN = {'container.stopped', 'container.removed'}


class Wrong(Exception):
    """Something that must never be was."""


class Service:
    """What one service's file says, and what was done to it."""

    def __init__(self, history, project, name):
        self.history, self.project, self.name = history, project, name
        self.version, self.after, self.edits, self.disturbed = 0, [], [], []
        self.kind, self.broken = history.dice.choice(['keep', 'keep', 'keep', 'task', 'limited']), None
        self.checked = self.kind == 'keep' and history.dice.random() < 0.4
        self.replicas = history.dice.choice([1, 1, 1, 2, 3]) if self.kind == 'keep' else 1
        self.edit()

    def edit(self, broken=None):
        self.version += 1
        self.tag, self.broken = self.history.dice.randrange(TAGS), broken
        self.edits.append(time.time())

    def folder(self):
        return os.path.join(self.history.out, self.project + '-' + self.name)

    def text(self):
        os.makedirs(self.folder(), exist_ok=True)
        image = self.history.image.replace(':v0', ':v%d' % self.tag)
        service = {'image': image, 'stop_grace_period': '1s', 'volumes': [self.folder() + ':/out'],
                   'environment': {'VERSION': str(self.version)}, 'stop_signal': 'SIGKILL', 'scale': self.replicas}
        if self.kind == 'keep':
            run = 'exec work serial /out/serial' if self.replicas == 1 else 'exec work sleep'
            service.update(restart='always', command=['sh', '-c', 'touch /tmp/ok; ' + run])
            if self.checked:
                service['healthcheck'] = {'test': ['CMD', 'test', '-e', '/tmp/ok'], 'interval': '300ms', 'retries': 2, 'start_period': '5s', 'start_interval': '100ms'}
        elif self.kind == 'task':
            service.update(restart='no', command=['sh', '-c', 'echo $$VERSION >> /out/runs; sleep 0.1'])
        else:
            service.update(restart='on-failure:2', command=['sh', '-c', 'echo $$VERSION >> /out/runs; exit 3'])
        if self.broken == 'image':
            service['image'] = self.history.image.replace(':v0', ':absent')
        elif self.broken == 'command':
            service['command'] = ['/no/such/program']
        elif self.broken == 'volume':
            service['volumes'] = [self.history.out + '/absent/that:/out:ro']
        if self.after:
            service['depends_on'] = {other.name: {'condition': 'service_healthy' if other.checked else 'service_started'} for other in self.after}
        return service

    def runs(self):
        try:
            return collections.Counter(map(int, open(self.folder() + '/runs').read().split()))
        except FileNotFoundError:
            return collections.Counter()


class History:
    """One daemon, and what is done to it."""

    def __init__(self, lab, image, seed):
        self.lab, self.image, self.seed, self.dice = lab, image, seed, random.Random(seed)
        self.dir = lab.path('h%d' % seed)
        self.out = os.path.join(self.dir, 'out')
        os.makedirs(self.out)
        self.projects, self.removed, self.said, self.kills = {}, [], [], 0
        with lab.lock:
            self.daemon = lab.daemon('h%d' % seed)

    def note(self, what):
        self.said.append('%.3f %s' % (time.time(), what))

    # ---- what is done

    def write(self, project):
        services = {s.name: s.text() for s in self.projects[project].values()}
        self.daemon.put(project + '.yaml', json.dumps({'name': project, 'services': services}, indent=1))

    def add(self):
        project = 'p%d' % len(self.projects)
        services = {}
        for name in 'abcd'[:self.dice.randint(1, 4)]:
            service = Service(self, project, name)
            service.after = [other for other in services.values() if other.kind == 'keep' and self.dice.random() < 0.4]
            services[name] = service
        self.projects[project] = services
        self.note('add %s: %s' % (project, {s.name: (s.kind, s.replicas, s.checked, [o.name for o in s.after]) for s in services.values()}))
        self.write(project)

    def pick(self, *kinds):
        all = [s for services in self.projects.values() for s in services.values() if not kinds or s.kind in kinds]
        return self.dice.choice(all) if all else None

    def edit(self, broken=None):
        service = self.pick()
        service.edit(broken)
        self.note('edit %s/%s to version %d %s' % (service.project, service.name, service.version, broken or ''))
        self.write(service.project)

    def break_it(self):
        self.edit(self.dice.choice(['image', 'command', 'volume']))

    def garbage(self):
        """A file that cannot be read: what ran keeps running."""
        project = self.dice.choice(sorted(self.projects))
        self.note('garbage in %s' % project)
        self.daemon.put(project + '.yaml', 'services: [\n')

    def scale(self):
        service = self.pick('keep')
        if service and service.replicas > 1:
            service.replicas = self.dice.choice([2, 3, 4])
            service.edits.append(time.time())
            self.note('scale %s/%s to %d' % (service.project, service.name, service.replicas))
            self.write(service.project)

    def drop_service(self):
        project = self.dice.choice(sorted(self.projects))
        services = self.projects[project]
        free = [s for s in services.values() if not any(s in o.after for o in services.values())]
        if len(services) > 1 and free:
            gone = self.dice.choice(free)
            del services[gone.name]
            self.gone(gone)
            self.note('drop %s/%s' % (project, gone.name))
            self.write(project)

    def gone(self, service):
        service.edits.append(time.time())
        self.removed.append(service)

    def kill_main(self):
        service = self.pick('keep')
        found = [(name, pid) for name, pid in self.daemon.pids().items() if service and name.startswith('%s-%s-' % (service.project, service.name))]
        if found:
            name, pid = self.dice.choice(found)
            service.disturbed.append(time.time())
            self.note('kill-main of %s (%d)' % (name, pid))
            self.end(pid)

    def end(self, pid):
        """Only who is in a cgroup of this daemon: the number may be another's by now."""
        try:
            if '/longshore/%s/' % self.daemon.instance() in open('/proc/%d/cgroup' % pid).read():
                os.kill(pid, signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            pass

    def spoil(self):
        """Its check fails from now on, until it is started anew."""
        service = self.dice.choice([s for p in self.projects.values() for s in p.values() if s.checked] or [None])
        if service:
            for name, pid in self.daemon.pids().items():
                if name.startswith('%s-%s-' % (service.project, service.name)):
                    service.disturbed.append(time.time())
                    self.note('spoil %s' % name)
                    try:
                        os.unlink('/proc/%d/root/tmp/ok' % pid)
                    except OSError:
                        pass

    def kill_daemon(self):
        before = dict(self.daemon.pids()) if self.quiet(2) else {}
        self.note('kill-daemon: %d run in peace' % len(before))
        self.daemon.kill()
        self.kills += 1
        time.sleep(self.dice.choice([0, 0, 0.1, 0.5]))
        alive = [name for name, pid in before.items() if not os.path.exists('/proc/%d' % pid)]
        if alive:
            raise Wrong('the end of the daemon ended %s' % alive)
        self.daemon.start().ready()
        if before and self.quiet(2):
            other = {name for name, pid in self.daemon.pids().items() if before.get(name, pid) != pid}
            if other:
                raise Wrong('another process after the daemon came back: %s' % other)

    def quiet(self, seconds):
        """Whether nothing was done lately that could change what runs."""
        at = [t for p in self.projects.values() for s in p.values() for t in (*s.edits, *s.disturbed)]
        return bool(at) and max(at) < time.time() - seconds and bool(self.daemon.settled())

    # ---- what must hold

    def check_copies(self):
        for folder in os.listdir(self.out):
            path = os.path.join(self.out, folder, 'serial')
            if os.path.exists(path):
                text = open(path).read()
                if 'CONFLICT' in text:
                    line = next(l for l in text.splitlines() if 'CONFLICT' in l)
                    raise Wrong('two copies of %s at once: %s' % (folder, line))

    def check_tasks(self):
        for services in self.projects.values():
            for service in services.values():
                most = {'task': 1, 'limited': 3}.get(service.kind)
                too_often = {v: n for v, n in service.runs().items() if most and n > most}
                if too_often:
                    raise Wrong('%s/%s ran too often: {version: runs} %s' % (service.project, service.name, too_often))

    def check_log(self):
        services = {(s.project, s.name): s for p in self.projects.values() for s in p.values()}
        services.update({(s.project, s.name): s for s in self.removed})
        made, alive, ended = {}, {}, {}
        for line in self.daemon.log_text().splitlines():
            if 'longshore is up' in line:
                ended.update({name: float('inf') for name in alive})
                alive = {}
            match = EVENT.match(line)
            if not match:
                continue
            at, reason, kind, name = match.groups()
            at = time_of(at)
            project, service, number = name.rsplit('-', 2)
            service = services.get((project, service))
            if service is None:
                continue
            if not reason.strip():
                raise Wrong('no reason: %s' % line)
            if kind == 'container.created':
                made[name] = at
            if kind in ('container.started', 'container.adopted'):
                took = re.search(r'\((\d+) ms\)$', reason)
                decided = at - int(took.group(1)) / 1000 - 0.1 if took else at
                for other in service.after if kind == 'container.started' and service.version == 1 else ():
                    ran = [n for n in (*alive, *(n for n, t in ended.items() if t >= decided)) if n.startswith('%s-%s-' % (project, other.name))]
                    if not ran:
                        raise Wrong('%s was started before %s ran: %s' % (name, other.name, line))
                alive[name] = at
            if kind in ('container.stopped', 'container.exited', 'container.removed', 'container.orphaned'):
                if alive.pop(name, None):
                    ended[name] = at
            if kind in OWN:
                since = alive.get(name, made.get(name, at)) - 3
                asked = [t for t in (*service.edits, *service.disturbed) if t >= since]
                asked += [t for o in service.after for t in (*o.edits, *o.disturbed) if t >= since]
                if not asked and name in made:
                    raise Wrong('nobody asked for this: %s' % line)

    # ---- from beginning to end

    ACTS = ['edit'] * 5 + ['add', 'break_it', 'break_it', 'garbage', 'scale', 'drop_service', 'kill_main', 'kill_main', 'spoil', 'spoil', 'kill_daemon', 'kill_daemon', 'kill_daemon']

    def run(self):
        self.daemon.start().ready()
        for _ in range(self.dice.randint(1, 3)):
            self.add()
        for _ in range(self.dice.randint(6, 14)):
            time.sleep(self.dice.choice([0, 0.05, 0.2, 0.5, 1, 3]))
            act = self.dice.choice(self.ACTS)
            getattr(self, act)() if act != 'add' or len(self.projects) < 4 else self.edit()
            self.check_copies()
            self.check_tasks()
        for project, services in self.projects.items():
            for service in services.values():
                if service.broken:
                    service.edit()
            self.write(project)
        self.note('all is well again')
        try:
            wait_for('what runs is what the files say', 60, lambda: not self.missing(), 0.05)
        except Failed:
            raise Wrong('not as the files say after 60 s: %s; waiting: %s' % (self.missing(), json.dumps((self.daemon.status() or {}).get('waiting'))))
        self.check_copies()
        self.check_tasks()
        self.check_log()
        for project in self.projects:
            self.daemon.remove(project + '.yaml')

        def gone():
            held = (self.daemon.status() or {}).get('folder', {}).get('held')
            if held and held['confirmable']:
                self.daemon.cli('confirm')
            return not self.daemon.containers() and self.daemon.settled()
        wait_for('all are gone', 30, gone, 0.05)
        self.daemon.terminate()
        left = {kind: names for kind, names in self.daemon.leftovers().items() if names}
        if left:
            raise Wrong('left over: %s' % left)

    def missing(self):
        """What is not as the files say, or not yet."""
        status = self.daemon.status()
        if not status:
            return 'no status'
        if not status['settled']:
            return 'it is not settled'
        containers, wrong, known = self.daemon.containers(), [], set()
        for project, services in self.projects.items():
            for service in services.values():
                names = {'%s-%s-%d' % (project, service.name, n + 1) for n in range(service.replicas)}
                known |= names
                for name in sorted(names):
                    container = containers.get(name)
                    state = container['state']['status'] if container else 'absent'
                    if service.kind == 'keep':
                        if state != 'running' or service.checked and container.get('health', {}).get('status') != 'healthy':
                            wrong.append('%s is %s' % (name, state))
                        else:
                            try:
                                pid = container['state']['pid']
                                version = dict(v.split('=', 1) for v in open('/proc/%d/environ' % pid).read().split('\0') if '=' in v).get('VERSION')
                                tag = open('/proc/%d/root/etc/tag' % pid).read()
                            except OSError as error:
                                version = tag = error
                            if (version, tag) != (str(service.version), str(service.tag)):
                                wrong.append('%s runs version %s of image %s, not %s of %s' % (name, version, tag, service.version, service.tag))
                    elif state != 'exited':
                        wrong.append('%s is %s' % (name, state))
                most, runs = {'task': 1, 'limited': 3}.get(service.kind), service.runs()[service.version]
                # A restart that a killed daemon had on disk and did not come to is one less, never one more.
                if most and runs != most and not (service.kind == 'limited' and self.kills and 1 <= runs < most):
                    wrong.append('%s/%s ran %d times, not %d' % (project, service.name, runs, most))
        wrong += ['%s should not be there' % name for name in containers if name not in known]
        return wrong


def time_of(text):
    return datetime.datetime.fromisoformat(text.replace('Z', '+00:00')).timestamp()


def one(lab, image, seed, counts):
    history = History(lab, image, seed)
    begun, wrong = time.monotonic(), None
    try:
        history.run()
    except (Wrong, Failed) as error:
        wrong = 'seed %d: %s' % (seed, error)
        say('\n'.join(['--- ' + wrong, *history.said, *history.daemon.log_text().splitlines()[-250:]]))
    finally:
        history.daemon.destroy()
    with lab.lock:
        counts.update(word.split()[1].rstrip(':') for word in history.said)
    return seed, wrong, time.monotonic() - begun


def main():
    options = argparse.ArgumentParser(description='random histories with real containers')
    options.add_argument('--histories', type=int, default=200)
    options.add_argument('--seed', type=int, default=1)
    options.add_argument('--side-by-side', type=int, default=3)
    options = options.parse_args()
    failures, counts, took = [], collections.Counter(), []
    with Lab() as lab:
        lab.lock = threading.Lock()
        for tag in range(TAGS):
            image = lab.image('soak/histories', tag='v%d' % tag, marker='%d' % tag)
        image = image.rsplit(':', 1)[0] + ':v0'
        seeds = range(options.seed, options.seed + options.histories)
        with concurrent.futures.ThreadPoolExecutor(options.side_by_side) as pool:
            for seed, wrong, seconds in pool.map(lambda seed: one(lab, image, seed, counts), seeds):
                took.append(seconds)
                failures += [wrong] if wrong else []
                if len(took) % 10 == 0:
                    say('%3d histories, %d wrong' % (len(took), len(failures)))
        say('what was done: %s' % ', '.join('%s %d' % (what, n) for what, n in sorted(counts.items())))
        close_with(failures, 'histories.py: %d histories, from seed %d, %.1f s each' % (len(took), options.seed, sum(took) / max(1, len(took))))


main()
