#!/usr/bin/env python3
"""idle.py - what containers on networks cost when nothing happens: CPU of the engine over a minute, and memory.

  idle.py [--containers N] [--seconds S] [--engines NAMES] [--work DIR] [--json FILE]

CPU: what the daemon's processes and those beside each container used, after they had been left alone for a while. Memory: PSS of the daemon
with no container and with all, and of what runs beside each container (Longshore's follower, containerd-shim, conmon). `longshore-none`
has the same containers without a network.
"""
import argparse, sys, time

from space import TICKS, Bench, ready, say, table
from engines import ENGINES, Longshore
from lab import pss_kb


class WithoutNetwork(Longshore):
    name, more = 'longshore-none', {'network_mode': 'none'}


ENGINES[WithoutNetwork.name] = WithoutNetwork


def cpu_ms(pids):
    return sum(sum(map(int, open('/proc/%d/stat' % pid).read().rsplit(')', 1)[1].split()[11:13])) for pid in pids) / TICKS * 1000


def idle(space, engine, containers, length):
    engine = ENGINES[engine](space)
    engine.many_and_when(1)
    engine.none()
    time.sleep(2)
    empty = sum(map(pss_kb, engine.daemon_pids()))
    engine.many_and_when(containers)
    time.sleep(5)
    daemon, beside = engine.daemon_pids(), engine.container_pids()
    before = cpu_ms(daemon), cpu_ms(beside)
    time.sleep(length)
    after = cpu_ms(daemon), cpu_ms(beside)
    pss = sorted(map(pss_kb, beside))
    return {'daemon_cpu': after[0] - before[0], 'beside_cpu': after[1] - before[1], 'empty': empty, 'full': sum(map(pss_kb, daemon)), 'processes': len(beside),
            'beside': sum(pss) / containers, 'most': max(pss, default=0)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--containers', type=int, default=50)
    parser.add_argument('--seconds', type=float, default=60)
    parser.add_argument('--rounds', type=int, default=1, help='of no effect: one is enough')
    parser.add_argument('--engines', default='longshore,longshore-none,podman,docker')
    args = ready(parser)
    rows = []
    with Bench(args) as bench:
        for name in args.engines.split(','):
            found = bench.round(name, 'idle:idle', containers=args.containers, length=args.seconds)
            if found:
                rows.append([name, '%.0f' % found['daemon_cpu'], '%.0f' % found['beside_cpu'], '%.1f' % (found['empty'] / 1024), '%.1f' % (found['full'] / 1024), '%.0f' % found['beside']])
                say(*rows[-1], found)
    table('%d idle containers' % args.containers, ['', 'CPU of the daemon, ms in %g s' % args.seconds, 'of what is beside containers', 'PSS of the daemon with none, MiB', 'with all',
                                                   'beside each container, kB'], rows)
    return 0


if __name__ == '__main__':
    sys.exit(main())
