"""What all the long runs share: a registry on loopback, images, a daemon to kill, and a count of what is left over.

    with Lab() as lab:
        image = lab.small_image()
        daemon = lab.daemon().start()

Leaving the block ends everything that the run began, also after a failure. Standard library only; needs root.
"""
import glob, gzip, hashlib, http.client, io, json, os, shutil, signal, socket, subprocess, sys, tarfile, tempfile, time, urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOLS = os.path.join(ROOT, 'tests', 'tools')
FIXTURES = os.path.join(ROOT, 'tests', 'fixtures')
LONGSHORE = os.path.abspath(os.environ.get('LONGSHORE', os.path.join(ROOT, 'target', 'release', 'longshore')))
# Containers that print a number ten times a second: TICK % (image, how many).
TICK = 'services:\n  tick:\n    image: %s\n    network_mode: none\n    restart: always\n    scale: %d\n    command: [work, tick, "100"]\n'


class Failed(Exception):
    """A value that was waited for did not come."""


def run(*args, **more):
    return subprocess.run(args, check=True, capture_output=True, text=True, **more).stdout.strip()


def wait_for(what, seconds, ask, pause=0.02):
    """Asks until the answer is true and gives it back."""
    until = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > until:
            raise Failed('waited %g s in vain for: %s' % (seconds, what))
        time.sleep(pause)


