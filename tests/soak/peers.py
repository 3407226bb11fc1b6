"""Peers of start.py: each runs one container that says when it began, with no network, and can be asked again.

`once` gives the seconds to the first instruction. Runc and crun get the very configuration that Longshore gives to an external runtime
(same mounts, masks, cgroups, capabilities and seccomp profile), so that all do the same work. The floor is a program of our own that makes
the same kernel objects and nothing else.
"""
import ctypes, json, os, re, shutil, subprocess, time

from lab import pss_kb, run, wait_for

LINE = re.compile(r'first (\d+)')
CLONE_NEWNS = 0x20000


def began(out):
    return int(LINE.search(out).group(1)) / 1e9


class Runtime:
    """runc or crun, on a bundle that is ready."""

    def __init__(self, lab, program, bundle):
        self.program, self.root, self.bundle, self.rounds = program, lab.path(program), bundle, 0
        run(program, '--version')
        self.once()

    def enter(self):
        pass

    def once(self):
        self.rounds += 1
        begun = time.monotonic()
        name = 'soak-%d-%d' % (os.getpid(), self.rounds)
        return began(run(self.program, '--root', self.root, 'run', '-b', self.bundle, name, preexec_fn=self.enter)) - begun

    def end(self):
        shutil.rmtree(self.root, ignore_errors=True)


class Crun(Runtime):
    """It refuses a machine that has both versions of cgroups; here it sees v1 alone, in a mount namespace of its own."""

    def __init__(self, lab, bundle):
        self.holder = subprocess.Popen(['unshare', '--mount', 'sh', '-c', 'umount /sys/fs/cgroup/unified 2>/dev/null; echo ready; exec sleep 100000'],
                                       stdout=subprocess.PIPE)
        self.holder.stdout.readline()
        self.namespace = os.open('/proc/%d/ns/mnt' % self.holder.pid, os.O_RDONLY)
        super().__init__(lab, 'crun', bundle)

    def enter(self):
        if ctypes.CDLL(None, use_errno=True).setns(self.namespace, CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), 'setns')

    def end(self):
        super().end()
        self.holder.kill()
        self.holder.wait()


class Floor:
    def __init__(self, lab, root):
        self.program, self.lower, self.scratch, self.rounds = lab.program('floor.c'), root, lab.path('floor'), 0
        # `lab.program` names the folder of the program; the scratch must be another one.
        self.scratch += '.d'
        for name in ('upper', 'work', 'root'):
            os.makedirs(os.path.join(self.scratch, name))

    def once(self):
        self.rounds += 1
        begun = time.monotonic()
        return began(run(self.program, self.lower, self.scratch, 'soak-floor-%d-%d' % (os.getpid(), self.rounds), '/bin/first')) - begun

    def end(self):
        pass


class Podman:
    def __init__(self, lab, root):
        self.dir = lab.path('podman')
        os.makedirs(self.dir)
        conf = self.dir + '/containers.conf'
        with open(conf, 'w') as out:
            # Its own defaults ask for more open files than a machine may allow.
            out.write('[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]\nlog_driver = "k8s-file"\n'
                      '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"\ntmp_dir = "%s/tmp"\n' % self.dir)
        self.environment = {**os.environ, 'CONTAINERS_CONF': conf}
        self.words = ['podman', '--root', self.dir + '/root', '--runroot', self.dir + '/run', '--storage-driver', 'overlay']
        tar = self.dir + '/root.tar'
        run('tar', '-C', root, '-cf', tar, '.')
        self.call('import', tar, 'soak/first:latest')

    def call(self, *args):
        return run(*self.words, *args, env=self.environment)

    def once(self):
        begun = time.monotonic()
        out = self.call('run', '--rm', '--network', 'none', 'soak/first:latest', '/bin/first')
        return began(out) - begun

    def monitors(self, count):
        """PSS of each conmon."""
        try:
            for _ in range(count):
                self.call('run', '-d', '--network', 'none', 'soak/first:latest', '/bin/first', 'stay')
            found = []
            for pid in filter(str.isdigit, os.listdir('/proc')):
                try:
                    if open('/proc/%s/comm' % pid).read() == 'conmon\n' and self.dir in open('/proc/%s/cmdline' % pid).read():
                        found.append(pss_kb(int(pid)))
                except OSError:
                    continue
            return found
        finally:
            self.end()

    def end(self):
        subprocess.run(self.words + ['rm', '-a', '-f', '-t', '0'], env=self.environment, capture_output=True)
        for mount in sorted((l.split()[4] for l in open('/proc/self/mountinfo') if self.dir in l.split()[4]), key=len, reverse=True):
            subprocess.run(['umount', '-l', mount])


def bundle(lab, image, root):
    """What Longshore hands to an external runtime, as a bundle that can be used again and again."""
    config, out = lab.path('runc.json'), lab.path('bundle.d')
    with open(config, 'w') as file:
        json.dump({'runtime': shutil.which('runc') or '/usr/sbin/runc'}, file)
    daemon = lab.daemon('bundle', arguments=['--config', config])
    daemon.start().ready()
    daemon.put('b.yaml', 'services: {first: {image: "%s", network_mode: none, restart: "no", command: [first, stay]}}\n' % image)
    wait_for('a container of runc', 30, daemon.pids)
    (made,) = os.listdir(daemon.run + '/c')
    spec = json.load(open('%s/c/%s/bundle/config.json' % (daemon.run, made)))
    os.makedirs(out)
    for mount in spec['mounts']:
        if mount['source'].startswith(daemon.data):
            kept = os.path.join(out, os.path.basename(mount['destination']))
            shutil.copy(mount['source'], kept)
            mount['source'] = kept
    spec['root'] = {'path': root, 'readonly': True}
    spec['process']['args'] = ['/bin/first']
    # The shim makes the network namespace itself.
    spec['linux']['namespaces'].append({'type': 'network'})
    spec['linux']['cgroupsPath'] = '/soak-peer-%d' % os.getpid()
    with open(out + '/config.json', 'w') as file:
        json.dump(spec, file)
    daemon.remove('b.yaml')
    wait_for('it is gone', 20, lambda: not daemon.containers() and daemon.settled())
    daemon.terminate()
    return out
