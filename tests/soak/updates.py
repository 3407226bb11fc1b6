#!/usr/bin/env python3
"""updates.py - what visitors see of an update: a web service is asked without pause while it is replaced.

  updates.py [--rounds N] [--rows NAMES] [--peers docker-compose,podman] [--clients N]

All of it runs in a network namespace of its own, with a second one that plays the outside world:

    outside 192.0.2.2 ──── up0 192.0.2.1 (the host: daemon, containers, registry)

Half of the clients ask from outside, half from the host, each request by a new connection, one after the other. A request counts as failed
if it is refused, reset, cut, not answered within 10 s, or answered by anything but a whole page of a version that is asked for. The service
(tests/fixtures/serve.c) takes 5 ms for a page, listens 300 ms after its start, and ends as one should: it finishes what is under way.

Rows: `plain` (Compose's way: stop, then start; here failures are expected, they show that the clients count), `start-first`, `hold`
(stop-first with hold_port), `back` (start-first to a version that ends at once, then what its failure_action does), each of the last three
also with `-kill` (the daemon is killed by SIGKILL again and again meanwhile and started again) and the first two with `-carried` (by a
daemon with `expose-default: host-firewall`, whose ports are carried by processes), `interfaces` (start-first while an
interface goes down and up and addresses come and go). Ends with 1 if a row with promised updates failed a request.
"""
import argparse, collections, ctypes, json, os, random, shutil, socket, subprocess, sys, threading, time

sys.dont_write_bytecode = True
from lab import LONGSHORE, Failed, Lab, close_with, run, say, wait_for

HOST, OUTSIDE, PORT, LIMIT = '192.0.2.1', '192.0.2.2', 8080, 10
CLONE_NEWNET = 0x40000000
PAGE = ''.join('0123456789abcdef'[i % 16] for i in range(8192))
PROMISED = ('start-first', 'hold', 'back', 'start-first-kill', 'hold-kill', 'back-kill', 'start-first-carried', 'hold-carried', 'interfaces')
ROWS = ('plain', *PROMISED)


class Client(threading.Thread):
    """Asks until it is told to stop, one new connection after the other."""

    def __init__(self, load, address, namespace):
        super().__init__(daemon=True)
        self.load, self.address, self.namespace = load, address, namespace
        self.start()

    def run(self):
        if self.namespace is not None and ctypes.CDLL(None, use_errno=True).setns(self.namespace, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), 'setns')
        while not self.load.stopping:
            begun = time.monotonic()
            try:
                mark = self.ask()
                failure = None if mark in self.load.marks else 'wrong page'
            except (ConnectionError, OSError, ValueError) as error:
                mark, failure = None, type(error).__name__
            self.load.note(mark, failure, time.monotonic() - begun)

    def ask(self):
        """The first line of the page, which was whole."""
        with socket.create_connection((self.address, PORT), LIMIT) as one:
            one.sendall(b'GET / HTTP/1.0\r\nHost: web\r\n\r\n')
            got = b''
            while part := one.recv(65536):
                got += part
        head, found, body = got.decode().partition('\r\n\r\n')
        mark, _, rest = body.partition('\n')
        if not found or not head.startswith('HTTP/1.0 200 ') or rest != PAGE:
            raise ValueError('half a page')
        return mark