def median(values):
    values = sorted(values)
    return values[len(values) // 2] if values else float('nan')


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def say(*words):
    print(*words, flush=True)


def terminated(signum, frame):
    sys.exit(128 + signum)


class Lab:
    """A scratch folder with everything in it."""

    def __init__(self, where='/var/tmp'):
        if os.geteuid() != 0:
            sys.exit('this makes containers and needs root')
        if not os.path.exists(LONGSHORE):
            sys.exit('there is no %s: build it, or name one in LONGSHORE' % LONGSHORE)
        signal.signal(signal.SIGTERM, terminated)
        signal.signal(signal.SIGHUP, terminated)
        self.dir = tempfile.mkdtemp(prefix='longshore-soak.', dir=where)
        self.daemons, self.children, self.address = [], [], None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        try:
            for daemon in self.daemons:
                try:
                    if kind is not None and kind is not SystemExit:
                        say('--- the last lines of the daemon\'s log'), say(daemon.log_text()[-3000:])
                finally:
                    # Also where nobody reads any more what is said.
                    daemon.destroy()
        finally:
            for child in self.children:
                child.kill()
                child.wait()
            shutil.rmtree(self.dir, ignore_errors=True)
        if kind is Failed:
            say('FAILED:', error)
            sys.exit(1)

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def program(self, source):
        """Compiles a static program of tests/fixtures."""
        out = self.path(os.path.splitext(source)[0])
        if not os.path.exists(out):
            run('gcc', '-static', '-O1', '-w', '-o', out, os.path.join(FIXTURES, source))
        return out

    def registry(self):
        """Starts Debian's docker-registry once; gives HOST:PORT."""
        if self.address is None:
            port = free_port()
            log = open(self.path('registry.log'), 'w')
            self.children.append(subprocess.Popen(
                [os.path.join(TOOLS, 'registry.sh'), str(port), self.path('registry')], stdout=log, stderr=log))
            self.address = '127.0.0.1:%d' % port
            wait_for('the registry', 20, lambda: answers('http://%s/v2/' % self.address))
        return self.address

    def stop_registry(self):
        child = self.children.pop(0)
        child.kill()
        child.wait()

    def image(self, name, programs=('work.c',), tag='latest', marker='', config='{}'):
        """A small image with busybox and the programs; gives its reference."""
        root = self.path('root-%s-%s' % (name.replace('/', '-'), tag))
        run(os.path.join(TOOLS, 'busybox-root.sh'), root, *[self.program(p) for p in programs])
        with open(os.path.join(root, 'etc', 'tag'), 'w') as out:
            out.write(marker)
        return run(os.path.join(TOOLS, 'push-image.sh'), self.registry(), name, tag, root, config)

    def large_image(self, name, tag, mib, programs, marker):
        """An image of one plain layer with `mib` MiB that cannot be compressed, so that its pull takes a while."""
        layer = self.path('layer.tar')
        with tarfile.open(layer, 'w') as tar:
            def put(path, data, mode=0o755):
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode, entry.mtime = len(data), mode, 1700000000
                tar.addfile(entry, io.BytesIO(data))
            for program in programs:
                put('bin/' + os.path.splitext(program)[0], open(self.program(program), 'rb').read())
            put('etc/tag', marker.encode(), 0o644)
            for i in range(mib // 4):
                put('data/%04d' % i, os.urandom(4 << 20), 0o644)
        blob = open(layer, 'rb').read()
        os.unlink(layer)
        digest = self.push_blob(name, blob)
        self.push_manifest(name, tag, [digest], [{'mediaType': 'application/vnd.oci.image.layer.v1.tar', 'digest': digest, 'size': len(blob)}])
        return '%s/%s:%s' % (self.registry(), name, tag)

    def layered_image(self, name, sizes, tag='latest'):
        """An image of busybox and a gzip layer for each of `sizes` (MiB, hardly compressible). Gives its reference, what
        `cd /data; find . -type f | sort | xargs cat | sha256sum` says in it, and the bytes of all its layers."""
        root = self.path('root-' + name.replace('/', '-'))
        run(os.path.join(TOOLS, 'busybox-root.sh'), root)
        layers, total, sum = [], 0, hashlib.sha256()
        for number, mib in enumerate((0, *sizes)):
            raw = io.BytesIO()
            with tarfile.open(fileobj=raw, mode='w') as tar:
                if number == 0:
                    tar.add(root, '.')
                for i in range(mib):
                    entry, data = tarfile.TarInfo('data/%02d-%03d' % (number, i)), os.urandom(1 << 20)
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
                    sum.update(data)
            packed = gzip.compress(raw.getvalue(), 1)
            total += len(packed)
            layers.append(('sha256:' + hashlib.sha256(raw.getvalue()).hexdigest(), self.push_blob(name, packed), len(packed)))
        self.push_manifest(name, tag, [diff for diff, _, _ in layers],
                           [{'mediaType': 'application/vnd.oci.image.layer.v1.tar+gzip', 'digest': digest, 'size': size} for _, digest, size in layers])
        return '%s/%s:%s' % (self.registry(), name, tag), sum.hexdigest(), total

    def image_of(self, name, root, tag='latest', config=None):
        """An image of one plain layer: a folder as it is, with its owners. Gives its reference."""
        layer = self.path('layer.tar')
        with tarfile.open(layer, 'w') as tar:
            tar.add(root, '.')
        blob = open(layer, 'rb').read()
        os.unlink(layer)
        digest = self.push_blob(name, blob)
        self.push_manifest(name, tag, [digest], [{'mediaType': 'application/vnd.oci.image.layer.v1.tar', 'digest': digest, 'size': len(blob)}], config)
        return '%s/%s:%s' % (self.registry(), name, tag)

    def push_manifest(self, name, tag, diff_ids, layers, config=None):
        config = json.dumps({'architecture': 'amd64' if os.uname().machine == 'x86_64' else 'arm64', 'os': 'linux',
                             'config': config or {'Env': ['PATH=/bin']}, 'rootfs': {'type': 'layers', 'diff_ids': diff_ids}}).encode()
        manifest = {'schemaVersion': 2, 'mediaType': 'application/vnd.oci.image.manifest.v1+json',
                    'config': {'mediaType': 'application/vnd.oci.image.config.v1+json', 'digest': self.push_blob(name, config), 'size': len(config)},
                    'layers': layers}
        self.http('PUT', '/v2/%s/manifests/%s' % (name, tag), json.dumps(manifest).encode(), manifest['mediaType'])

    def push_blob(self, name, data):
        digest = 'sha256:' + hashlib.sha256(data).hexdigest()
        at = self.http('POST', '/v2/%s/blobs/uploads/' % name, b'')['Location']
        at = at[at.index('/v2/'):]
        self.http('PUT', at + ('&' if '?' in at else '?') + 'digest=' + digest, data, 'application/octet-stream')
        return digest

    def http(self, method, path, body, kind=''):
        host = self.registry()
        connection = http.client.HTTPConnection(host, timeout=120)
        connection.request(method, path, body, {'Content-Type': kind} if kind else {})
        response = connection.getresponse()
        if response.status >= 300:
            raise Failed('%s %s: %d %s' % (method, path, response.status, response.read()[:200]))
        response.read()
        return response.headers

    def daemon(self, name='one', **more):
        daemon = Daemon(self.path(name), **more)
        self.daemons.append(daemon)
        return daemon


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=2).status == 200
    except OSError:
        return False


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__('longshore', timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    """A daemon with folders of its own, that can be killed and started again."""

    def __init__(self, dir, arguments=()):
        self.dir, self.arguments, self.child = dir, list(arguments), None
        self.state, self.data, self.run = (os.path.join(dir, part) for part in ('state', 'data', 'run'))
        self.socket, self.log = os.path.join(self.run, 'longshore.sock'), os.path.join(dir, 'log')
        os.makedirs(self.state, exist_ok=True)

    # ---- its life

    def start(self):
        log = open(self.log, 'a')
        self.started = time.monotonic()
        self.child = subprocess.Popen(
            [LONGSHORE, 'daemon', '--state-dir', self.state, '--data-dir', self.data, '--run-dir', self.run, *self.arguments],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        return self

    def ready(self, seconds=30):
        """Waits until /healthz says ready; gives the seconds since the daemon's exec."""
        def ask():
            if self.child.poll() is not None:
                raise Failed('the daemon ended with %s' % self.child.returncode)
            return self.get('/healthz')[0] == 200
        wait_for('the daemon is ready', seconds, ask, 0.001)
        return time.monotonic() - self.started

    def kill(self):
        if self.child:
            self.child.kill()
            self.child.wait()
            self.child = None

    def terminate(self):
        self.child.terminate()
        code = self.child.wait(20)
        self.child = None
        return code

    def destroy(self):
        """Ends the daemon and, by force, everything that it made."""
        self.kill()
        for _ in range(50):
            pids = self.processes()
            for pid, _ in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            for folder in sorted(self.cgroups(), key=len, reverse=True):
                try:
                    os.rmdir(folder)
                except OSError:
                    pass
            if not pids and not self.cgroups():
                break
            time.sleep(0.05)
        for parent in glob.glob('/sys/fs/cgroup/*/longshore/' + self.instance()) + glob.glob('/sys/fs/cgroup/longshore/' + self.instance()):
            try:
                os.rmdir(parent)
            except OSError:
                pass
        for mount in self.mounts():
            subprocess.run(['umount', '-l', mount])

    # ---- what it says

    def get(self, path, timeout=5):
        try:
            connection = UnixConnection(self.socket, timeout)
            connection.request('GET', path)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return 0, b''

    def status(self):
        code, body = self.get('/api/v1/status')
        return json.loads(body) if code == 200 else None

    def containers(self):
        """{name: container} as the status has it."""
        status = self.status() or {'projects': []}
        return {c['name']: c for p in status['projects'] for s in p['services'] for c in s['containers']}

    def pids(self):
        """{name: pid} of what runs."""
        return {n: c['state']['pid'] for n, c in self.containers().items() if c['state']['status'] == 'running'}

    def settled(self):
        status = self.status()
        return status if status and status['ready'] and status['settled'] else None

    def settle(self, seconds=60):
        return wait_for('everything is settled', seconds, self.settled)

    def cli(self, *args):
        done = subprocess.run([LONGSHORE, *args], capture_output=True, text=True, env={**os.environ, 'LONGSHORE_SOCKET': self.socket})
        return done.returncode, done.stdout + done.stderr

    def log_text(self):
        try:
            return open(self.log, errors='replace').read()
        except FileNotFoundError:
            return ''

    # ---- its folder

    def put(self, name, text, durable=False):
        """Writes a state file as an editor should: beside, then renamed."""
        at, beside = os.path.join(self.state, name), os.path.join(self.state, '.%s.new' % name)
        with open(beside, 'w') as out:
            out.write(text)
            if durable:
                out.flush()
                os.fsync(out.fileno())
        os.rename(beside, at)
        if durable:
            sync_folder(self.state)

    def remove(self, name, durable=False):
        os.unlink(os.path.join(self.state, name))
        if durable:
            sync_folder(self.state)

    # ---- what is on the machine

    def instance(self):
        path = os.path.realpath(self.data).encode()
        return hashlib.sha256(len(path).to_bytes(8, 'big') + path).hexdigest()[:8]

    def cgroups(self):
        at = '/longshore/%s/*' % self.instance()
        return [f for f in glob.glob('/sys/fs/cgroup/*' + at) + glob.glob('/sys/fs/cgroup' + at) if os.path.isdir(f)]

    def mounts(self):
        lines = open('/proc/self/mountinfo').read().splitlines()
        return [line.split()[4] for line in lines if self.dir + '/' in line.split()[4] + '/']

    def processes(self):
        """(pid, comm) of everything of this daemon but itself: in its cgroups, holding its folders open, or named after them."""
        found = {}
        for folder in self.cgroups():
            for pid in open(folder + '/cgroup.procs').read().split() if os.path.exists(folder) else ():
                found[int(pid)] = ''
        mine = {os.getpid(), self.child.pid if self.child else 0}
        for pid in map(int, filter(str.isdigit, os.listdir('/proc'))):
            if pid in mine or pid in found:
                continue
            try:
                # Only our own kind is asked for its files: a shell that happens to stand in the folder is not ours to count.
                comm = open('/proc/%d/comm' % pid).read()
                if comm.startswith('longshore') and any(
                        os.readlink(fd).startswith(self.dir + '/') for fd in glob.glob('/proc/%d/fd/*' % pid)):
                    found[pid] = ''
            except OSError:
                pass
        for pid in list(found):
            try:
                found[pid] = open('/proc/%d/comm' % pid).read().strip()
            except OSError:
                found.pop(pid)
        return sorted(found.items())

    def specs(self):
        """{container id: its record} of the data folder."""
        found = {}
        for path in glob.glob(self.data + '/containers/*/container.json'):
            try:
                found[path.split('/')[-2]] = json.load(open(path))['spec']
            except (OSError, ValueError):
                pass
        return found

    def leftovers(self):
        """{kind: names} of what should not be there once nothing is wanted."""
        below = lambda *parts: sorted(os.path.join(*parts, name) for name in (os.listdir(os.path.join(*parts)) if os.path.isdir(os.path.join(*parts)) else ()))
        temporary = [os.path.join(at, name) for top in (self.data, self.run) for at, _, names in os.walk(top) if '/diff' not in at
                     for name in names if name.endswith(('.tmp', '.new', '.part')) or name.startswith(('.tmp', 'tmp'))]
        return {'mounts': self.mounts(), 'cgroups': self.cgroups(), 'processes': self.processes(),
                'containers': below(self.data, 'containers'), 'trash': below(self.data, 'trash'),
                'half pulls': below(self.data, 'images', 'ingest'), 'run folders': below(self.run, 'c'), 'temporary files': temporary,
                'half layers': half_layers(self.data)}


def half_layers(data):
    """Layers without their record, and references to layers or blobs that are not there."""
    images = os.path.join(data, 'images')
    bad = [at for at in glob.glob(images + '/layers/*') if not os.path.exists(at + '/meta.json') or not os.path.isdir(at + '/diff')]
    for ref in glob.glob(images + '/refs/*.json'):
        try:
            record = json.load(open(ref))
            for digest in (record['manifest'], record['config']):
                blob = open(os.path.join(images, 'blobs', *digest.split(':')), 'rb').read()
                if hashlib.sha256(blob).hexdigest() != digest.split(':')[1]:
                    bad.append('%s: %s is damaged' % (ref, digest))
            config = json.loads(open(os.path.join(images, 'blobs', *record['config'].split(':'))).read())
            bad += ['%s: no layer %s' % (ref, d) for d in config['rootfs']['diff_ids'] if not os.path.exists(os.path.join(images, 'layers', d.split(':')[1], 'meta.json'))]
        except (OSError, ValueError) as error:
            bad.append('%s: %s' % (ref, error))
    return bad


def sync_folder(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def start_times(pids):
    """What a pid alone does not say: that it is still the same process. What has ended meanwhile is left out."""
    found = {}
    for name, pid in pids.items():
        try:
            found[name] = (pid, open('/proc/%d/stat' % pid).read().rsplit(')', 1)[1].split()[19])
        except OSError:
            continue
    return found


def pss_kb(pid):
    for line in open('/proc/%d/smaps_rollup' % pid):
        if line.startswith('Pss:'):
            return int(line.split()[1])
    return 0


def close_with(failures, line):
    """The closing line, and the exit code."""
    say('')
    for failure in failures:
        say('FAILED:', failure)
    say(line + (': ok' if not failures else ': %d FAILED' % len(failures)))
    sys.exit(1 if failures else 0)
