#!/usr/bin/env python3
"""back.py - how soon traffic flows again when somebody takes a part of the network away.

  back.py [--rounds N] [--engines NAMES] [--faults NAMES] [--limit S] [--work DIR] [--json FILE]

Three things are asked every 10 ms, each by a new connection: from outside through a published port, from one container to the other by its
address, and from a container to outside. Time: from before the fault's command until the first of 50 such rounds in a row in which all
three are answered. Longshore does that by itself. Of podman and docker it is told whether anything comes back within the limit (default
10 s), and then whether what the engine offers (`podman network reload`, another start of dockerd with live-restore; then a restart of the
containers) brings it back. `restarted`: whether a container has another process afterwards.
"""
import argparse, json, os, queue, socket, subprocess, sys, threading, time

from space import HOST, OUTSIDE, Bench, Failed, enter_network, median, ready, run, say, table, wait_for
from engines import ENGINES

DEFAULT = 'longshore,podman,docker'
FAULTS = ('flush', 'bridge', 'veth', 'forward')
TOLD = {'flush': '`nft flush ruleset`', 'bridge': '`ip link del` of the bridge', 'veth': '`ip link del` of a veth', 'forward': '`ip_forward=0`'}
PORT, INNER, FAR = 8080, 80, 9000
STEADY, PAUSE, PATIENCE = 50, 0.01, 0.05


class Asker(threading.Thread):
    """Asks from one namespace; a thread, since the namespace is a thread's."""

    def __init__(self, network, address, port):
        super().__init__(daemon=True)
        self.network, self.to, self.asked, self.answers = network, (address, port), queue.Queue(), queue.Queue()
        self.start()

    def run(self):
        enter_network(self.network)
        while self.asked.get():
            self.answers.put(self.answered())

    def answered(self):
        try:
            with socket.socket() as one:
                one.settimeout(PATIENCE)
                one.connect(self.to)
                one.sendall(b'GET /etc/passwd HTTP/1.0\r\n\r\n')
                return len(one.recv(10)) > 0
        except OSError:
            return False


class Traffic:
    def __init__(self, space, engine, far=None):
        self.far = far or subprocess.Popen(['nsenter', '--net=' + space.outside, 'busybox', 'httpd', '-f', '-p', str(FAR), '-h', '/'])
        self.askers = {'published': Asker(space.outside, HOST, PORT),
                       'between': Asker('/proc/%d/ns/net' % engine.pid('client'), engine.address('server'), INNER),
                       'out': Asker('/proc/%d/ns/net' % engine.pid('client'), OUTSIDE, FAR)}

    def once(self):
        """{what: whether it was answered}, all asked at once."""
        for asker in self.askers.values():
            asker.asked.put(True)
        return {name: asker.answers.get() for name, asker in self.askers.items()}

    def steady(self, begun, limit):
        """Seconds since `begun` until it flows and goes on flowing; None: not within the limit. And what failed meanwhile."""
        since, rounds, failed = None, 0, set()
        while time.monotonic() - begun < limit or rounds:
            at, found = time.monotonic(), self.once()
            failed |= {name for name, fine in found.items() if not fine}
            if all(found.values()):
                since, rounds = (since or at), rounds + 1
                if rounds == STEADY:
                    return since - begun, sorted(failed)
            else:
                since, rounds = None, 0
            time.sleep(PAUSE)
        return None, sorted(name for name, fine in self.once().items() if not fine)


def links(kind):
    return [one for one in json.loads(run('ip', '-j', 'link', 'show', 'type', kind)) if one['ifname'] != 'up0' and one['ifname'] != 'docker0']


def harm(fault, engine):
    if fault == 'flush':
        run('nft', 'flush', 'ruleset')
    elif fault == 'bridge':
        (bridge,) = links('bridge')
        run('ip', 'link', 'del', bridge['ifname'])
    elif fault == 'veth':
        # The host's end of the server's link, by the number that its other end tells.
        inner = json.loads(run('nsenter', '--net=/proc/%d/ns/net' % engine.pid('server'), 'ip', '-j', 'link', 'show', 'type', 'veth'))[0]
        (outer,) = [one['ifname'] for one in links('veth') if one['ifindex'] == inner['link_index']]
        run('ip', 'link', 'del', outer)
    else:
        with open('/proc/sys/net/ipv4/ip_forward', 'w') as out:
            out.write('0')


def back(space, engine, fault, times, limit):
    engine = ENGINES[engine](space)
    engine.pair(['httpd', '-f', '-p', str(INNER), '-h', '/'], ['%d:%d' % (PORT, INNER)])
    traffic = Traffic(space, engine)
    pids = lambda: [engine.pid(name) for name in ('server', 'client')]
    if traffic.steady(time.monotonic(), 10)[0] is None:
        raise Failed('it never flowed: %s' % traffic.once())
    before, took, hit = pids(), [], set()
    for _ in range(times):
        begun = time.monotonic()
        harm(fault, engine)
        value, failed = traffic.steady(begun, limit)
        took.append(value)
        hit |= set(failed)
        if value is None:
            break
    found = {'took': took, 'hit': sorted(hit), 'restarted': pids() != before, 'repairs': []}
    for name, repair in engine.repairs if took[-1] is None else ():
        begun = time.monotonic()
        try:
            repair()
            # Other processes may have other namespaces.
            took = Traffic(space, engine, traffic.far).steady(begun, limit)[0]
        except (Failed, OSError, subprocess.CalledProcessError) as error:
            name, took = '%s (%s)' % (name, (getattr(error, 'stderr', None) or str(error)).strip()[-80:]), None
        found['repairs'].append((name, took))
        if took is not None:
            break
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=10)
    parser.add_argument('--engines', default=DEFAULT)
    parser.add_argument('--faults', default=','.join(FAULTS))
    parser.add_argument('--limit', type=float, default=10)
    args = ready(parser)
    names, rows = args.engines.split(','), []
    with Bench(args) as bench:
        for fault in args.faults.split(','):
            for name in names:
                found = bench.round(name, 'back:back', fault=fault, times=args.rounds, limit=args.limit)
                if not found:
                    continue
                took = [value for value in found['took'] if value is not None]
                back = 'median %.0f ms, most %.0f ms (%d times)' % (median(took) * 1000, max(took) * 1000, len(took)) if None not in found['took'] else 'not within %g s' % args.limit
                repair = '; '.join('%s: %s' % (what, 'after %.1f s' % after if after is not None else 'not within %g s' % args.limit) for what, after in found['repairs'])
                rows.append([TOLD[fault], name, ', '.join(found['hit']), back, 'yes' if found['restarted'] else 'no', repair])
                say(*rows[-1])
        table('until traffic flows again', ['fault', '', 'what stopped', 'back by itself', 'restarted', 'repair'], rows)
    return 0


if __name__ == '__main__':
    sys.exit(main())
