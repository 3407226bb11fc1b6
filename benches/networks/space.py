"""A machine of its own for each measurement: process, mount and network namespaces in which one engine runs, with an uplink to a
namespace that plays the outside world.

    outside 192.0.2.2 ──── up0 192.0.2.1 (the "host", where the engine is)

`inside(TASK, ...)` is called outside and gives what the task returned. The kernel ends and unmounts everything when the task is over,
however it ends; what is left (folders of cgroups) is removed here. Standard library only; needs root.
"""
import ctypes, glob, json, os, resource, shutil, signal, subprocess, sys, tempfile, time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(HERE)), 'tests', 'soak'))
from statistics import median
from lab import LONGSHORE, TOOLS, Failed, answers, run, say, wait_for

HOST, OUTSIDE = '192.0.2.1', '192.0.2.2'
REGISTRY = '127.0.0.1:5000'
IMAGE = REGISTRY + '/bench/networks:latest'
CLONE_NEWNET = 0x40000000
TICKS = os.sysconf('SC_CLK_TCK')
# Debian's crun refuses a machine with both versions of cgroups; here all engines see v1 alone. The tmpfs takes what engines write to /run.
ENTER = '''mount -t tmpfs tmpfs /run && mkdir -p /run/lock /var/lib/containers && mount -t tmpfs tmpfs /var/lib/containers
[ ! -d /sys/fs/cgroup/cpuacct ] || umount /sys/fs/cgroup/unified 2>/dev/null
python3 "$@"; exit $?'''


# ---- outside

def ready(parser):
    """Arguments that all have, and what there must be."""
    parser.add_argument('--work', default='/var/tmp', help='a folder on a disk file system')
    parser.add_argument('--json', help='a file to keep the runs in; those of earlier calls count too')
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit('this makes namespaces and needs root')
    if not os.path.exists(LONGSHORE):
        sys.exit('there is no %s: build it, or name one in LONGSHORE' % LONGSHORE)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))
    return args


