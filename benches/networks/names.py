#!/usr/bin/env python3
"""names.py - names asked for from inside a container, of the engines as they run: Longshore, docker, podman (aardvark-dns), and dnsmasq.

  names.py [--rounds N] [--seconds S] [--engines NAMES] [--work DIR] [--json FILE]

../dns/load.c asks for the name of the other container, with 1 question under way (how long one takes) and with 64 (how many are answered);
it runs in the network of the container that asks, and sends to the name server that is in the container's /etc/resolv.conf. All engines take
turns, each time in a space of its own (space.py). dnsmasq is asked on loopback. (../dns/names.py measures the resolver alone.)
"""
import argparse, json, os, subprocess, sys

from space import HERE, Bench, Failed, ready, run, say, seconds, table, wait_for
from engines import ENGINES, STAY

ASKING = (1, 64)


class Dnsmasq:
    def __init__(self, space):
        self.hosts = space.work + '/hosts'
        with open(self.hosts, 'w') as out:
            out.write('10.9.0.2 server\n')

    def pair(self, *_):
        self.child = subprocess.Popen(['dnsmasq', '--no-daemon', '--no-resolv', '--no-hosts', '--addn-hosts=' + self.hosts, '--conf-file=/dev/null', '--port=53',
                                       '--listen-address=127.0.0.1', '--bind-interfaces', '--pid-file=', '--user=root'], stderr=subprocess.DEVNULL)

    def pid(self, _):
        return os.getpid()


def asked(engine):
    """The name server of a container, and the whole name."""
    if isinstance(engine, Dnsmasq):
        return '127.0.0.1', 'server'
    lines = [line.split() for line in run(*engine.inside('client', ['cat', '/etc/resolv.conf'])).splitlines()]
    server = next(line[1] for line in lines if line and line[0] == 'nameserver')
    return server, 'server.dns.podman' if engine.name == 'podman' else 'server'


def names(space, engine, length):
    load = space.work + '/load'
    run('gcc', '-O2', '-w', '-o', load, os.path.join(os.path.dirname(HERE), 'dns', 'load.c'))
    engine = (Dnsmasq if engine == 'dnsmasq' else ENGINES[engine])(space)
    engine.pair(STAY, [])
    server, name = asked(engine)
    pid = engine.pid('client')

    def ask(asking, length):
        return json.loads(run('nsenter', '--net=/proc/%d/ns/net' % pid, load, server, name, '1', '1', str(asking), str(length)))
    wait_for('the name is answered', 10, lambda: ask(1, 0.05)['answers'], 0.2)
    found = {}
    for asking in ASKING:
        told = ask(asking, length)
        if told['wrong']:
            raise Failed('wrong answers: %s' % told)
        found.update({'%s %d' % (key, asking): told[key] for key in ('per_second', 'p50', 'p99', 'lost')})
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=2)
    parser.add_argument('--engines', default='longshore,docker,podman,dnsmasq')
    args = ready(parser)
    names = args.engines.split(',')
    with Bench(args) as bench:
        for number in range(args.rounds):
            for name in names:
                found = bench.round(name, 'names:names', length=args.seconds)
                if found:
                    say('round %d  %-10s' % (number + 1, name), found)
        of = lambda name, key, form='%.0f': seconds(bench.of(name, key), form)
        table('names: median (least to most)', ['', 'µs, one at a time', 'p99, one at a time', 'answers a second, 64 at a time', 'p99, 64 at a time'],
              [[name, of(name, 'p50 1'), of(name, 'p99 1'), of(name, 'per_second 64'), of(name, 'p99 64')] for name in names])
    return 0


if __name__ == '__main__':
    sys.exit(main())
