#!/usr/bin/env python3
"""side.py - Longshore beside docker, podman, docker-compose, runc, crun and the bare kernel.

  side.py [WHAT...] [--quick] [--rounds N] [--engines NAMES] [--work DIR] [--json FILE] [--chart FILE]

WHAT: first many file edit memory idle adopt killed logs asking folder; all of them where none is named; `report`: no measuring, the tables
of the figures that are there. Each run has one engine alone in namespaces of its own (benches/networks/space.py); engines take turns, so
that what else the machine does hits all alike. An engine that is missing, or does not work here, leaves its cells empty, and the reason is
told. Figures go to FILE (target/side-by-side.json; a run of WHAT replaces those of the run before), and the chart is drawn of all that are
there: chart.svg here, which the README shows; target/side-by-side.svg of a quick run or of no release build. --rounds: so many where more
than one are usual; --quick: one, with few repetitions in it, and figures in a file of their own.
"""
import argparse, json, os, platform, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), 'networks'))
from space import LONGSHORE, Bench, ready, say, table
import chart, tables


class Sides(Bench):
    """The runs, with where and when they were, and what was absent: {task: {engine: why}}."""

    def __init__(self, args):
        super().__init__(args, limit=600)
        kept = self.runs if isinstance(self.runs, dict) else {}
        self.runs, self.missing = kept.get('runs', []), kept.get('absent', {})
        self.machine = kept.get('machine') or machine()

    def keep(self):
        with open(self.args.json + '.new', 'w') as file:
            json.dump({'machine': self.machine, 'absent': self.missing, 'runs': self.runs}, file, indent=1)
        os.rename(self.args.json + '.new', self.args.json)

    def measure(self, task, wanted, engines, rounds):
        again = lambda one: one['task'] == 'tasks:' + task and (not engines or one['engine'] in engines)
        self.runs = [one for one in self.runs if not again(one)]
        self.machine, self.absent, self.reasons = machine(), {}, {}
        # Where one round is usual it measures many times itself.
        usual = lambda runs: rounds if rounds and runs.rounds > 1 else runs.rounds
        for number in range(max(map(usual, wanted.runs))):
            for runs in wanted.runs:
                for engine in runs.engines if number < usual(runs) else ():
                    if engines and engine not in engines:
                        continue
                    begun = time.monotonic()
                    if self.round(engine, 'tasks:' + task, **runs.more):
                        say('%s, round %d: %s, %s (%.0f s)' % (task, number + 1, engine, ' '.join('%s=%s' % item for item in runs.more.items()), time.monotonic() - begun))
        kept = {engine: why for engine, why in self.missing.get(task, {}).items() if engines and engine not in engines}
        self.missing[task] = {**kept, **self.reasons}
        self.keep()


def machine():
    memory = int(open('/proc/meminfo').readline().split()[1]) / 1048576
    return {'when': time.strftime('%Y-%m-%d'), 'kernel': platform.release().split('-')[0], 'cpus': os.cpu_count(), 'memory': '%.0f GiB' % memory,
            'program': LONGSHORE, 'cgroups': 'v1' if os.path.isdir('/sys/fs/cgroup/cpuacct') else 'v2', 'load': open('/proc/loadavg').read().split()[0], 'versions': versions()}


def versions():
    found = {}
    for name, words in (('docker', 'dockerd --version'), ('containerd', 'containerd --version'), ('podman', 'podman --version'), ('runc', 'runc --version'), ('crun', 'crun --version'),
                        ('docker-compose', 'docker-compose version --short')):
        try:
            found[name] = subprocess.run(words.split(), capture_output=True, text=True).stdout.splitlines()[0]
        except (OSError, IndexError):
            continue
    return found


def main():
    every = tables.tables(False)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('what', nargs='*', metavar='WHAT', help=', '.join([*every, 'report']))
    parser.add_argument('--quick', action='store_true')
    parser.add_argument('--rounds', type=int)
    parser.add_argument('--engines', default='')
    parser.add_argument('--chart')
    args = ready(parser)
    rough = args.quick or '/release/' not in LONGSHORE
    args.json = args.json or os.path.join(ROOT, 'target', 'side-by-side-quick.json' if rough else 'side-by-side.json')
    args.chart = args.chart or (os.path.join(ROOT, 'target', 'side-by-side.svg') if rough else os.path.join(HERE, 'chart.svg'))
    os.makedirs(os.path.dirname(args.json), exist_ok=True)
    # Tasks are found by their module's name.
    os.environ['PYTHONPATH'] = HERE
    every, what = tables.tables(args.quick), args.what or list(every)
    unknown = set(what) - {*every, 'report'}
    if unknown:
        parser.error('there is no %s' % ', '.join(sorted(unknown)))
    sides = Sides(args)
    if 'report' in what:
        what = list(every)
    else:
        with sides:
            for task in what:
                sides.measure(task, every[task], [name for name in args.engines.split(',') if name], args.rounds)
    where = sides.machine
    told = '%d CPUs, %s, Linux %s, cgroup %s, load %s, %s' % (where['cpus'], where['memory'], where['kernel'], where['cgroups'], where['load'], where['when'])
    if '/release/' not in where.get('program', ''):
        told += ', not a release build: %s' % where.get('program')
    say('\n%s\n%s' % (told, '; '.join(where['versions'].values())))
    say('Median (best); ×: how many times Longshore\'s.')
    for task in what:
        columns, lines, notes = tables.cells(every[task], task, sides.runs, sides.missing)
        table(every[task].title, columns, lines)
        say('\n' + '\n'.join([every[task].note, *notes]))
    drawn = chart.chart(every, sides.runs, told)
    if drawn:
        with open(args.chart, 'w') as out:
            out.write(drawn)
        say('\n%s; figures in %s' % (args.chart, args.json))
    return 0


if __name__ == '__main__':
    sys.exit(main())
