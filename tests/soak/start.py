#!/usr/bin/env python3
"""start.py - from a file's rename to the first instruction of its container, and memory, beside podman and runc in the same run.

  start.py [--rounds N] [--containers N]

The image is present, the network is none. The program in the container prints the monotonic clock as the first thing that it does.
The three take turns, so that what else the machine does hits all alike. Peers: apt-get install podman runc conmon
"""
import argparse, datetime, glob, json, os, re, shutil, subprocess, time
from lab import Lab, close_with, median, pss_kb, run, say, wait_for

FILE = '''services:
  first:
    image: %s
    network_mode: none
    restart: "no"
    scale: %d
    command: [first, stay]
'''
LINE = re.compile(r'first (\d+)')


class Longshore:
    def __init__(self, lab, image, name, arguments=()):
        self.daemon, self.image, self.rounds = lab.daemon(name, arguments=arguments), image, 0
        self.daemon.start().ready()

    def once(self):
        """Seconds from the rename to the first instruction, and what the log says of the way."""
        daemon, name = self.daemon, 'r%03d' % self.rounds
        self.rounds += 1
        beside = os.path.join(daemon.state, '.new')
        with open(beside, 'w') as out:
            out.write(FILE % (self.image, 1))
        begun, wall = time.monotonic(), time.time()
        os.rename(beside, os.path.join(daemon.state, name + '.yaml'))

        def said():
            for log in glob.glob(daemon.data + '/containers/*/logs/log'):
                found = LINE.search(open(log).read())
                if found:
                    return int(found.group(1)) / 1e9
        first = wait_for('the first instruction', 30, said, 0.005)
        wait_for('it is told', 10, lambda: 'what="%s-first-1"' % name in daemon.log_text() and re.search(r'container.started" what="%s-first-1"' % name, daemon.log_text()), 0.005)
        daemon.remove(name + '.yaml')
        wait_for('it is gone', 20, lambda: not daemon.containers() and daemon.settled())
        return first - begun, self.way(name, wall, wall + first - begun)

    def way(self, name, renamed, first):
        """When what was done, in seconds since the rename, where the log says it."""
        at = {}
        for line in self.daemon.log_text().splitlines():
            if name not in line:
                continue
            when = datetime.datetime.fromisoformat(line.split()[0].replace('Z', '+00:00')).timestamp() - renamed
            for key, sign in (('in force', 'file.applied'), ('create begins', 'verb="create"'), ('created', 'container.created'), ('start begins', 'verb="start"'), ('started', 'container.started')):
                if sign in line:
                    at.setdefault(key, when)
        at['first instruction'] = first - renamed
        return at


class Runc:
    def __init__(self, lab, root):
        self.root, self.bundle, self.rounds = lab.path('runc'), lab.path('bundle'), 0
        os.makedirs(self.bundle)
        run('runc', 'spec', cwd=self.bundle)
        path = self.bundle + '/config.json'
        spec = json.load(open(path))
        spec['process'].update(terminal=False, args=['/bin/first'])
        spec['process'].pop('rlimits', None)
        spec['root'] = {'path': root, 'readonly': True}
        json.dump(spec, open(path, 'w'))

    def once(self):
        self.rounds += 1
        begun = time.monotonic()
        out = run('runc', '--root', self.root, 'run', '-b', self.bundle, 'soak-%d-%d' % (os.getpid(), self.rounds))
        return int(LINE.search(out).group(1)) / 1e9 - begun


class Podman:
    def __init__(self, lab, root):
        self.dir = lab.path('podman')
        os.makedirs(self.dir)
        conf = self.dir + '/containers.conf'
        with open(conf, 'w') as out:
            # Its own defaults ask for more open files than a machine may allow.
            out.write('[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]\nlog_driver = "k8s-file"\n'
                      '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"\ntmp_dir = "%s/tmp"\n' % self.dir)
        self.environment = {**os.environ, 'CONTAINERS_CONF': conf}
        self.words = ['podman', '--root', self.dir + '/root', '--runroot', self.dir + '/run', '--storage-driver', 'overlay']
        tar = self.dir + '/root.tar'
        run('tar', '-C', root, '-cf', tar, '.')
        self.call('import', tar, 'soak/first:latest')

    def call(self, *args):
        return run(*self.words, *args, env=self.environment)

    def once(self):
        begun = time.monotonic()
        out = self.call('run', '--rm', '--network', 'none', 'soak/first:latest', '/bin/first')
        return int(LINE.search(out).group(1)) / 1e9 - begun

    def monitors(self, count):
        """PSS of each conmon."""
        try:
            for _ in range(count):
                self.call('run', '-d', '--network', 'none', 'soak/first:latest', '/bin/first', 'stay')
            found = []
            for pid in filter(str.isdigit, os.listdir('/proc')):
                try:
                    if open('/proc/%s/comm' % pid).read() == 'conmon\n' and self.dir in open('/proc/%s/cmdline' % pid).read():
                        found.append(pss_kb(int(pid)))
                except OSError:
                    continue
            return found
        finally:
            self.end()

    def end(self):
        subprocess.run(self.words + ['rm', '-a', '-f', '-t', '0'], env=self.environment, capture_output=True)
        for mount in sorted((l.split()[4] for l in open('/proc/self/mountinfo') if self.dir in l.split()[4]), key=len, reverse=True):
            subprocess.run(['umount', '-l', mount])


