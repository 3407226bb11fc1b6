#!/usr/bin/env python3
"""contents.py - from a changed config or secret until the process in the container sees the new content.

  contents.py [--rounds N] [--engines NAMES] [--work DIR] [--json FILE]

A program in the container opens the file, reads it, and writes the monotonic clock when it holds something new: at its start and when it
gets SIGHUP, and for `update`, where nobody tells it, every millisecond. Time: from before the rename of the new file over the old one, or
from before the first command, until the program had read it. One container on no network; its main process ends at once when it is told to.

Longshore sees the rename by itself. To the others somebody has to say what to do: with docker-compose `up -d --force-recreate`, `restart`
or `kill -s HUP`; with podman `rm` and `run`, `restart` or `kill -s HUP`. They know configs as bind mounts: a signal is of use there only
if the file is written over in place, so that a reader can find half of it; and nothing sees a renamed file without another start.
"""
import argparse, json, os, re, shutil, subprocess, sys, time, zlib

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), 'networks'))
from space import IMAGE, LONGSHORE, TOOLS, Bench, Failed, median, ready, run, say, table, wait_for
import engines

DEFAULT = 'longshore,docker-compose,podman'
SAW = re.compile(r'saw (\d+) \S+ (\d+) ([0-9a-f]{8})')
PLACE = '/etc/app.conf'


class Witness:
    """The program, and what it wrote. The folder is seen in the container as /w."""

    def __init__(self, dir):
        self.dir, self.log = dir, dir + '/log'
        os.makedirs(dir)
        run('gcc', '-static', '-O1', '-w', '-o', dir + '/witness', os.path.join(os.path.dirname(TOOLS), 'fixtures', 'witness.c'))
        open(self.log, 'w').close()

    def command(self, every, place=PLACE):
        return ['sh', '-c', 'exec /w/witness %d %s >> /w/log' % (every, place)]

    def saw(self, content):
        """When it read this, in seconds."""
        sum = '%08x' % zlib.crc32(content)
        for ns, length, crc in SAW.findall(open(self.log).read()):
            if (int(length), crc) == (len(content), sum):
                return int(ns) / 1e9

    def wait(self, content, seconds=30):
        return wait_for('the new content is seen', seconds, lambda: self.saw(content), 0.002)


def content(number):
    return b'setting = %06d\n' % number * 64


def replace(path, data):
    """Writes it beside, then renames; gives when, just before the rename."""
    beside = os.path.join(os.path.dirname(path), '.new')
    with open(beside, 'wb') as out:
        out.write(data)
    begun = time.monotonic()
    os.rename(beside, path)
    return begun


class Longshore(engines.Longshore):
    WAYS = {'recreate': ('recreate', 'the file is renamed'), 'restart': ('restart', 'the file is renamed'), 'signal': ({'signal': 'HUP'}, 'the file is renamed'),
            'update': ('update', 'the file is renamed'), 'secret': ('update', '`longshore secret set`, kept by name')}

    def begin(self, way, witness, first):
        self.conf = self.host.state + '/conf'
        secret = way == 'secret'
        if secret:
            self.secret(first)
        else:
            replace(self.conf, first)
        source = {'source': 'c', 'target': PLACE, 'x-longshore': {'on_change': self.WAYS[way][0]}}
        service = {'image': IMAGE, 'network_mode': 'none', 'restart': 'always', 'volumes': [witness.dir + ':/w'],
                   'command': witness.command(way in ('update', 'secret')), 'secrets' if secret else 'configs': [source]}
        top = {'secrets': {'c': {'external': True}}} if secret else {'configs': {'c': {'file': './conf'}}}
        self.host.put('bench.json', json.dumps({'services': {'s': service}, **top}))
        witness.wait(first)

    def secret(self, data):
        begun = time.monotonic()
        subprocess.run([LONGSHORE, '--socket', self.host.socket, 'secret', 'set', 'c'], input=data, check=True, capture_output=True)
        return begun

    def change(self, way, data):
        return self.secret(data) if way == 'secret' else replace(self.conf, data)

    def rested(self):
        wait_for('everything is settled', 30, self.host.settled)

    def end(self):
        self.host.remove('bench.json')
        wait_for('all are gone', 60, lambda: not self.host.containers() and self.host.settled())


class ByHand:
    """What the others have in common."""

    def rested(self):
        pass

    def in_place(self, data):
        begun = time.monotonic()
        with open(self.conf, 'wb') as out:
            out.write(data)
        return begun


