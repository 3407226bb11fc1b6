#!/usr/bin/env python3
"""adopt.py - many containers outlive their daemon: same processes, no line of output lost, and how soon the daemon is back.

  adopt.py [--containers N] [--rounds N]
"""
import argparse, time
from lab import TICK, Lab, close_with, median, pss_kb, say, start_times, wait_for


def gaps(lines):
    numbers = [int(line.split()[1]) for line in lines if line.startswith('tick ')]
    return [(a, b) for a, b in zip(numbers, numbers[1:]) if b != a + 1] + ([] if numbers and numbers[0] == 0 else ['start'])


def main():
    options = argparse.ArgumentParser(description='containers outlive their daemon')
    options.add_argument('--containers', type=int, default=50)
    options.add_argument('--rounds', type=int, default=10)
    options = options.parse_args()
    failures, ready = [], []
    with Lab() as lab:
        image = lab.image('soak/work')
        daemon = lab.daemon()
        daemon.start()
        empty = daemon.ready()
        daemon.settle()
        time.sleep(1)
        memory = pss_kb(daemon.child.pid)
        say('ready on an empty folder after %.0f ms, PSS %d kB' % (empty * 1000, memory))
        for project in range(options.containers // 5):
            daemon.put('p%02d.yaml' % project, TICK % (image, 5))
        begun = time.monotonic()
        wait_for('all run', 120, lambda: len(daemon.pids()) == options.containers and daemon.settled())
        say('%d containers run after %.1f s' % (options.containers, time.monotonic() - begun))
        before = start_times(daemon.pids())
        for round in range(options.rounds):
            daemon.kill()
            time.sleep(0.5)
            daemon.start()
            ready.append(daemon.ready())
            after = start_times(daemon.pids())
            changed = sorted(name for name in before if after.get(name) != before[name])
            daemon.settle()
            time.sleep(0.5)
            late = start_times(daemon.pids())
            changed += sorted(name for name in before if late.get(name) != before[name])
            restarts = sum(c['restarts'] for c in daemon.containers().values())
            say('round %2d: ready after %4.0f ms, %d of %d the same process, %d restarts' % (round + 1, ready[-1] * 1000, len(before) - len(set(changed)), len(before), restarts))
            if changed or restarts:
                failures.append('round %d: other processes: %s' % (round + 1, changed[:5]))
        lines = 0
        for name in sorted(before):
            text = daemon.cli('logs', name)[1].splitlines()
            lines += len(text)
            if gaps(text):
                failures.append('%s: the log has gaps: %s' % (name, gaps(text)[:3]))
        say('%d lines of output in %d logs, gaps: %d' % (lines, len(before), sum('gaps' in f for f in failures)))
        followers = [pss_kb(pid) for pid, comm in daemon.processes() if comm.startswith('longshore')]
        say('PSS: daemon %d kB with %d containers (%d kB with none); follower median %d kB, max %d kB of %d' % (
            pss_kb(daemon.child.pid), len(before), memory, median(followers), max(followers), len(followers)))
        for project in range(options.containers // 5):
            daemon.remove('p%02d.yaml' % project)
        wait_for('the fuse', 10, lambda: (daemon.status() or {}).get('folder', {}).get('held') or not daemon.pids())
        daemon.cli('confirm')
        wait_for('all are gone', 60, lambda: not daemon.containers() and daemon.settled())
        daemon.terminate()
        left = daemon.leftovers()
        failures += ['left over, %s: %s' % (k, v[:5]) for k, v in left.items() if v]
        close_with(failures, 'adopt.py: %d containers, %d rounds of kill -9: ready after median %.0f ms, max %.0f ms; %d left over' % (
            options.containers, options.rounds, median(ready) * 1000, max(ready) * 1000, sum(map(len, left.values()))))


main()