def row(name, times):
    if not times:
        return say('%-22s %8s %8s %8s' % (name, '', '', ''))
    say('%-22s %8.1f %8.1f %8.1f' % (name, median(times) * 1000, min(times) * 1000, max(times) * 1000))


def attempt(what, make):
    """A peer that is missing, or does not work here, leaves its place empty."""
    try:
        return make()
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        say('%s cannot be measured: %s' % (what, getattr(error, 'stderr', None) or error))
        return None


def main():
    options = argparse.ArgumentParser(description='time to the first instruction, and memory')
    options.add_argument('--rounds', type=int, default=20)
    options.add_argument('--containers', type=int, default=50)
    options = options.parse_args()
    with Lab() as lab:
        image = lab.image('soak/first', ['first.c'])
        root = lab.path('root-soak-first-latest')
        ours, debug = Longshore(lab, image, 'one'), Longshore(lab, image, 'debug', ['--debug'])
        runc, podman = attempt('runc', lambda: Runc(lab, root)), attempt('podman', lambda: Podman(lab, root))
        times = {'Longshore': [], 'runc run': [], 'podman run (runc)': []}
        ways = []
        try:
            for round in range(options.rounds + 1):
                one, way = ours.once()[0], debug.once()[1]
                peers = [('runc run', attempt('runc', runc.once) if runc else None), ('podman run (runc)', attempt('podman', podman.once) if podman else None)]
                if round:  # the first one pulls, and warms everything up
                    times['Longshore'].append(one)
                    ways.append(way)
                    for name, took in peers:
                        if took is not None:
                            times[name].append(took)
            say('load %s' % open('/proc/loadavg').read().split(' ', 3)[:3])
            say('%-22s %8s %8s %8s   ms to the first instruction, %d rounds each in turn' % ('', 'median', 'min', 'max', options.rounds))
            for name, values in times.items():
                row(name, values)
            say('')
            say('where the time goes (a daemon with --debug in the same rounds; ms since the rename, medians):')
            before = 0
            for key in ('in force', 'create begins', 'created', 'start begins', 'first instruction', 'started'):
                values = [way[key] * 1000 for way in ways if key in way]
                if values:
                    say('    %-20s %7.1f  (+%.1f)' % (key, median(values), median(values) - before))
                    before = median(values)
            debug.daemon.terminate()
            say('')
            daemon = ours.daemon
            empty = pss_kb(daemon.child.pid)
            daemon.put('many.yaml', FILE % (image, options.containers))
            wait_for('all run', 120, lambda: len(daemon.pids()) == options.containers and daemon.settled())
            time.sleep(1)
            followers = [pss_kb(pid) for pid, comm in daemon.processes() if comm.startswith('longshore')]
            full = pss_kb(daemon.child.pid)
            conmons = (attempt('conmon', lambda: podman.monitors(20)) if podman else None) or []
            say('PSS per container: follower median %d kB, max %d kB (%d containers); conmon median %s kB (%d)' % (
                median(followers), max(followers), len(followers), median(conmons) if conmons else '-', len(conmons)))
            say('PSS of the daemon: %d kB with none, %d kB with %d containers' % (empty, full, options.containers))
            daemon.remove('many.yaml')
            wait_for('all are gone', 60, lambda: not daemon.containers() and daemon.settled())
            daemon.terminate()
            left = {k: v for k, v in daemon.leftovers().items() if v}
        finally:
            if podman:
                podman.end()
            shutil.rmtree(lab.path('runc'), ignore_errors=True)
        failures = ['left over: %s' % left] if left else []
        ms = lambda name: '%.1f' % (median(times[name]) * 1000) if times[name] else '-'
        close_with(failures, 'start.py: first instruction after median %s ms (aim 40), runc run %s ms, podman run %s ms; %d kB a container (aim 450)' % (
            ms('Longshore'), ms('runc run'), ms('podman run (runc)'), median(followers)))


main()