class Compose(ByHand, engines.Compose):
    WAYS = {'up': ('nothing', '`docker-compose up -d`'), 'recreate': ('recreate', '`docker-compose up -d --force-recreate`'),
            'restart': ('restart', '`docker-compose restart`'), 'signal': ('signal', 'written in place, `docker-compose kill -s HUP`')}

    def begin(self, way, witness, first):
        self.conf = self.dir + '/conf'
        replace(self.conf, first)
        service = {'image': IMAGE, 'network_mode': 'none', 'volumes': [witness.dir + ':/w', self.conf + ':' + PLACE + ':ro'], 'command': witness.command(0)}
        with open(self.dir + '/bench.yaml', 'w') as out:
            json.dump({'version': '2.4', 'services': {'s': service}}, out)
        run(*self.words, 'up', '-d')
        witness.wait(first)

    def change(self, way, data):
        begun = self.in_place(data) if way == 'signal' else replace(self.conf, data)
        run(*self.words, *{'up': ('up', '-d'), 'recreate': ('up', '-d', '--force-recreate'), 'restart': ('restart',), 'signal': ('kill', '-s', 'HUP')}[way])
        return begun

    def end(self):
        run(*self.words, 'down', '-t', '0')


class Podman(ByHand, engines.Podman):
    WAYS = {'recreate': ('recreate', '`podman rm -f`, `podman run`'), 'restart': ('restart', '`podman restart`'),
            'signal': ('signal', 'written in place, `podman kill -s HUP`'), 'secret': ('recreate', '`podman secret rm`, `create`, `rm -f`, `run`')}

    def begin(self, way, witness, first):
        self.conf, self.witness, self.way = self.dir + '/conf', witness, way
        if way == 'secret':
            self.secret(first)
        else:
            replace(self.conf, first)
        self.made()
        witness.wait(first)

    def made(self):
        given = ('--secret', 'c,target=' + PLACE) if self.way == 'secret' else ('-v', self.conf + ':' + PLACE + ':ro')
        self.call('run', '-d', '--pull', 'never', '--name', 's', '--network', 'none', '--cgroup-parent', '/%s/podman' % self.space.group,
                  '-v', self.witness.dir + ':/w', *given, IMAGE, *self.witness.command(0))

    def secret(self, data):
        subprocess.run(['podman', 'secret', 'rm', 'c'], capture_output=True)
        subprocess.run(['podman', 'secret', 'create', 'c', '-'], input=data, check=True, capture_output=True)

    def change(self, way, data):
        begun = time.monotonic()
        if way == 'signal':
            self.in_place(data)
            self.call('kill', '-s', 'HUP', 's')
            return begun
        if way == 'secret':
            self.secret(data)
        else:
            begun = replace(self.conf, data)
        if way == 'restart':
            self.call('restart', 's')
        else:
            self.call('rm', '-f', 's')
            self.made()
        return begun

    def end(self):
        self.none()


ENGINES = {engine.name: engine for engine in (Longshore, Compose, Podman)}


def contents(space, engine, rounds):
    engine, found = ENGINES[engine](space), {}
    for way in engine.WAYS:
        witness, number, took = Witness(space.work + '/w-' + way), 1, []
        engine.begin(way, witness, content(number))
        # The first is not counted.
        for _ in range(rounds + 1):
            engine.rested()
            time.sleep(0.05)
            number += 1
            begun = engine.change(way, content(number))
            try:
                took.append(witness.wait(content(number), 2 if way == 'up' else 30) - begun)
            except Failed:
                if way != 'up':
                    raise
                # It is not expected to change its mind.
                took = None
                break
        engine.end()
        found[way] = took and took[1:]
    return {'took': found}


def nearest(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=20)
    parser.add_argument('--engines', default=DEFAULT)
    args = ready(parser)
    # Tasks are found by their module's name.
    os.environ['PYTHONPATH'] = HERE
    names, rows, absent = args.engines.split(','), [], []
    with Bench(args, limit=300) as bench:
        for name in names:
            result = bench.round(name, 'contents:contents', rounds=args.rounds)
            if not result:
                absent.append(name)
                continue
            for way, took in result['took'].items():
                reaction, what = ENGINES[name].WAYS[way]
                reaction = 'signal' if isinstance(reaction, dict) else reaction
                ms = lambda value: '%.0f' % (value * 1000)
                rows.append([name, reaction, what, *((ms(median(took)), ms(nearest(took, 0.9)), ms(max(took)), len(took)) if took else ('not seen', '–', '–', 0))])
                say(*rows[-1])
    table('until the process sees the new content, ms', ['', 'what happens', 'how', 'median', 'p90', 'most', 'rounds'], rows)
    for name in absent:
        say('\n%s: missing here, or failed twice (see above)' % name)
    if not shutil.which('docker') or subprocess.run(['docker', 'compose', 'version'], capture_output=True).returncode:
        say('\n`docker compose` (version 2) is missing here; docker-compose is version 1')
    return 0


if __name__ == '__main__':
    sys.exit(main())