class Load:
    """What came of all requests since it began."""

    def __init__(self, clients, outside):
        self.stopping, self.marks, self.lock = False, set(), threading.Lock()
        self.requests, self.slowest, self.failures, self.answered = 0, 0.0, collections.Counter(), collections.Counter()
        self.clients, self.outside = clients, outside

    def begin(self):
        local = ('127.0.0.1', HOST)
        self.threads = [Client(self, HOST, self.outside) if n % 2 else Client(self, local[n // 2 % 2], None) for n in range(self.clients)]

    def note(self, mark, failure, took):
        with self.lock:
            self.requests += 1
            self.slowest = max(self.slowest, took)
            if failure:
                self.failures[failure] += 1
            else:
                self.answered[mark] += 1
        if failure:
            # Who is refused at once must not count a thousand times a second.
            time.sleep(0.01)

    def answers(self, mark, more=50):
        """Waits until the version has answered so often."""
        before = self.answered[mark]
        wait_for('%s answers' % mark, 60, lambda: self.answered[mark] >= before + more)

    def end(self):
        self.stopping = True
        for thread in self.threads:
            thread.join()
        return {'requests': self.requests, 'failed': sum(self.failures.values()), 'how': dict(self.failures), 'slowest': self.slowest}


def service(image, mark, order=None, hold=False, bad=False):
    """A state file; JSON is YAML, too."""
    one = {'image': image, 'command': ['false'] if bad else ['serve', '80', mark, '300', '5'], 'ports': ['%d:80' % PORT], 'restart': 'always'}
    if order:
        one['deploy'] = {'update_config': {'order': order, 'failure_action': 'rollback', 'monitor': '2s'}}
        one['x-longshore'] = {'hold_port': hold, 'probe': {'http': {'port': 80, 'path': '/'}}}
        one['healthcheck'] = {'interval': '200ms', 'timeout': '2s', 'retries': 3, 'start_period': '5s', 'start_interval': '100ms'}
    return json.dumps({'services': {'web': one}})


class Killer(threading.Thread):
    """Kills the daemon again and again, and starts it again at once."""

    def __init__(self, daemon):
        super().__init__(daemon=True)
        self.host, self.stopping, self.kills, self.error = daemon, False, 0, None
        self.start()

    def run(self):
        try:
            while not self.stopping:
                time.sleep(random.uniform(0.05, 0.9))
                self.host.kill()
                self.kills += 1
                self.host.start().ready()
        except Failed as error:
            self.error = error

    def end(self):
        self.stopping = True
        self.join()
        if self.error:
            raise self.error


class Shaker(threading.Thread):
    """An interface of the host goes down and up, and addresses come and go: on another one, and on the one that is asked."""

    def __init__(self):
        super().__init__(daemon=True)
        self.stopping = False
        run('ip', 'link', 'add', 'shake0', 'type', 'veth', 'peer', 'name', 'shake1')
        self.start()

    def run(self):
        while not self.stopping:
            for words in ('link set shake0 up', 'link set shake1 up', 'addr add 198.51.100.1/24 dev shake0', 'addr add 192.0.2.77/24 dev up0',
                          'addr add 2001:db8:7::1/64 dev shake0 nodad', 'addr del 198.51.100.1/24 dev shake0', 'addr del 192.0.2.77/24 dev up0', 'link set shake0 down'):
                subprocess.run(['ip', *words.split()], capture_output=True)
                time.sleep(0.05)

    def end(self):
        self.stopping = True
        self.join()
        run('ip', 'link', 'del', 'shake0')


def longshore(row, rounds, image, daemon, load):
    kind = row.removesuffix('-kill').removesuffix('-carried')
    order = {'plain': None, 'hold': 'stop-first'}.get(kind, 'start-first')
    text = lambda mark, bad=False: service(image, mark, order, kind == 'hold', bad)
    load.marks = {'v%d' % n for n in range(rounds + 1)}
    daemon.put('shop.yaml', text('v0'))
    wait_for('the service answers', 60, lambda: asked('v0'))
    daemon.settle()
    load.begin()
    load.answers('v0')
    busy = Killer(daemon) if row.endswith('-kill') else Shaker() if row == 'interfaces' else None
    try:
        for n in range(1, rounds + 1):
            if kind == 'back':
                daemon.put('shop.yaml', text('v0', bad=True))
                # It goes back by itself, or the old one runs on: either way the page stays. Longer than it is watched.
                time.sleep(4)
                load.answers('v0')
                daemon.put('shop.yaml', text('v0'))
                load.answers('v0')
            else:
                daemon.put('shop.yaml', text('v%d' % n))
                load.answers('v%d' % n)
                # Both have the same name: they are told apart by what is on disk.
                wait_for('the old one is gone', 60, lambda: len(daemon.specs()) == 1)
    finally:
        if busy:
            busy.end()
    daemon.settle()
    found = load.end()
    daemon.remove('shop.yaml')
    wait_for('all is gone', 60, lambda: not daemon.containers() and daemon.settled())
    return found, getattr(busy, 'kills', 0)


def asked(mark):
    try:
        return Client.ask(type('One', (), {'address': '127.0.0.1'})) == mark
    except (OSError, ValueError):
        return False


class Compose:
    """docker-compose up -d, with dockerd."""
    needs = ('dockerd', 'docker-compose')

    def __init__(self, lab):
        self.dir = lab.path('docker')
        os.makedirs(self.dir)
        with open(self.dir + '/daemon.json', 'w') as out:
            out.write('{}')
        self.environment = {**os.environ, 'DOCKER_HOST': 'unix://%s/sock' % self.dir}
        log = open(self.dir + '/log', 'w')
        self.child = subprocess.Popen(
            ['dockerd', '--config-file', self.dir + '/daemon.json', '--data-root', self.dir + '/root', '--exec-root', self.dir + '/exec', '--pidfile', self.dir + '/pid',
             '-H', 'unix://%s/sock' % self.dir, '--storage-driver', 'overlay2', '--cgroup-parent', '/soak-updates-%d' % os.getpid()], stdout=log, stderr=log)
        wait_for('dockerd', 60, lambda: subprocess.run(['docker', 'version'], env=self.environment, capture_output=True).returncode == 0, 0.2)

    def serve(self, image, mark):
        with open(self.dir + '/docker-compose.yml', 'w') as out:
            json.dump({'version': '3', **json.loads(service(image, mark))}, out)
        run('docker-compose', '-p', 'soak', '-f', self.dir + '/docker-compose.yml', 'up', '-d', env=self.environment)

    def end(self):
        subprocess.run(['docker-compose', '-p', 'soak', '-f', self.dir + '/docker-compose.yml', 'down', '-t', '0'], env=self.environment, capture_output=True)
        self.child.terminate()
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            self.child.kill()
        for mount in sorted((l.split()[4] for l in open('/proc/self/mountinfo') if self.dir in l.split()[4]), key=len, reverse=True):
            subprocess.run(['umount', '-l', mount])


class Podman:
    """podman run --replace."""
    needs = ('podman',)

    def __init__(self, lab):
        self.dir = lab.path('podman')
        os.makedirs(self.dir)
        with open(self.dir + '/containers.conf', 'w') as out:
            # Its own defaults ask for more open files than a machine may allow.
            out.write('[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]\nlog_driver = "k8s-file"\n[engine]\ncgroup_manager = "cgroupfs"\n'
                      'events_logger = "file"\nruntime = "runc"\ntmp_dir = "%(d)s/tmp"\n[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "%(d)s/networks"\n' % {'d': self.dir})
        with open(self.dir + '/policy.json', 'w') as out:
            out.write('{"default": [{"type": "insecureAcceptAnything"}]}')
        self.environment = {**os.environ, 'CONTAINERS_CONF': self.dir + '/containers.conf'}
        self.words = ['podman', '--root', self.dir + '/root', '--runroot', self.dir + '/run', '--storage-driver', 'overlay']
        self.image = None

    def serve(self, image, mark):
        if self.image != image:
            run(*self.words, 'pull', '-q', '--tls-verify=false', '--signature-policy', self.dir + '/policy.json', image, env=self.environment)
            run(*self.words, 'network', 'create', 'soak', env=self.environment)
            self.image = image
        run(*self.words, 'run', '-d', '--replace', '--pull', 'never', '--name', 'web', '--network', 'soak', '-p', '%d:80' % PORT, image, 'serve', '80', mark, '300', '5', env=self.environment)

    def end(self):
        subprocess.run(self.words + ['rm', '-a', '-f', '-t', '0'], env=self.environment, capture_output=True)
        for mount in sorted((l.split()[4] for l in open('/proc/self/mountinfo') if self.dir in l.split()[4]), key=len, reverse=True):
            subprocess.run(['umount', '-l', mount])


PEERS = {'docker-compose': Compose, 'podman': Podman}


def peer(name, rounds, image, lab, load):
    engine = PEERS[name](lab)
    try:
        load.marks = {'v%d' % n for n in range(rounds + 1)}
        engine.serve(image, 'v0')
        wait_for('the service answers', 30, lambda: asked('v0'))
        load.begin()
        load.answers('v0')
        for n in range(1, rounds + 1):
            engine.serve(image, 'v%d' % n)
            load.answers('v%d' % n)
        return load.end(), 0
    finally:
        load.stopping = True
        engine.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--clients', type=int, default=10)
    parser.add_argument('--rows', default=','.join(ROWS))
    parser.add_argument('--peers', default=','.join(PEERS))
    args = parser.parse_args()
    if os.environ.get('SOAK_INSIDE') != '1':
        # Interfaces, rules and ports of its own; all of it is gone when the last process in it is.
        os.execvpe('unshare', ['unshare', '--net', '--mount', sys.executable, os.path.abspath(__file__), *sys.argv[1:]], {**os.environ, 'SOAK_INSIDE': '1'})
    outside = subprocess.Popen(['unshare', '--net', 'sh', '-c', 'echo ready; exec sleep 100000'], stdout=subprocess.PIPE)
    failures = []
    try:
        outside.stdout.readline()
        namespace = os.open('/proc/%d/ns/net' % outside.pid, os.O_RDONLY)
        there = ['nsenter', '--net=/proc/%d/ns/net' % outside.pid, 'ip']
        for words in ('ip link set lo up', 'ip link add up0 type veth peer name up1 netns %d' % outside.pid, 'ip addr add %s/24 dev up0' % HOST, 'ip link set up0 up'):
            run(*words.split())
        run(*there, 'addr', 'add', OUTSIDE + '/24', 'dev', 'up1'), run(*there, 'link', 'set', 'up1', 'up')
        with Lab() as lab:
            image = lab.image('soak/updates', programs=('serve.c',))
            carrying = lab.path('carrying.json')
            with open(carrying, 'w') as out:
                json.dump({'expose-default': 'host-firewall'}, out)
            daemon, carrier = lab.daemon().start(), lab.daemon('carrier', arguments=['--config', carrying]).start()
            daemon.ready(), carrier.ready()
            say('%d clients, %d updates a row; by %s' % (args.clients, args.rounds, LONGSHORE))
            say('%-18s %9s %7s %10s  %s' % ('', 'requests', 'failed', 'slowest', 'how'))
            for row in filter(None, args.rows.split(',')):
                found, kills = longshore(row, args.rounds, image, carrier if row.endswith('-carried') else daemon, Load(args.clients, namespace))
                told(row, found, ', %d kills' % kills if kills else '')
                if row in PROMISED and found['failed']:
                    failures.append('%s: %d of %d requests failed' % (row, found['failed'], found['requests']))
            for name in filter(None, args.peers.split(',')):
                missing = [program for program in PEERS[name].needs if not shutil.which(program)]
                if missing:
                    say('%s: no %s here' % (name, ', '.join(missing)))
                    continue
                try:
                    told(name, *peer(name, args.rounds, image, lab, Load(args.clients, namespace))[:1], '')
                except (Failed, OSError, subprocess.CalledProcessError) as error:
                    say('%s: %s' % (name, (getattr(error, 'stderr', None) or str(error)).strip()[-300:]))
            for one in (daemon, carrier):
                # A process that held ports ends some seconds after the last connection.
                wait_for('nobody holds ports', 30, lambda: not os.path.isdir(one.run + '/hold') or not os.listdir(one.run + '/hold'))
                left = {kind: names for kind, names in one.leftovers().items() if names}
                if left:
                    failures.append('left over: %s' % json.dumps(left))
    finally:
        outside.kill()
        outside.wait()
    close_with(failures, 'updates')


def told(row, found, more):
    how = ', '.join('%d %s' % (count, what) for what, count in sorted(found['how'].items()))
    say('%-18s %9d %7d %7.0f ms  %s%s' % (row, found['requests'], found['failed'], found['slowest'] * 1000, how, more))


if __name__ == '__main__':
    main()
