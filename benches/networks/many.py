#!/usr/bin/env python3
"""many.py - 100 containers on one bridge network: Longshore from one file, podman and docker 8 at a time, docker-compose.

  many.py [--rounds N] [--containers N] [--engines NAMES] [--work DIR] [--json FILE]

The image is present, and one container ran before. All engines take turns, each time in a space of its own (space.py).
Time: from the file's rename, or the first command, until the first instruction of the last container (by the monotonic clock, which the
program prints), and until the engine says that all run. CPU: of the engine's processes and containers with
their ended children; what the kernel does for them later, in threads of its own, is not in it. Removal: until the engine says so and no
link is left.
"""
import argparse, json, sys, time

from space import Bench, Failed, ready, run, say, seconds, table, wait_for
from engines import ENGINES

DEFAULT = 'longshore,longshore-services,podman,docker,docker-compose'


def links():
    """Ends of veth pairs in this namespace, but the uplink."""
    return len([one for one in json.loads(run('ip', '-j', 'link', 'show', 'type', 'veth')) if one['ifname'] != 'up0'])


def many(space, engine, containers):
    engine = ENGINES[engine](space)
    engine.many_and_when(1)
    engine.none()
    wait_for('no link is left of one', 30, lambda: links() == 0)
    meter = space.meter(engine.cpu_places)
    last, told = engine.many_and_when(containers)
    cpu = meter.read()
    made = links()
    if made != containers:
        raise Failed('%d containers have %d links' % (containers, made))
    meter = space.meter()
    begun = time.monotonic()
    engine.none()
    wait_for('no link is left', 60, lambda: links() == 0)
    removed = time.monotonic() - begun
    return {'last': last, 'told': told, 'cpu': cpu, 'removed': removed, 'removal_cpu': meter.read()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--containers', type=int, default=100)
    parser.add_argument('--engines', default=DEFAULT)
    args = ready(parser)
    names = args.engines.split(',')
    with Bench(args) as bench:
        for number in range(args.rounds):
            for name in names:
                result = bench.round(name, 'many:many', containers=args.containers)
                if result:
                    say('round %d  %-20s last %6.2f s  told %6.2f s  CPU %6.2f s  removed %5.2f s (CPU %.2f)' % (
                        number + 1, name, *(result[key] for key in ('last', 'told', 'cpu', 'removed', 'removal_cpu'))))
        of = lambda name, key: seconds(bench.of(name, key, containers=args.containers))
        table('%d containers on one bridge network, s: median (least to most)' % args.containers,
              ['', 'all run', 'engine says so', 'CPU', 'removed', 'CPU of removal'],
              [[name, *(of(name, key) for key in ('last', 'told', 'cpu', 'removed', 'removal_cpu'))] for name in names])
    return 0


if __name__ == '__main__':
    sys.exit(main())
