"""A machine that can lose power, with a daemon in it: tests/tools/pocket, namespaces and a loop-mounted ext4 that stops at once."""
import fcntl, os, struct, subprocess, time
from lab import LONGSHORE, TOOLS, Daemon, Failed

POCKET = os.path.join(TOOLS, 'pocket')
SHUTDOWN, NO_FLUSH = 2 << 30 | 4 << 16 | ord('X') << 8 | 125, 2  # FS_IOC_SHUTDOWN


class Machine(Daemon):
    """A daemon in a pocket: state folder and data directory lie on its disk of `mib` MiB, /run is gone with it."""

    def __init__(self, lab, mib=3000):
        self.name, self.lab, self.arguments, self.child, self.up = 'soak%d' % os.getpid(), lab, [], None, False
        self.environment = {**os.environ, 'POCKET_DIR': lab.path('pockets')}
        self.dir = lab.path('pocket')
        os.makedirs(self.dir)
        self.log = os.path.join(self.dir, 'log')
        self.pocket('make', str(mib))

    def pocket(self, verb, *args):
        done = subprocess.run([POCKET, verb, self.name, *args], env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise Failed('pocket %s: %s' % (verb, done.stdout + done.stderr))

    def boot(self):
        self.pocket('boot', 'true')
        self.up = True
        root = '/proc/%s/root' % open(self.lab.path('pockets', self.name, 'pid')).read().strip()
        self.root, self.state, self.data = root, root + '/pocket/state', root + '/pocket/data'
        self.socket = root + '/run/longshore/longshore.sock'
        os.makedirs(self.state, exist_ok=True)

    def inside(self, *command, log):
        with open(log, 'a') as out:
            return subprocess.Popen([POCKET, 'in', self.name, *command], env=self.environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def start(self):
        self.started = time.monotonic()
        self.child = self.inside(LONGSHORE, 'daemon', '--state-dir', '/pocket/state', '--data-dir', '/pocket/data', '--run-dir', '/run/longshore', log=self.log)
        return self

    def registry(self, port):
        self.inside(os.path.join(TOOLS, 'registry.sh'), str(port), self.lab.path('registry'), log=self.lab.path('registry.log'))

    def stop_disk(self):
        """Nothing reaches the disk from now on: the moment of a power cut to the microsecond, of which `cut` does the rest."""
        disk = os.open(self.root + '/pocket', os.O_RDONLY | os.O_DIRECTORY)
        fcntl.ioctl(disk, SHUTDOWN, struct.pack('I', NO_FLUSH))
        os.close(disk)

    def cut(self):
        self.up = False
        self.pocket('cut')
        if self.child:
            self.child.wait(20)
        self.child = None

    def halt(self, seconds=5):
        """An orderly end: everything is asked to end, what is written reaches the disk."""
        self.up = False
        self.pocket('halt', str(seconds))
        if self.child:
            self.child.wait(20)
        self.child = None

    def destroy(self):
        if self.up:
            self.cut()
        self.pocket('rm')

    def confirm(self):
        subprocess.run([POCKET, 'in', self.name, LONGSHORE, '--socket', '/run/longshore/longshore.sock', 'confirm'], env=self.environment, capture_output=True)