class Bench:
    """A scratch folder with the image in it, and the runs so far."""

    def __init__(self, args, limit=300):
        self.args, self.limit, self.absent, self.reasons = args, limit, {}, {}
        self.runs = json.load(open(args.json)) if args.json and os.path.exists(args.json) else []

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix='longshore-bench.', dir=self.args.work)
        try:
            self.inside('space:make_image')
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir, ignore_errors=True)

    def inside(self, task, **more):
        """Calls MODULE:FUNCTION in a space of its own."""
        work = tempfile.mkdtemp(prefix='space.', dir=self.dir)
        group = 'longshore-bench.' + os.path.basename(work)[6:]
        out = work + '/result.json'
        call = json.dumps({'task': task, 'more': more, 'work': work, 'images': self.dir + '/registry', 'group': group, 'out': out})
        child = subprocess.Popen(['unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '--net', 'sh', '-c', ENTER, 'sh',
                                  os.path.join(HERE, 'space.py'), call], stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            code = child.wait(self.limit)
        except subprocess.TimeoutExpired:
            code = 'no end within %d s' % self.limit
        finally:
            child.kill()
            child.wait()
            forget(group, work)
        try:
            result = json.load(open(out))
        except (OSError, ValueError):
            raise Failed('%s ended with %s' % (task, code))
        finally:
            shutil.rmtree(work, ignore_errors=True)
        if 'failed' in result:
            raise Failed(result['failed'])
        return result['result']

    def round(self, engine, task, **more):
        """One run of one engine. One that fails twice is not asked again."""
        if self.absent.get(engine, 0) > 1:
            return None
        try:
            result = self.inside(task, engine=engine, **more)
        except Failed as error:
            self.absent[engine], self.reasons[engine] = self.absent.get(engine, 0) + 1, str(error)
            say('%s: %s' % (engine, error))
            return None
        self.runs.append({'engine': engine, 'task': task, **more, **result})
        self.keep()
        return result

    def keep(self):
        if self.args.json:
            with open(self.args.json, 'w') as file:
                json.dump(self.runs, file, indent=1)

    def of(self, engine, key, **same):
        """The values of all runs of an engine."""
        return [r[key] for r in self.runs if r['engine'] == engine and r.get(key) is not None and all(r.get(k) == v for k, v in same.items())]


def forget(group, work):
    """The folders of cgroups; processes have gone with their namespace."""
    tops = [at for pattern in ('/sys/fs/cgroup/*/', '/sys/fs/cgroup/') for at in glob.glob(pattern + group)]
    try:
        instance = open(work + '/instance').read()
        tops += [at for pattern in ('/sys/fs/cgroup/*/longshore/', '/sys/fs/cgroup/longshore/') for at in glob.glob(pattern + instance)]
    except OSError:
        pass
    for _ in range(100):
        for top in tops:
            for at, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(at)
                except OSError:
                    pass
        if not any(os.path.exists(top) for top in tops):
            return
        time.sleep(0.05)


def table(title, columns, rows):
    """Rows of [name, cell...], as Markdown."""
    say('\n%s\n' % title)
    widths = [max(len(str(line[at])) for line in [columns, *rows]) for at in range(len(columns))]
    line = lambda cells: '| ' + ' | '.join(str(cell).ljust(width) for cell, width in zip(cells, widths)) + ' |'
    say(line(columns))
    say('|' + '|'.join('-' * (width + 2) for width in widths) + '|')
    for row in rows:
        say(line(row))


def seconds(values, form='%.2f'):
    """Median (least to most)."""
    if not values:
        return '–'
    return (form + ' (' + form + ' to ' + form + ')') % (median(values), min(values), max(values)) if len(values) > 1 else form % values[0]


# ---- inside

class Space:
    """What a task has."""

    def __init__(self, work, images, group):
        self.work, self.images, self.group = work, images, group
        self.own = [at for at in (['/sys/fs/cgroup/cpuacct/' + group] if os.path.isdir('/sys/fs/cgroup/cpuacct') else ['/sys/fs/cgroup/' + group])]
        for at in self.own:
            os.makedirs(at, exist_ok=True)
            place = at if 'cpuacct' in at else at + '/own'
            os.makedirs(place, exist_ok=True)
            with open(place + '/cgroup.procs', 'w') as out:
                out.write('0')
        run('ip', 'link', 'set', 'lo', 'up')
        run('ip', 'netns', 'add', 'outside')
        run('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'up0', 'netns', 'outside')
        for inside, address in ((), HOST), (('-n', 'outside'), OUTSIDE):
            run('ip', *inside, 'addr', 'add', address + '/24', 'dev', 'up0')
            run('ip', *inside, 'link', 'set', 'up0', 'up')
        run('ip', '-n', 'outside', 'link', 'set', 'lo', 'up')
        run('ip', 'route', 'add', 'default', 'via', OUTSIDE)

    outside = '/run/netns/outside'

    def registry(self):
        log = open(self.work + '/registry.log', 'w')
        child = subprocess.Popen([os.path.join(TOOLS, 'registry.sh'), REGISTRY.split(':')[1], self.images], stdout=log, stderr=log)
        wait_for('the registry', 20, lambda: answers('http://%s/v2/' % REGISTRY))
        return child

    def meter(self, more=()):
        return Meter([*self.own, *more])


class Meter:
    """Seconds of CPU since it was made, of everything in these cgroups but this program."""

    def __init__(self, places):
        self.places = places
        self.before = self.used()

    def used(self):
        own = resource.getrusage(resource.RUSAGE_SELF)
        return sum(map(group_cpu, self.places)) - own.ru_utime - own.ru_stime

    def read(self):
        return self.used() - self.before


def machine_cpu():
    """Seconds of CPU that anything on the machine used so far."""
    user, nice, system, _, _, irq, softirq = map(int, open('/proc/stat').readline().split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS


def group_cpu(folder):
    try:
        return int(open(folder + '/cpuacct.usage').read()) / 1e9
    except OSError:
        pass
    try:
        return next(int(line.split()[1]) for line in open(folder + '/cpu.stat') if line.startswith('usage_usec')) / 1e6
    except OSError:
        return 0


def enter_network(path):
    """The calling thread sees another network from now on."""
    file = os.open(path, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(file, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), 'setns')
    finally:
        os.close(file)


def make_image(space):
    """One image for all engines: busybox, what says when it begins, and iperf3 with its libraries."""
    root, first = space.work + '/root', space.work + '/first'
    run('gcc', '-static', '-O1', '-w', '-o', first, os.path.join(os.path.dirname(TOOLS), 'fixtures', 'first.c'))
    run(os.path.join(TOOLS, 'busybox-root.sh'), root, first)
    iperf = shutil.which('iperf3')
    if iperf:
        words = run('ldd', iperf).split()
        for file in [iperf, *(word for word in words if word.startswith('/'))]:
            at = root + ('/bin/iperf3' if file == iperf else file)
            os.makedirs(os.path.dirname(at), exist_ok=True)
            shutil.copy(os.path.realpath(file), at)
    registry = space.registry()
    run(os.path.join(TOOLS, 'push-image.sh'), REGISTRY, 'bench/networks', 'latest', root, '{"Env":["PATH=/bin"]}')
    registry.kill()


def main():
    call = json.loads(sys.argv[1])
    module, name = call['task'].split(':')
    sys.path.insert(0, HERE)
    try:
        space = Space(call['work'], call['images'], call['group'])
        result = {'result': getattr(__import__(module), name)(space, **call['more'])}
    except Failed as error:
        result = {'failed': str(error)}
    except subprocess.CalledProcessError as error:
        result = {'failed': '%s: %s' % (' '.join(map(str, error.cmd))[:120], (error.stderr or '').strip()[-300:])}
    except FileNotFoundError as error:
        result = {'failed': str(error)}
    with open(call['out'], 'w') as out:
        json.dump(result, out)


if __name__ == '__main__':
    main()
