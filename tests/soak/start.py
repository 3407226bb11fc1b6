#!/usr/bin/env python3
"""start.py - from a file's rename to the first instruction of its container, CPU and memory, beside runc, crun, podman and the bare floor.

  start.py [--rounds N] [--containers N]

The image is present, the network is none. The program in the container prints the monotonic clock as the first thing that it does.
All take turns, so that what else the machine does hits all alike. Peers: apt-get install podman runc crun conmon

CPU is that of one container from its start to its removal, of all processes on our side: for Longshore the daemon with its shims (it also
reads the file, keeps records and removes them), for the others the command and what it left behind, reaped here.
"""
import argparse, ctypes, datetime, glob, os, resource, subprocess, time
import re
from lab import Lab, close_with, median, pss_kb, say, wait_for
from peers import LINE, Crun, Floor, Podman, Runtime, bundle

FILE = '''services:
  first:
    image: %s
    network_mode: none
    restart: "no"
    scale: %d
    command: [first, stay]
'''
PR_SET_CHILD_SUBREAPER = 36
TICKS = os.sysconf('SC_CLK_TCK')


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


def reaped_cpu():
    """Seconds of CPU of what was ours and has ended; orphans are ours too, and need a moment."""
    time.sleep(0.2)
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                break
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def daemon_cpu(daemon):
    """Seconds of CPU of a daemon and of its children that have ended."""
    return sum(map(int, open('/proc/%d/stat' % daemon.child.pid).read().rsplit(')', 1)[1].split()[11:15])) / TICKS


def row(name, times, cpu):
    if not times:
        return say('%-22s %8s %8s %8s %12s' % (name, '', '', '', ''))
    used = '%12.1f' % (sum(cpu) / len(cpu) * 1000) if cpu else ''
    say('%-22s %8.1f %8.1f %8.1f %s' % (name, median(times) * 1000, min(times) * 1000, max(times) * 1000, used))


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
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        ours, debug = Longshore(lab, image, 'one'), Longshore(lab, image, 'debug', ['--debug'])
        ready = attempt('a bundle', lambda: bundle(lab, image, root))
        peers = {
            'runc run': ready and attempt('runc', lambda: Runtime(lab, 'runc', ready)),
            'crun run': ready and attempt('crun', lambda: Crun(lab, ready)),
            'podman run (runc)': attempt('podman', lambda: Podman(lab, root)),
            'floor': attempt('the floor', lambda: Floor(lab, root)),
        }
        peers = {name: peer for name, peer in peers.items() if peer}
        times, cpu = ({name: [] for name in ('Longshore', *peers)} for _ in range(2))
        ways, podman = [], peers.get('podman run (runc)')
        try:
            for round in range(options.rounds + 1):
                before = daemon_cpu(ours.daemon)
                took, way = ours.once()[0], debug.once()[1]
                taken = {'Longshore': (took, daemon_cpu(ours.daemon) - before)}
                for name, peer in peers.items():
                    before, took = reaped_cpu(), attempt(name, peer.once)
                    taken[name] = (took, reaped_cpu() - before)
                if round:  # the first one pulls, and warms everything up
                    ways.append(way)
                    for name, (took, used) in taken.items():
                        if took is not None:
                            times[name].append(took)
                            cpu[name].append(used)
            say('load %s' % open('/proc/loadavg').read().split(' ', 3)[:3])
            say('%-22s %8s %8s %8s %12s   %d rounds each in turn; ms to the first instruction, ms of CPU from start to removal' % (
                '', 'median', 'min', 'max', 'CPU (mean)', options.rounds))
            for name, values in times.items():
                row(name, values, cpu[name])
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
            for peer in peers.values():
                peer.end()
        failures = ['left over: %s' % left] if left else []
        ms = lambda name: '%.1f' % (median(times[name]) * 1000) if times.get(name) else '-'
        close_with(failures, 'start.py: first instruction after median %s ms (runc run %s, crun run %s, podman run %s, floor %s); %d kB a container' % (
            *(ms(name) for name in ('Longshore', 'runc run', 'crun run', 'podman run (runc)', 'floor')), median(followers)))


main()
