"""The engines of the network benchmarks. Each is alone in a space (see space.py), has the image already, and

    many(count)        containers on one bridge network; returns when the engine says that all run
    none()             removes them; returns when the engine says so
    pair(command, ports)   two containers on one bridge network, `server` with the command and the ports, `client` that stays
    address(name), pid(name), inside(name, words)      of one of the pair: its address, its process, the command line that runs words in it
    on(network)        from now on `many` makes containers on no network (none), or on one (bridge)
    repairs            [(what it is called, a call)]: what the engine offers to put its network right, the gentlest first
"""
import concurrent.futures, glob, http.client, json, os, re, shutil, subprocess, time

from space import IMAGE, LONGSHORE, Failed, run, wait_for
from lab import Daemon, UnixConnection

AT_ONCE = 8
STAY = ['first', 'stay']
LINE = re.compile(r'first (\d+)')


class Engine:
    name, needs, cpu_places, network = '', (), (), ''

    def __init__(self, space):
        for program in self.needs:
            if not shutil.which(program):
                raise Failed('no %s here' % program)
        self.space, self.dir, self.seen = space, space.work + '/engine', {}
        os.makedirs(self.dir)
        registry = space.registry()
        try:
            self.start()
        finally:
            registry.kill()
            registry.wait()

    def all_at_once(self, call, things):
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(call, things))

    def on(self, network):
        self.network = 'none' if network == 'none' else type(self).network

    def firsts(self):
        """When each container's first instruction ran, by its output. A log is read until it tells."""
        self.seen = {log: self.seen.get(log) or next(iter(began(log)), None) for log in glob.glob(self.logs())}
        return [at for at in self.seen.values() if at]

    def many_and_when(self, count):
        """Seconds until the last first instruction, and until the engine said that all run."""
        begun = time.monotonic()
        self.many(count)
        told = time.monotonic() - begun
        wait_for('%d that began' % count, 30, lambda: len(self.firsts()) >= count)
        return max(self.firsts()) - begun, told


def began(log):
    """When a container began, each time, by its log."""
    try:
        with open(log, errors='replace') as lines:
            return [int(at) / 1e9 for at in LINE.findall(lines.read())]
    except OSError:
        return []


class Longshore(Engine):
    name, config, spread, more, top, patience = 'longshore', {}, False, {}, {}, 120

    def start(self):
        config = self.dir + '/config.json'
        with open(config, 'w') as out:
            json.dump(self.config, out)
        self.host = Daemon(self.dir + '/ls', ['--config', config])
        with open(self.space.work + '/instance', 'w') as out:
            out.write(self.host.instance())
        self.cpu_places = [at + '/longshore/' + self.host.instance() for at in ('/sys/fs/cgroup/cpuacct', '/sys/fs/cgroup')]
        self.host.start().ready()
        run(LONGSHORE, '--socket', self.host.socket, 'image', 'pull', IMAGE)

    def on(self, network):
        self.more = {**self.more, 'network_mode': 'none'} if network == 'none' else {k: v for k, v in self.more.items() if k != 'network_mode'}

    def logs(self):
        return self.host.data + '/containers/*/logs/log'

    def apply(self, services, count):
        # YAML that is also JSON.
        self.host.put('bench.json', json.dumps({'services': services}))
        pids = lambda: len(self.host.pids()) == count and self.host.settled()
        try:
            wait_for('%d containers run' % count, 120, pids)
        except Failed as error:
            raise Failed('%s; problems: %s' % (error, json.dumps((self.host.status() or {}).get('problems'))[:600]))

    def many_and_when(self, count):
        # The answer to "do all run?" is long; it is asked for when there is reason to think so.
        begun = time.monotonic()
        service = {'image': IMAGE, 'command': STAY, 'restart': 'always', **self.more}
        services = {'s%03d' % n: service for n in range(count)} if self.spread else {'s': {**service, 'scale': count}}
        self.host.put('bench.json', json.dumps({'services': services, **self.top}))
        # With very many, a look at all their logs is work.
        wait_for('%d that began' % count, self.patience, lambda: len(self.firsts()) >= count, 0.02 if count <= 100 else 0.1)
        wait_for('%d containers run' % count, self.patience, lambda: len(self.host.pids()) == count and self.host.settled())
        return max(self.firsts()) - begun, time.monotonic() - begun

    def none(self):
        self.host.remove('bench.json')
        wait_for('all are gone', 120, lambda: not self.host.containers() and self.host.settled())

    def pair(self, command, ports):
        self.apply({'server': {'image': IMAGE, 'command': command, 'ports': ports, 'stop_grace_period': '1s'},
                    'client': {'image': IMAGE, 'command': STAY}}, 2)

    def pid(self, name):
        return self.host.pids()['bench-%s-1' % name]

    def address(self, name):
        found = run('nsenter', '--net=/proc/%d/ns/net' % self.pid(name), 'ip', '-j', '-4', 'addr', 'show', 'scope', 'global')
        return json.loads(found)[0]['addr_info'][0]['local']

    def inside(self, name, words):
        return [LONGSHORE, '--socket', self.host.socket, 'exec', 'bench-%s-1' % name, *words]

    repairs = ()

    def daemon_pids(self):
        return [self.host.child.pid]

    def container_pids(self):
        """Its processes but those of the containers themselves."""
        return [pid for pid, comm in self.host.processes() if comm.startswith('longshore')]


