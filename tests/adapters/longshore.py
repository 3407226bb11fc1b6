#!/usr/bin/env python3
"""Lets a kit of hostile images try Longshore. One verb a call:

  longshore.py pull REF            exit 0 only if the daemon took the image; else its error, exit 1
  longshore.py rootfs REF DIR      the image's root, from the unpacked layers, mounted on DIR
  longshore.py run REF [ARG...]    one container without a network: its standard output, its exit status
  longshore.py clean REF           forgets all about REF
  longshore.py alive               exit 0 if the daemon answers
  longshore.py pids                the daemon's process, for its memory
  longshore.py stop                ends the daemon and removes everything: processes, cgroups, mounts, files

The first verb starts a daemon with folders of its own. Nothing of an installed Longshore is touched. Needs root.
  LONGSHORE          the program (default: the release build)
  LONGSHORE_ADAPTER  the folder for everything (default: /tmp/longshore-adapter)
  CREDS=user:pass    the login for the registry of REF, for this call
"""
import base64, ctypes, hashlib, json, os, shutil, signal, subprocess, sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'soak'))
from lab import LONGSHORE, Daemon, Failed, wait_for

WORK = os.environ.get('LONGSHORE_ADAPTER', '/tmp/longshore-adapter')
LOGINS = os.path.join(WORK, 'logins')
# No wait is longer; the kit has limits of its own, which are shorter.
LONG = 600


class Service(Daemon):
    """The daemon that outlives the call: its process id is in a file."""

    def __init__(self):
        super().__init__(os.path.join(WORK, 'daemon'))
        self.pid_file = os.path.join(self.dir, 'pid')

    def pid(self):
        """Its process, where it runs; a process of another program that took the number does not count."""
        try:
            pid = int(open(self.pid_file).read())
            return pid if WORK.encode() in open('/proc/%d/cmdline' % pid, 'rb').read() else None
        except (OSError, ValueError):
            return None

    def answers(self):
        return self.get('/healthz')[0] == 200

    def ensure(self):
        if self.pid() is None:
            os.makedirs(LOGINS, exist_ok=True)
            child = os.fork()
            if child == 0:
                self.detach()
            os.waitpid(child, 0)
        wait_for('the daemon is ready', 30, self.answers)
        return self

    def detach(self):
        """Starts it as nobody's child: the kit ends the whole tree of a call that takes too long."""
        os.setsid()
        if os.fork() == 0:
            os.environ['DOCKER_CONFIG'] = LOGINS
            null, log = os.open(os.devnull, os.O_RDONLY), os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            for of, to in ((null, 0), (log, 1), (log, 2)):
                os.dup2(of, to)
            with open(self.pid_file, 'w') as out:
                out.write(str(os.getpid()))
            os.execv(LONGSHORE, [LONGSHORE, 'daemon', '--state-dir', self.state, '--data-dir', self.data, '--run-dir', self.run])
        os._exit(0)

    def stop(self):
        pid = self.pid()
        if pid:
            os.kill(pid, signal.SIGTERM)
            try:
                wait_for('its end', 20, lambda: self.pid() is None)
            except Failed:
                os.kill(pid, signal.SIGKILL)
        self.destroy()
        shutil.rmtree(self.dir)


def name_of(ref):
    return 't' + hashlib.sha256(ref.encode()).hexdigest()[:10]


def state_file(ref, args):
    service = {'image': ref, 'network_mode': 'none', 'restart': 'no', 'pull_policy': 'missing'}
    if args:
        service['command'] = [arg.replace('$', '$$') for arg in args]
    return json.dumps({'name': name_of(ref), 'services': {'run': service}})


