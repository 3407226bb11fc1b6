#!/usr/bin/env python3
"""throughput.py - TCP by iperf3: between two containers of one network, and from outside through a published port.

  throughput.py [--rounds N] [--seconds S] [--engines NAMES] [--work DIR] [--json FILE]

The server runs in a container, all engines have the same image. Between containers the client runs in the other one; from outside it runs
in a namespace behind a veth pair. `floor` is a bridge and two veth pairs without any rule, and one rule of nft for the port. All take
turns, each time in a space of its own (space.py). CPU is that of the whole machine for each GB that was carried; client and server are
in it, which are the same for all.
"""
import argparse, json, os, subprocess, sys, time

from space import HOST, OUTSIDE, Bench, Failed, machine_cpu, ready, run, say, seconds, table, wait_for
from engines import ENGINES

DEFAULT = 'floor,longshore,longshore-host-firewall,podman,docker'
SERVER, PORT = ['iperf3', '-s'], '5201'
WAYS = ('between', 'published', 'backward')


class Bare:
    """What the kernel gives."""

    def __init__(self, space):
        run('ip', 'link', 'add', 'br0', 'type', 'bridge')
        run('ip', 'addr', 'add', '10.9.0.1/24', 'dev', 'br0')
        run('ip', 'link', 'set', 'br0', 'up')
        for number, name in enumerate(('server', 'client'), 2):
            run('ip', 'netns', 'add', name)
            run('ip', 'link', 'add', 'v-' + name, 'master', 'br0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
            run('ip', 'link', 'set', 'v-' + name, 'up')
            run('ip', '-n', name, 'addr', 'add', '10.9.0.%d/24' % number, 'dev', 'eth0')
            run('ip', '-n', name, 'link', 'set', 'eth0', 'up')
            run('ip', '-n', name, 'route', 'add', 'default', 'via', '10.9.0.1')
        with open('/proc/sys/net/ipv4/ip_forward', 'w') as out:
            out.write('1')
        run('nft', 'table ip floor { chain in { type nat hook prerouting priority -100; ip daddr %s tcp dport %s dnat to 10.9.0.2; }; }' % (HOST, PORT))

    def pair(self, command, _):
        self.child = subprocess.Popen(self.inside('server', command), stdout=subprocess.DEVNULL)

    def address(self, _):
        return '10.9.0.2'

    def inside(self, name, words):
        return ['nsenter', '--net=/run/netns/' + name, *words]


def carried(words, server, length, *more):
    """Bits a second, and seconds of the machine's CPU for each 10^9 bytes."""
    for _ in range(20):
        before = machine_cpu()
        done = subprocess.run([*words, 'iperf3', '-c', server, '-p', PORT, '-t', str(length), '-O', '0.5', '-J', *more], capture_output=True, text=True)
        # The server takes one at a time, and needs a moment to see that the last one has gone.
        if 'server is busy' not in done.stdout:
            break
        time.sleep(0.1)
    try:
        total = json.loads(done.stdout)['end']['sum_received']
        return total['bits_per_second'], (machine_cpu() - before) / (total['bytes'] / 1e9)
    except (ValueError, KeyError):
        raise Failed('iperf3: %s' % (done.stdout + done.stderr)[-300:])


def throughput(space, engine, length):
    engine = (Bare if engine == 'floor' else ENGINES[engine])(space)
    engine.pair(SERVER, [PORT + ':5201'])
    server, outside = engine.address('server'), ['nsenter', '--net=' + space.outside]
    answers = lambda words, to: lambda: subprocess.run([*words, 'iperf3', '-c', to, '-p', PORT, '-n', '1000'], capture_output=True).returncode == 0
    ask = engine.inside('client', [])
    wait_for('the server answers the other container', 10, answers(ask, server), 0.3)
    wait_for('the server answers outside', 10, answers(outside, HOST), 0.3)
    found = {}
    for way, words, to, more in ('between', ask, server, ()), ('published', outside, HOST, ()), ('backward', outside, HOST, ('-R',)):
        found[way], found[way + '_cpu'] = carried(words, to, length, *more)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=3)
    parser.add_argument('--engines', default=DEFAULT)
    args = ready(parser)
    names = args.engines.split(',')
    with Bench(args) as bench:
        for number in range(args.rounds):
            for name in names:
                result = bench.round(name, 'throughput:throughput', length=args.seconds)
                if result:
                    say('round %d  %-24s' % (number + 1, name), *['%s %5.1f Gbit/s' % (way, result[way] / 1e9) for way in WAYS])
        of = lambda name, way: seconds([value / 1e9 for value in bench.of(name, way)], '%.1f')
        cpu = lambda name, way: seconds(bench.of(name, way + '_cpu'), '%.2f')
        table('TCP, Gbit/s: median (least to most)', ['', 'between two containers', 'published port', 'published port, from the container'],
              [[name, *(of(name, way) for way in WAYS)] for name in names])
        table('CPU of the machine, s for each GB', ['', *WAYS], [[name, *(cpu(name, way) for way in WAYS)] for name in names])
        # What else the machine did hit a whole round alike.
        ratio = lambda name, way: seconds([own / other for own, other in zip(bench.of('longshore', way), bench.of(name, way))])
        table('Longshore in terms of each, round by round: median (least to most)', ['', *WAYS], [[name, *(ratio(name, way) for way in WAYS)] for name in names])
    return 0


if __name__ == '__main__':
    sys.exit(main())
