#!/usr/bin/env python3
"""pull.py - a pull into an empty store: Longshore, containerd, podman, docker, and a pipeline of curl and tar as the floor.

  pull.py [--rounds N] [--images wide,big,postgres] [--kinds gzip,zstd] [--engines NAMES] [--registry HOST:PORT/FOLDER]
          [--keep DIR] [--work DIR] [--json FILE]

The engines take turns. Every pull of every engine gets a file system of its own (ext4 in a file): after many removals ext4 makes
files many times slower, which would be measured instead. After each pull the time of `sync -f` is measured too: what an engine
had not made durable when it said that it was done.

Everything runs in process, mount and network namespaces of its own and is gone with this program, however it ends. With --registry the
images come from there (plain HTTP, as images.py pushes them) and the network is the machine's. An engine that is missing leaves its column empty.
With --json the runs are kept in a file and those that are in it already count too, so that rounds can be run one by one.
Needs root. CPU: of daemon and client. Memory: the highest resident memory of daemon and client together; the page cache is not in it.
"""
import argparse, json, os, shutil, signal, subprocess, sys, tempfile, time

sys.dont_write_bytecode = True
import images
from engines import ENGINES, Absent
from lab import LONGSHORE, TOOLS, Failed, answers, median, run, say, wait_for

INSIDE = 'LONGSHORE_BENCH_INSIDE'


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--images', default='wide,big,postgres')
    parser.add_argument('--kinds', default='gzip,zstd')
    parser.add_argument('--engines', default=','.join(e.name for e in ENGINES))
    parser.add_argument('--registry', help='an existing one that has the images')
    parser.add_argument('--keep', default='/var/tmp/longshore-bench-images', help='where made images are kept for the next time')
    parser.add_argument('--work', default='/var/tmp')
    parser.add_argument('--json', help='a file to keep the runs in; those of earlier calls count too')
    return parser.parse_args()


def enter(args):
    """Once more, in namespaces: the kernel then ends and unmounts everything, whatever happens."""
    if os.geteuid() != 0:
        sys.exit('this mounts file systems and needs root')
    if not os.path.exists(LONGSHORE):
        sys.exit('there is no %s: build it, or name one in LONGSHORE' % LONGSHORE)
    if not args.registry:
        os.makedirs(args.keep, exist_ok=True)
        for name in args.images.split(','):  # here, since Debian's packages come from outside
            images.make(args.keep, name, say)
    work = tempfile.mkdtemp(prefix='longshore-bench.', dir=args.work)
    spaces = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc'] + ([] if args.registry else ['--net'])
    # The second process is the parent of all in its namespace, and must not end before it is asked to.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    child = subprocess.Popen(['unshare', *spaces, sys.executable, *sys.argv], env={**os.environ, INSIDE: work})
    try:
        code = child.wait()
    finally:
        child.kill()
        child.wait()
        shutil.rmtree(work, ignore_errors=True)
    sys.exit(code)


def prepare(args, work):
    """(address, [(image, kind)]) of what there is to pull."""
    # skopeo and podman keep what they know of blobs here; the benchmark has an empty one.
    os.makedirs('/var/lib/containers/cache', exist_ok=True)
    run('mount', '-t', 'tmpfs', 'tmpfs', '/var/lib/containers/cache')
    address = args.registry
    names, kinds = args.images.split(','), args.kinds.split(',')
    if not address:
        run('ip', 'link', 'set', 'lo', 'up')
        address = '127.0.0.1:5000/bench'
        log = open(work + '/registry.log', 'w')
        subprocess.Popen([os.path.join(TOOLS, 'registry.sh'), '5000', args.keep + '/registry'], stdout=log, stderr=log)
        wait_for('the registry', 20, lambda: answers('http://127.0.0.1:5000/v2/'))
        for name in names:
            layout = '%s/%s' % (args.keep, name)
            for kind in kinds:
                if os.path.exists(layout + '/index.json') and not images.layers(address, name, kind):
                    images.push(layout, address, name, kind)
    found = [(name, kind) for name in names for kind in kinds if images.layers(address, name, kind)]
    for name, kind in found:  # all come from memory
        for url, _, _ in images.layers(address, name, kind):
            run('curl', '-fsS', '-o', '/dev/null', url)
    return address, found


