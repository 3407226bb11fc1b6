"""Whether something secret is to be found where it must not be: in files, in a disk's image, in what processes show of themselves."""
import base64, collections, os, random, string, threading, time
from lab import LONGSHORE

PART = 16 << 20


def word(dice=random.SystemRandom(), length=24):
    """A word that is nowhere else on the machine."""
    return ''.join(dice.choice(string.ascii_letters + string.digits) for _ in range(length)).encode()


def forms(marker):
    """{what it is called: bytes}: a word as it is, and as programs like to write it."""
    found = {'in clear': marker, 'hex': marker.hex().encode(), 'HEX': marker.hex().upper().encode(),
             'numbers': ','.join(map(str, marker)).encode(), 'numbers with spaces': ', '.join(map(str, marker)).encode(),
             'UTF-16': marker.decode().encode('utf-16-le')}
    for shift in range(3):
        whole = base64.b64encode(bytes(shift) + marker)
        # The first and the last letters also depend on what is beside.
        part = whole[(0, 4, 4)[shift]:len(whole) // 4 * 4 - 4]
        found['base64+%d' % shift] = part
        found['base64url+%d' % shift] = part.replace(b'+', b'-').replace(b'/', b'_')
    return found


class Search:
    """What is looked for: {name: marker}."""

    def __init__(self, markers):
        needles = {}
        for name, marker in markers.items():
            for form, needle in forms(marker).items():
                needles.setdefault(needle, '%s, %s' % (name, form))
        self.needles, self.longest, self.bytes, self.files = needles, max(map(len, needles)), 0, 0

    def among(self, data):
        return [name for needle, name in self.needles.items() if needle in data]

    def file(self, path, start=0, end=None):
        """The names of what is in a part of a file."""
        found, rest = set(), b''
        with open(path, 'rb', buffering=0) as file:
            file.seek(start)
            while end is None or start < end:
                part = file.read(PART if end is None else min(PART, end - start))
                if not part:
                    break
                start += len(part)
                self.bytes += len(part)
                found.update(self.among(rest + part))
                rest = part[-self.longest:]
        self.files += 1
        return sorted(found)

    def image(self, path):
        """A file with holes, which hold nothing."""
        found, at, size = set(), 0, os.path.getsize(path)
        with open(path, 'rb') as file:
            while at < size:
                try:
                    at = os.lseek(file.fileno(), at, os.SEEK_DATA)
                except OSError:
                    break
                end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
                found.update(self.file(path, at, end))
                at = end
        return sorted(found)

    def folder(self, top):
        """['PATH: NAME'] of all below a folder; what goes away meanwhile is left out."""
        found = []
        for at, folders, names in os.walk(top):
            for name in names + folders:
                path = os.path.join(at, name)
                found += ['%s (its name): %s' % (path, what) for what in self.among(name.encode(errors='surrogateescape'))]
            for name in names:
                path = os.path.join(at, name)
                try:
                    if os.path.isfile(path) and not os.path.islink(path):
                        found += ['%s: %s' % (path, what) for what in self.file(path)]
                except OSError:
                    continue
        return found


class Onlooker(threading.Thread):
    """Reads, all the time, what /proc shows of our program's processes: command lines, names, environments."""

    def __init__(self, search, dir):
        super().__init__(daemon=True)
        # Shims and helpers run a clone of the program that has no path; followers are a program of their own, in the run's folder.
        program = os.stat(LONGSHORE)
        self.program, self.dir = (program.st_dev, program.st_ino), dir
        self.search, self.found, self.looks, self.kinds, self.stop = search, [], 0, collections.Counter(), False
        self.known, self.others = set(), set()

    def run(self):
        while not self.stop:
            now = set(map(int, filter(str.isdigit, os.listdir('/proc'))))
            self.others &= now
            for pid in now - self.others:
                self.look(pid)
            self.looks += 1
            time.sleep(0.02)

    def look(self, pid):
        at = '/proc/%d/' % pid
        try:
            shown = {part: open(at + part, 'rb').read() for part in ('cmdline', 'environ', 'comm')}
            program = os.stat(at + 'exe')
            ours = (program.st_dev, program.st_ino) == self.program or os.readlink(at + 'exe').startswith(self.dir + '/')
            # A process that is about to become another program is looked at again; what is an old process of others is not.
            if not ours and time.time() - os.stat(at).st_mtime > 2:
                self.others.add(pid)
        except OSError:
            return
        if not ours:
            return
        key = (pid, shown['cmdline'])
        if key not in self.known:
            self.known.add(key)
            self.kinds[kind(shown['cmdline'])] += 1
        for part, data in shown.items():
            self.found += ['process %d, %s: %s' % (pid, part, what) for what in self.search.among(data)]


def kind(cmdline):
    """`daemon`, `shim`, `runtime files`, `secret set` and so on."""
    first, *words = [word.decode(errors='replace') for word in cmdline.split(b'\0')]
    if first.endswith('follower'):
        return 'follower'
    words = words[2:] if words[:1] == ['--socket'] else words
    return ' '.join(words[:2 if words[:1] in (['runtime'], ['secret']) else 1]) or '-'