def login(ref):
    """Puts the login where the daemon looks for it, or removes the last one."""
    auths = {}
    if os.environ.get('CREDS'):
        auths[ref.split('/')[0]] = {'auth': base64.b64encode(os.environ['CREDS'].encode()).decode()}
    with open(LOGINS + '/.config.json', 'w', opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
        json.dump({'auths': auths}, out)
    os.rename(LOGINS + '/.config.json', LOGINS + '/config.json')


def pull(daemon, ref):
    login(ref)
    code, said = daemon.cli('image', 'pull', ref)
    sys.stderr.write(said)
    return code


def forget(daemon, ref):
    """Removes the service of REF and waits until its container is gone."""
    try:
        daemon.remove(name_of(ref) + '.json')
    except FileNotFoundError:
        pass
    wait_for('its container is gone', 60, lambda: not any(c.startswith(name_of(ref)) for c in daemon.containers()) and daemon.settled())


def layers(daemon, ref):
    """The unpacked layers, the uppermost first, as the runtime stacks them."""
    images = daemon.data + '/images'
    with open('%s/refs/%s.json' % (images, hashlib.sha256(ref.encode()).hexdigest())) as text:
        record = json.load(text)
    with open('%s/blobs/%s' % (images, record['config'].replace(':', '/'))) as text:
        diff_ids = json.load(text)['rootfs']['diff_ids']
    found = []
    for diff_id in reversed(diff_ids):
        at = '%s/layers/%s' % (images, diff_id.split(':')[1])
        found.append(at + '/diff')
        with open(at + '/meta.json') as text:
            if json.load(text)['opaque_root']:
                break
    return found


def rootfs(daemon, ref, target):
    # Short names in one folder: the options of a mount are one page, which 127 whole paths exceed.
    short = os.path.join(WORK, 'stack')
    shutil.rmtree(short, ignore_errors=True)
    os.makedirs(short + '/bottom')  # overlayfs wants two at least
    # One layer may stand in the image twice; of such only the uppermost counts.
    stack = list(dict.fromkeys(layers(daemon, ref)))
    for number, diff in enumerate(stack):
        os.symlink(diff, '%s/%d' % (short, number))
    os.chdir(short)
    options = 'lowerdir=' + ':'.join([str(n) for n in range(len(stack))] + ['bottom'])
    libc = ctypes.CDLL(None, use_errno=True)
    read_only = 1
    if libc.mount(b'overlay', os.fsencode(os.path.abspath(target)), b'overlay', read_only, options.encode()) != 0:
        sys.exit('mount of %d layers: %s' % (len(stack), os.strerror(ctypes.get_errno())))
    with open(os.path.join(WORK, 'mounted'), 'a') as out:
        out.write(json.dumps([ref, os.path.abspath(target)]) + '\n')
    return 0


def unmount(ref=None):
    """Unmounts what `rootfs` mounted, for one image or for all."""
    path, kept = os.path.join(WORK, 'mounted'), []
    for line in open(path) if os.path.exists(path) else ():
        image, target = json.loads(line)
        if ref in (None, image):
            subprocess.run(['umount', '-l', target], capture_output=True)
        else:
            kept.append(line)
    with open(path, 'w') as out:
        out.writelines(kept)


def run(daemon, ref, args):
    daemon.put(name_of(ref) + '.json', state_file(ref, args))
    container = wait_for('its end', LONG, lambda: ended(daemon, ref))
    if 'code' not in container.get('state', {}):
        sys.stderr.write(container['error'] + '\n')
        return 125
    logs = subprocess.run([LONGSHORE, 'logs', container['name']], capture_output=True, env={**os.environ, 'LONGSHORE_SOCKET': daemon.socket})
    sys.stdout.buffer.write(logs.stdout)
    sys.stderr.buffer.write(logs.stderr)
    return container['state']['code']


def ended(daemon, ref):
    """The container that has ended, or what keeps it from starting."""
    status = daemon.status()
    if not status:
        return None
    for project in (p for p in status['projects'] if p['name'] == name_of(ref)):
        for service in project['services']:
            for container in service['containers']:
                if container['state']['status'] == 'exited':
                    return container
                if container['state']['status'] == 'start_failed':
                    return {'error': container['state']['error']}
            if service['holds']:
                return {'error': service['holds'][0]['message']}
            if not service['containers'] and any('failed' in w['reason'] for w in service['waiting']):
                return {'error': service['waiting'][0]['reason']}
    problem = next((p for p in status['problems'] if name_of(ref) in str(p)), None)
    return {'error': problem['message']} if problem else None


def clean(daemon, ref):
    unmount(ref)
    if not daemon.answers():
        return 1  # it is not started again here, or `alive` would not tell that it died
    forget(daemon, ref)
    code, said = daemon.cli('image', 'rm', ref)
    sys.stderr.write(said)
    return code


def main():
    verb, args = (sys.argv[1:2] or [''])[0], sys.argv[2:]
    if verb not in ('pull', 'rootfs', 'run', 'clean', 'alive', 'pids', 'stop'):
        sys.exit(__doc__)
    if verb == 'stop':
        unmount()
        if os.path.isdir(WORK + '/daemon'):
            Service().stop()
        shutil.rmtree(WORK, ignore_errors=True)
        return 0
    daemon = Service()
    if verb == 'alive':
        return 0 if daemon.answers() else 1
    if verb == 'clean':
        return clean(daemon, *args)
    daemon.ensure()
    if verb == 'pids':
        print(daemon.pid())
        return 0
    if verb == 'run':
        return run(daemon, args[0], args[1:])
    return {'pull': pull, 'rootfs': rootfs}[verb](daemon, *args)


try:
    sys.exit(main())
except Failed as error:
    sys.exit(str(error))