class FileSystem:
    """A fresh ext4 in a file."""

    def __init__(self, work):
        self.file, self.dir = work + '/fs.img', work + '/fs'

    def __enter__(self):
        with open(self.file, 'wb') as out:
            out.truncate(8 << 30)
        run('mkfs.ext4', '-q', '-F', '-E', 'nodiscard', self.file)
        os.makedirs(self.dir, exist_ok=True)
        run('mount', '-o', 'loop,noinit_itable', self.file, self.dir)
        return self.dir

    def __exit__(self, *_):
        # An engine may have mounts below.
        for line in reversed(open('/proc/self/mounts').read().splitlines()):
            if line.split()[1].startswith(self.dir):
                subprocess.run(['umount', '-l', line.split()[1]], capture_output=True)
        os.unlink(self.file)


def once(engine, work, address, name, kind):
    with FileSystem(work) as dir:
        running = engine(dir)
        try:
            os.sync()
            seconds, cpu, daemon, client = running.pull(address, name, kind)
            begun = time.monotonic()
            run('sync', '-f', dir)
            return {'seconds': seconds, 'cpu': cpu, 'daemon_mib': daemon / 1024 or None, 'client_mib': client / 1024 or None, 'sync': time.monotonic() - begun}
        finally:
            running.end()


def table(title, results, found, engines, cell):
    say('\n%s' % title)
    say('%-12s' % '', *['%16s' % ('%s %s' % pair) for pair in found])
    for engine in engines:
        say('%-12s' % engine.name, *['%16s' % (cell(results[engine.name, pair], results, pair) if results[engine.name, pair] else '–') for pair in found])


def of(key):
    def cell(runs, *_):
        values = [r[key] for r in runs if r[key] is not None]
        return '%.2f (%.2f)' % (median(values), min(values)) if values else '–'
    return cell


def ratio(runs, results, pair):
    own = results.get(('longshore', pair))
    # With what they leave to a later sync, since Longshore leaves nothing.
    whole = lambda some: median([r['seconds'] + r['sync'] for r in some])
    return '%.2f, %.2f' % (median([r['seconds'] for r in runs]) / median([r['seconds'] for r in own]), whole(runs) / whole(own)) if own else '–'


def main():
    args = arguments()
    work = os.environ.get(INSIDE)
    if not work:
        enter(args)
    address, found = prepare(args, work)
    engines = [e for e in ENGINES if e.name in args.engines.split(',')]
    results = {(e.name, pair): [] for e in engines for pair in found}
    for known in json.load(open(args.json)) if args.json and os.path.exists(args.json) else []:
        results.get((known['engine'], (known['image'], known['kind'])), []).extend(known['runs'])
    absent = set()
    for number in range(args.rounds):
        for name, kind in found:
            for engine in engines:
                if (engine.name, name, kind) in absent or engine.name in absent:
                    continue
                try:
                    result = once(engine, work, address, name, kind)
                    results[engine.name, (name, kind)].append(result)
                    say('round %d  %-9s %s  %-11s %6.2f s  sync %5.2f s  CPU %5.2f s  %s' % (
                        number + 1, name, kind, engine.name, result['seconds'], result['sync'], result['cpu'], '%5.0f MiB' % result['daemon_mib'] if result['daemon_mib'] else ''))
                except (Absent, Failed) as error:
                    absent.add((engine.name, name, kind))
                    say('%s has no %s %s: %s' % (engine.name, name, kind, error))
    table('seconds until it says that it is done: median (least)', results, found, engines, of('seconds'))
    table('the same in terms of longshore\'s; then with the sync of both', results, found, engines, ratio)
    table('seconds of `sync -f` afterwards: median (least)', results, found, engines, of('sync'))
    table('seconds of CPU: median (least)', results, found, engines, of('cpu'))
    table('peak MiB of the daemon: median (least)', results, found, engines, of('daemon_mib'))
    table('peak MiB of the client: median (least)', results, found, engines, of('client_mib'))
    if args.json:
        with open(args.json, 'w') as out:
            json.dump([{'engine': e, 'image': pair[0], 'kind': pair[1], 'runs': runs} for (e, pair), runs in results.items()], out, indent=1)


main()