class Services(Longshore):
    """The same number of containers, each a service of its own."""
    name, spread = 'longshore-services', True


class HostFirewall(Longshore):
    name, config = 'longshore-host-firewall', {'expose-default': 'host-firewall'}


class Podman(Engine):
    name, needs, network, runtime, more = 'podman', ('podman',), 'bench', 'crun', ()

    def start(self):
        with open(self.dir + '/containers.conf', 'w') as out:
            # Its own defaults ask for more open files than a machine may allow.
            out.write('[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]\nlog_driver = "k8s-file"\n'
                      '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "%(r)s"\ntmp_dir = "%(d)s/tmp"\n'
                      '[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "%(d)s/networks"\n' % {'d': self.dir, 'r': self.runtime})
        with open(self.dir + '/storage.conf', 'w') as out:
            # `podman container cleanup`, which conmon calls, refuses a run root of more than 50 characters: nothing would be started again.
            out.write('[storage]\ndriver = "overlay"\ngraphroot = "%s/root"\nrunroot = "/run/podman"\n' % self.dir)
        with open(self.dir + '/policy.json', 'w') as out:
            out.write('{"default": [{"type": "insecureAcceptAnything"}]}')
        os.environ.update(CONTAINERS_CONF=self.dir + '/containers.conf', CONTAINERS_STORAGE_CONF=self.dir + '/storage.conf')
        self.call('pull', '-q', '--tls-verify=false', '--signature-policy', self.dir + '/policy.json', IMAGE)
        self.call('network', 'create', self.network)

    def call(self, *words):
        return run('podman', *words)

    def run(self, name, command, *more):
        self.call('run', '-d', '--pull', 'never', '--name', name, '--network', self.network, '--cgroup-parent', '/%s/podman' % self.space.group, *more, IMAGE, *command)

    def logs(self):
        return self.dir + '/root/overlay-containers/*/userdata/ctr.log'

    def many(self, count):
        self.all_at_once(lambda n: self.run('s%d' % n, STAY, *self.more), range(count))

    def none(self):
        self.call('rm', '-a', '-f', '-t', '0')

    def pair(self, command, ports):
        self.run('server', command, *(word for port in ports for word in ('-p', port)))
        self.run('client', STAY)

    def pid(self, name):
        return int(self.call('inspect', '-f', '{{.State.Pid}}', name))

    def address(self, name):
        return self.call('inspect', '-f', '{{.NetworkSettings.Networks.%s.IPAddress}}' % self.network, name)

    def inside(self, name, words):
        return ['podman', 'exec', name, *words]

    @property
    def repairs(self):
        return [('podman network reload --all', lambda: self.call('network', 'reload', '-a')),
                ('podman restart', lambda: self.call('restart', '-t', '0', 'server', 'client'))]

    def daemon_pids(self):
        return named('aardvark-dns')

    def container_pids(self):
        return named('conmon')


