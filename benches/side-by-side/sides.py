"""The engines of the side-by-side benchmark: those of benches/networks, what is asked of them here besides, and those that are no engine:
runc and crun on a bundle that is ready, and the floor, which makes the same kernel objects and nothing else.

    running()          {name: pid} of what runs
    again()            the daemon is killed with -9 and started again: seconds until it knows of everything
    noisy(words, at)   one container that runs the words, sees the folder as /w, and stays
    churn()            one container more and one less, or one replaced
    asked()            {what: a call}: how somebody asks for what runs
"""
import glob, json, os, shutil, signal, subprocess, sys, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), 'networks'))
import engines
from space import IMAGE, LONGSHORE, TOOLS, Failed, run, wait_for
from engines import STAY, began, named
from lab import Lab, UnixConnection
from peers import bundle


def quietly(*words):
    """A call of a command whose answer is read and thrown away."""
    return lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def fetched(socket, path):
    """A call of an API whose whole answer is read."""
    def call():
        connection = UnixConnection(socket, 30)
        connection.request('GET', path)
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise Failed('GET %s: %d %s' % (path, response.status, body[:200]))
        connection.close()
    return call


class Longshore(engines.Longshore):
    patience = 200
    # Room for more than 250 containers on one network.
    WIDE = {'networks': {'default': {'ipam': {'config': [{'subnet': '10.200.0.0/21'}]}}}}

    def on(self, network):
        super().on(network)
        self.top = {} if network == 'none' else self.WIDE

    def drop(self, name, content):
        """Renames a file into the folder; gives when."""
        beside = self.host.state + '/.new'
        with open(beside, 'w') as out:
            out.write(content)
        begun = time.monotonic()
        os.rename(beside, os.path.join(self.host.state, name))
        return begun

    def calm(self, seconds=60):
        """The cheap question."""
        wait_for('it is settled', seconds, lambda: json.loads(self.host.get('/healthz')[1] or '{}').get('settled'))

    def running(self):
        return self.host.pids()

    def again(self):
        self.host.kill()
        return self.host.start().ready()

    def noisy(self, words, at):
        self.drop('bench.json', json.dumps({'services': {'s': {'image': IMAGE, 'command': words, 'network_mode': 'none', 'volumes': [at + ':/w']}}}))

    def churn(self):
        self.changed = getattr(self, 'changed', 0) + 1
        self.drop('churn.json', json.dumps({'services': {'c': {'image': IMAGE, 'command': STAY, 'network_mode': 'none', 'environment': {'N': str(self.changed)}}}}))
        time.sleep(0.3)

    def asked(self):
        words, socket = (LONGSHORE, '--socket', self.host.socket), self.host.socket
        return {'ps': quietly(*words, 'ps'), 'status': quietly(*words, 'status'), 'list': fetched(socket, '/api/v1/containers'), 'api status': fetched(socket, '/api/v1/status'),
                'health': fetched(socket, '/healthz')}


class Podman(engines.Podman):
    name = 'podman+crun'

    def running(self):
        lines = self.call('ps', '-q').split()
        found = self.call('inspect', '-f', '{{.Name}} {{.State.Pid}}', *lines) if lines else ''
        return {name: int(pid) for name, pid in map(str.split, found.splitlines())}

    def again(self):
        raise Failed('no daemon')

    def noisy(self, words, at):
        self.on('none')
        self.run('noisy', words, '-v', at + ':/w')

    def churn(self):
        self.call('run', '--rm', '--pull', 'never', '--network', 'none', '--cgroup-parent', '/%s/podman' % self.space.group, IMAGE, 'first')

    def asked(self):
        return {'ps': quietly('podman', 'ps')}


class PodmanRunc(Podman):
    name, runtime = 'podman+runc', 'runc'


class Docker(engines.Docker):
    def running(self):
        return {one['Names'][0]: self.api('GET', '/containers/%s/json' % one['Id'])['State']['Pid'] for one in self.api('GET', '/containers/json')}

    def again(self):
        held = len(self.api('GET', '/containers/json'))
        self.child.kill()
        self.child.wait()
        # Started sooner it takes its dying containerd for a living one, and fails after 15 s.
        wait_for('its containerd has gone', 30, lambda: not named('containerd'))
        begun = time.monotonic()
        self.serve()
        wait_for('it knows of all', 60, lambda: len(self.api('GET', '/containers/json')) == held, 0.01)
        return time.monotonic() - begun

    def noisy(self, words, at):
        made = self.api('POST', '/containers/create?name=noisy', {'Image': IMAGE, 'Cmd': words, 'HostConfig': {'NetworkMode': 'none', 'Binds': [at + ':/w']}})
        self.api('POST', '/containers/%s/start' % made['Id'])

    def churn(self):
        made = self.api('POST', '/containers/create?name=churn', {'Image': IMAGE, 'Cmd': ['first'], 'HostConfig': {'NetworkMode': 'none'}})
        self.api('POST', '/containers/%s/start' % made['Id'])
        self.api('DELETE', '/containers/%s?force=1' % made['Id'])

    def asked(self):
        return {'ps': quietly('docker', 'ps'), 'list': fetched(self.socket, '/containers/json'), 'health': fetched(self.socket, '/_ping')}


