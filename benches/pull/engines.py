"""The engines of the pull benchmark. Each has its folders on the file system that it is given, a start, one pull and an end.

`pull` gives (seconds, seconds of CPU, peak KiB of the daemon's processes, peak KiB of the client, which does the work with some).
A missing one, and one that cannot have an image, says so by `Absent`.
"""
import concurrent.futures, json, os, resource, shutil, subprocess, sys, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), 'tests', 'soak'))
from lab import LONGSHORE, Daemon, wait_for

TICKS = os.sysconf('SC_CLK_TCK')
LIMIT = 600


class Absent(Exception):
    """There is no such engine here, or it cannot do this."""


def tree(pid):
    """A process and what it started."""
    children = {}
    for name in filter(str.isdigit, os.listdir('/proc')):
        try:
            parent = open('/proc/%s/stat' % name).read().rsplit(')', 1)[1].split()[1]
            children.setdefault(int(parent), []).append(int(name))
        except OSError:
            continue
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def cpu_seconds(pids):
    """What they and their ended children used."""
    total = 0
    for pid in pids:
        try:
            total += sum(map(int, open('/proc/%d/stat' % pid).read().rsplit(')', 1)[1].split()[11:15]))
        except OSError:
            continue
    return total / TICKS


def peak_kib(pids):
    total = 0
    for pid in pids:
        try:
            total += next(int(line.split()[1]) for line in open('/proc/%d/status' % pid) if line.startswith('VmHWM'))
        except (OSError, StopIteration):
            continue
    return total


def client(command, log):
    """Runs it to its end: seconds, seconds of CPU, peak KiB."""
    with open(log, 'ab') as out:
        begun = time.monotonic()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = status
    seconds = time.monotonic() - begun
    if status != 0:
        raise Absent(open(log, errors='replace').read().strip().splitlines()[-1][-120:])
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss


class Engine:
    name, needs = '', ()

    def __init__(self, dir):
        """Starts it with its folders in `dir`."""
        for program in self.needs:
            if not shutil.which(program):
                raise Absent('no %s here' % program)
        self.dir, self.child, self.log = dir, None, dir + '/log'
        self.start()

    def start(self):
        pass

    def daemon(self, command, ready):
        with open(self.dir + '/daemon.log', 'wb') as out:
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)

        def ask():
            if self.child.poll() is not None:
                raise Absent(open(self.dir + '/daemon.log', errors='replace').read().strip().splitlines()[-1][-120:])
            return subprocess.run(ready, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0
        wait_for('%s answers' % self.name, 60, ask, 0.1)

    def pull(self, address, name, kind):
        before = cpu_seconds(tree(self.child.pid)) if self.child else 0
        seconds, cpu, own = client(self.command('%s/%s:oci-%s' % (address, name, kind)), self.log)
        if self.child:
            cpu += cpu_seconds(tree(self.child.pid)) - before
        return seconds, cpu, peak_kib(tree(self.child.pid)) if self.child else 0, own

    def end(self):
        if self.child:
            self.child.terminate()
            try:
                self.child.wait(20)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class Longshore(Engine):
    name = 'longshore'

    def start(self):
        self.host = Daemon(self.dir + '/ls')
        self.host.start().ready()
        self.child = self.host.child

    def command(self, image):
        return [LONGSHORE, '--socket', self.host.socket, 'image', 'pull', image]

    def end(self):
        self.host.destroy()


class Containerd(Engine):
    name, needs = 'containerd', ('containerd', 'ctr')

    def start(self):
        with open(self.dir + '/config.toml', 'w') as out:
            out.write('version = 2\nroot = "%(d)s/root"\nstate = "%(d)s/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "%(d)s/sock"\n' % {'d': self.dir})
        self.ctr = ['ctr', '--address', self.dir + '/sock', '--namespace', 'bench']
        self.daemon(['containerd', '--config', self.dir + '/config.toml'], self.ctr + ['version'])

    def command(self, image):
        return self.ctr + ['images', 'pull', '--plain-http', image]


class Podman(Engine):
    name, needs = 'podman', ('podman',)

    def start(self):
        with open(self.dir + '/policy.json', 'w') as out:
            out.write('{"default": [{"type": "insecureAcceptAnything"}]}')

    def command(self, image):
        return ['podman', '--root', self.dir + '/root', '--runroot', self.dir + '/run', '--tmpdir', self.dir + '/tmp', '--storage-driver', 'overlay', '--cgroup-manager', 'cgroupfs',
                '--events-backend', 'none', 'pull', '-q', '--tls-verify=false', '--signature-policy', self.dir + '/policy.json', image]


class Docker(Engine):
    name, needs = 'docker', ('dockerd', 'docker', 'containerd')

    def start(self):
        if os.path.exists('/sys/class/net/docker0'):
            raise Absent('a dockerd of this machine has its bridge in this network')
        with open(self.dir + '/daemon.json', 'w') as out:
            out.write('{}')
        self.docker = ['docker', '-H', 'unix://%s/sock' % self.dir]
        self.daemon(['dockerd', '--config-file', self.dir + '/daemon.json', '--data-root', self.dir + '/root', '--exec-root', self.dir + '/exec', '--pidfile', self.dir + '/pid',
                     '-H', 'unix://%s/sock' % self.dir, '--storage-driver', 'overlay2', '--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-forward=false'],
                    self.docker + ['version'])

    def command(self, image):
        return self.docker + ['pull', '-q', image]


class Floor(Engine):
    """curl, sha256sum, gzip or zstd, and tar; two layers at a time, each into a folder of its own."""
    name, needs = 'pipeline', ('curl', 'zstd')
    SCRIPT = 'set -e; mkdir "$2"; mkfifo "$2.pipe"; sha256sum < "$2.pipe" > "$2.sum" & curl -fsS "$1" | tee "$2.pipe" | $3 -dc | tar -x -p --numeric-owner -C "$2"; wait; grep -q "^${4#sha256:}" "$2.sum"'

    def pull(self, address, name, kind):
        from images import layers
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        jobs = [['bash', '-c', self.SCRIPT, 'layer', url, '%s/%d' % (self.dir, number), kind, digest] for number, (url, digest, _) in enumerate(layers(address, name, kind))]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            codes = list(pool.map(lambda job: subprocess.run(job, capture_output=True).returncode, jobs))
        if any(codes):
            raise Absent('the pipeline failed')
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.monotonic() - begun, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 0, 0


ENGINES = (Longshore, Containerd, Podman, Docker, Floor)