class Docker(Engine):
    name, needs, network, more = 'docker', ('dockerd', 'docker', 'containerd'), 'bench', {}

    def start(self):
        with open(self.dir + '/daemon.json', 'w') as out:
            out.write('{}')
        self.socket = self.dir + '/sock'
        # Clients find it by this.
        os.environ['DOCKER_HOST'] = 'unix://' + self.socket
        self.serve()
        run('docker', 'pull', '-q', IMAGE)
        run('docker', 'network', 'create', self.network)

    def serve(self):
        with open(self.dir + '/daemon.log', 'ab') as out:
            self.child = subprocess.Popen(
                ['dockerd', '--config-file', self.dir + '/daemon.json', '--data-root', self.dir + '/root', '--exec-root', self.dir + '/exec', '--pidfile', self.dir + '/pid',
                 '-H', 'unix://' + self.socket, '--storage-driver', 'overlay2', '--cgroup-parent', '/%s/docker' % self.space.group, '--live-restore'],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        wait_for('docker answers', 60, self.answers, 0.01)

    def answers(self):
        if self.child.poll() is not None:
            raise Failed('dockerd ended: %s' % open(self.dir + '/daemon.log', errors='replace').read().strip()[-200:])
        try:
            connection = UnixConnection(self.socket, 10)
            connection.request('GET', '/_ping')
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False

    def api(self, method, path, body=None):
        connection = UnixConnection(self.socket, 120)
        connection.request(method, path, json.dumps(body) if body is not None else None, {'Content-Type': 'application/json'})
        response = connection.getresponse()
        text = response.read()
        if response.status >= 300:
            raise Failed('%s %s: %d %s' % (method, path, response.status, text[:200]))
        return json.loads(text) if text else None

    def logs(self):
        return self.dir + '/root/containers/*/*-json.log'

    def one(self, name):
        made = self.api('POST', '/containers/create?name=' + name, {'Image': IMAGE, 'Cmd': STAY, 'HostConfig': {'NetworkMode': self.network, **self.more}})
        self.api('POST', '/containers/%s/start' % made['Id'])

    def many(self, count):
        self.all_at_once(self.one, ['s%d' % n for n in range(count)])

    def none(self):
        self.all_at_once(lambda one: self.api('DELETE', '/containers/%s?force=1' % one['Id']), self.api('GET', '/containers/json?all=1'))

    def pair(self, command, ports):
        published = [word for port in ports for word in ('-p', port)]
        run('docker', 'run', '-d', '--name', 'server', '--network', self.network, *published, IMAGE, *command)
        run('docker', 'run', '-d', '--name', 'client', '--network', self.network, IMAGE, *STAY)

    def pid(self, name):
        return int(run('docker', 'inspect', '-f', '{{.State.Pid}}', name))

    def address(self, name):
        return run('docker', 'inspect', '-f', '{{.NetworkSettings.Networks.%s.IPAddress}}' % self.network, name)

    def inside(self, name, words):
        return ['docker', 'exec', name, *words]

    @property
    def repairs(self):
        return [('dockerd started again, with live-restore', self.again), ('docker restart', lambda: run('docker', 'restart', '-t', '0', 'server', 'client'))]

    def again(self):
        self.child.terminate()
        self.child.wait()
        self.serve()

    def daemon_pids(self):
        return [self.child.pid, *named('containerd')]

    def container_pids(self):
        return named('containerd-shim') + named('docker-proxy')


class Compose(Docker):
    """docker-compose in front of dockerd; it makes the network itself."""
    name, needs, network = 'docker-compose', (*Docker.needs, 'docker-compose'), 'bench_default'

    def start(self):
        self.network = 'unused'
        super().start()
        with open(self.dir + '/bench.yaml', 'w') as out:
            json.dump({'version': '2.4', 'services': {'s': {'image': IMAGE, 'command': STAY}}}, out)
        self.words = ['docker-compose', '-p', 'bench', '-f', self.dir + '/bench.yaml']

    def many(self, count):
        run(*self.words, 'up', '-d', '--scale', 's=%d' % count)

    def none(self):
        run(*self.words, 'down', '-t', '0')


def named(comm):
    """Processes by the beginning of their name; all in this space are ours."""
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            if open('/proc/%s/comm' % pid).read().strip() == comm[:15]:
                found.append(int(pid))
        except OSError:
            continue
    return found


ENGINES = {engine.name: engine for engine in (Longshore, Services, HostFirewall, Podman, Docker, Compose)}