class Compose(engines.Compose):
    """docker-compose with services of their own in one file."""

    def services(self, count):
        with open(self.dir + '/bench.yaml', 'w') as out:
            json.dump({'version': '2.4', 'services': {'s%03d' % n: {'image': IMAGE, 'command': STAY} for n in range(count)}}, out)

    def up(self):
        run(*self.words, 'up', '-d')


class Bundles(engines.Engine):
    """runc or crun, each container on a bundle of its own that is ready: the configuration that Longshore gives to an external runtime. The
    root is one folder, read-only, for all: no layers are mounted."""
    network = 'none'

    def start(self):
        self.root, self.rounds, self.live = small_root(self.space, self.dir), 0, {}
        # Paths of sockets are short.
        lab = Lab('/run')
        ready = bundle(lab, IMAGE, self.root)
        for daemon in lab.daemons:
            daemon.destroy()
        with open(ready + '/config.json') as file:
            self.spec = json.load(file)
        self.spec['process']['args'] = STAY
        self.words = [self.name, '--root', self.dir + '/state']

    def on(self, network):
        if network != 'none':
            raise Failed('makes no networks')

    def logs(self):
        return self.dir + '/logs/*'

    def prepare(self, count):
        """What is there before the clock runs."""
        self.rounds += 1
        for n in range(count):
            name = 'r%d-%d' % (self.rounds, n)
            at = '%s/bundles/%s' % (self.dir, name)
            os.makedirs(at)
            self.spec['linux']['cgroupsPath'] = '/%s/%s' % (self.space.group, name)
            with open(at + '/config.json', 'w') as file:
                json.dump(self.spec, file)
            self.live[name] = at
        os.makedirs(self.dir + '/logs', exist_ok=True)

    def one(self, name):
        with open('%s/logs/%s' % (self.dir, name), 'wb') as out:
            code = subprocess.run([*self.words, 'run', '-d', '-b', self.live[name], name], stdin=subprocess.DEVNULL, stdout=out, stderr=out).returncode
        if code:
            raise Failed('%s run: %s' % (self.name, open('%s/logs/%s' % (self.dir, name)).read()[-200:]))

    def many(self, count):
        self.all_at_once(self.one, list(self.live))

    def many_and_when(self, count):
        self.prepare(count)
        return super().many_and_when(count)

    def none(self):
        self.all_at_once(lambda name: run(*self.words, 'delete', '-f', name), list(self.live))
        self.forget()

    def forget(self):
        self.live = {}
        for folder in ('logs', 'bundles'):
            shutil.rmtree('%s/%s' % (self.dir, folder), ignore_errors=True)

    def daemon_pids(self):
        return []

    container_pids = daemon_pids


class Runc(Bundles):
    name, needs = 'runc', ('runc',)


class Crun(Bundles):
    name, needs = 'crun', ('crun', 'runc')  # Longshore knows how to be configured with runc, for the bundle


class Floor(Bundles):
    """clone with all namespaces, an overlay and the other mounts, cgroups, pivot_root, a filter, exec: tests/fixtures/floor.c."""
    name, needs = 'floor', ('gcc',)

    def start(self):
        self.root, self.rounds, self.live, self.lock = small_root(self.space, self.dir), 0, {}, threading.Lock()
        self.program = Lab('/run').program('floor.c')
        # Cgroups below that of this space, so that they are found whatever happens.
        for top in glob.glob('/sys/fs/cgroup/*/') if os.path.isdir('/sys/fs/cgroup/cpuacct') else ['/sys/fs/cgroup/']:
            at = top + self.space.group
            os.makedirs(at, exist_ok=True)
            for name in ('cpuset.cpus', 'cpuset.mems'):
                if os.path.exists(at + '/' + name) and os.path.exists(top + name):
                    with open(top + name) as given, open(at + '/' + name, 'w') as out:
                        out.write(given.read())

    def prepare(self, count):
        self.rounds += 1
        for n in range(count):
            name = 'f%d-%d' % (self.rounds, n)
            for part in ('upper', 'work', 'root'):
                os.makedirs('%s/bundles/%s/%s' % (self.dir, name, part))
            self.live[name] = None
        os.makedirs(self.dir + '/logs', exist_ok=True)

    def one(self, name):
        log = '%s/logs/%s' % (self.dir, name)
        with open(log, 'wb') as out:
            child = subprocess.Popen([self.program, self.root, '%s/bundles/%s' % (self.dir, name), '%s/%s' % (self.space.group, name), '/bin/first', 'stay'],
                                     stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.live[name] = child

        def there():
            if child.poll() is not None:
                raise Failed('the floor ended: %s' % open(log).read()[-200:])
            return began(log)
        wait_for('it began', 30, there, 0.001)

    def none(self):
        inits = []
        for child in self.live.values():
            inits += open('/proc/%d/task/%d/children' % (child.pid, child.pid)).read().split()
        for pid in inits:
            os.kill(int(pid), signal.SIGKILL)
        for child in self.live.values():
            child.wait()
        self.forget()


def small_root(space, dir):
    """The files of the image, in a folder."""
    root, first = dir + '/root-of-image', dir + '/first'
    run('gcc', '-static', '-O1', '-w', '-o', first, os.path.join(os.path.dirname(TOOLS), 'fixtures', 'first.c'))
    run(os.path.join(TOOLS, 'busybox-root.sh'), root, first)
    return root


SIDES = {side.name: side for side in (Longshore, Docker, Compose, Podman, PodmanRunc, Runc, Crun, Floor)}
