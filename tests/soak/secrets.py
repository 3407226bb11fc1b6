#!/usr/bin/env python3
"""secrets.py - kills and power cuts while configs and secrets change: whole ones only, the newest in the end, none of them in clear.

  secrets.py [--kills N] [--cuts N] [--seed S]

Four files are rotated by a thread without end: a secret that is kept by name (`longshore secret set`), one that is encrypted in the state
folder (.age), a plain secret file and a config. A service `live` sees them all and goes on (`update`, and for the encrypted one a
signal); `again` is restarted for another secret kept by name, `anew` is made again for another config. A program in each container
tells a checksum of every content that it sees. Every content holds a word that is nowhere else, hundreds of times.

The moments: at random, during `secret set`, while the helper that swaps files runs, just after it (the record is being written),
kill -9 of that helper itself, and `back`: just after it too, and the file is as it was before when the daemon comes back. After each of them the daemon starts again and everything must come to rest: each file whole, none older than what
was acknowledged or had been seen, and what is not to be restarted never was.

The words are looked for in the data directory, the run directory, the whole disk of the machine that loses power after each cut, the
daemon's log, all that the commands say, and what /proc shows of our processes: in clear, hex, base64, lists of numbers, UTF-16. The state folder lies
elsewhere: it holds the plain ones.
"""
import argparse, collections, fcntl, glob, json, os, random, re, signal, struct, subprocess, threading, time, zlib
from lab import LONGSHORE, Failed, Lab, close_with, median, run, say, start_times, wait_for
from machine import Machine
from traces import Onlooker, Search, forms, word

FILE = '''name: s
x-longshore: {on_change: update}
services:
  live:
    image: %(image)s
    network_mode: none
    restart: always
    command: [witness, "5", /run/secrets/kept, /run/secrets/sealed, /run/secrets/plain, /conf]
    secrets:
      - kept
      - {source: sealed, x-longshore: {on_change: {signal: HUP}}}
      - plain
    configs: [conf]
  again:
    image: %(image)s
    network_mode: none
    restart: always
    command: [witness, "5", /run/secrets/other]
    secrets: [{source: other, x-longshore: {on_change: restart}}]
  anew:
    image: %(image)s
    network_mode: none
    restart: always
    command: [witness, "5", /second]
    configs: [{source: second, x-longshore: {on_change: recreate}}]
secrets:
  kept: {external: true}
  other: {external: true}
  sealed: {file: ./sealed.age}
  plain: {file: ./plain}
configs:
  conf: {file: ./conf}
  second: {file: ./second}
'''
# Where each is seen, and how it is set.
SEEN = {'kept': ('live', '/run/secrets/kept'), 'sealed': ('live', '/run/secrets/sealed'), 'plain': ('live', '/run/secrets/plain'), 'conf': ('live', '/conf'),
        'other': ('again', '/run/secrets/other'), 'second': ('anew', '/second')}
BY_NAME = ('kept', 'other')
OFTEN = ('kept', 'kept', 'sealed', 'sealed', 'plain', 'conf') * 3 + ('other', 'second')
SAW = re.compile(r'saw (\d+) (\S+) (\d+) ([0-9a-f]{8})')
TOLD = re.compile(r'told (\d+)')


class Contents:
    """All that was ever given, and what was acknowledged."""

    def __init__(self, dice):
        self.dice, self.sums = dice, {}
        self.words = {name: word() for name in SEEN}
        self.tried, self.kept, self.broken = dict.fromkeys(SEEN, 0), dict.fromkeys(SEEN, 0), set()

    def next(self, name):
        number = self.tried[name] + 1
        line = b'%s %s %06d\n' % (name.encode(), self.words[name], number)
        content = line * self.dice.choice((1, 3, 700, 2500))
        self.sums[(name, len(content), '%08x' % zlib.crc32(content))] = number
        self.tried[name] = number
        return number, content


class Host:
    """What the run needs of a daemon, wherever it is."""

    def __init__(self, daemon, contents, root=''):
        self.daemon, self.contents, self.root = daemon, contents, root
        self.seen, self.halves, self.told, self.saw = {}, set(), 0, {}
        # The content that was replaced, with its number; and what is to be seen though it is not the newest.
        self.before, self.exact, self.conf = None, {}, 0

    def rotate(self, name):
        """One change, which is acknowledged or not."""
        number, content = self.contents.next(name)
        if name in BY_NAME:
            done = subprocess.run([LONGSHORE, 'secret', 'set', name], input=content, capture_output=True, env={**os.environ, 'LONGSHORE_SOCKET': self.daemon.socket})
            kept = done.returncode == 0
        else:
            if name == 'sealed':
                content = subprocess.run([LONGSHORE, 'secret', 'encrypt', '--recipient', self.recipient], input=content, capture_output=True, check=True).stdout
            path = os.path.join(self.daemon.state, 'sealed.age' if name == 'sealed' else name)
            beside = os.path.join(self.daemon.state, '.' + name)
            with open(beside, 'wb', opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
                out.write(content)
            os.rename(beside, path)
            kept = True
            self.conf = number if name == 'conf' else self.conf
        if kept:
            self.contents.kept[name] = number
        else:
            self.contents.broken.add(name)
        return kept

    def back(self):
        """Remembers the config, to be put back by the next call."""
        path = os.path.join(self.daemon.state, 'conf')
        if not self.before:
            self.before = (open(path, 'rb').read(), self.conf)
            return
        (content, number), self.before = self.before, None
        with open(path + '.new', 'wb') as out:
            out.write(content)
        os.rename(path + '.new', path)
        self.exact['conf'] = self.conf = number

    def begin(self, image):
        self.recipient = run(LONGSHORE, '--socket', self.daemon.socket, 'secret', 'recipient')
        for name in SEEN:
            if not self.rotate(name):
                raise Failed('%s was not set' % name)
        self.daemon.put('s.yaml', FILE % {'image': image})

    def read(self):
        """Reads what the containers told: {name: the newest number that was seen last}."""
        newest = {}
        for log in glob.glob(self.daemon.data + '/containers/*/logs/log*'):
            try:
                text = open(log, errors='replace').read()
            except OSError:
                continue
            for ns, path, length, sum in SAW.findall(text):
                name = next((name for name, (_, at) in SEEN.items() if at == path), None)
                number = self.contents.sums.get((name, int(length), sum))
                if number is None:
                    self.halves.add('%s of %s bytes, %s' % (path, length, sum))
                    continue
                newest[name] = max(newest.get(name, (0, 0)), (int(ns), number))
            self.told = max([self.told, *map(int, TOLD.findall(text))])
        self.seen = {name: number for name, (_, number) in newest.items()}
        self.saw = {name: ns for name, (ns, _) in newest.items()}
        return self.seen

    def at_rest(self, least):
        """What is not as it should be yet; None: nothing."""
        status = self.daemon.settled()
        if not status:
            return 'it is not settled'
        seen = self.read()
        between = {name: (self.exact.get(name, least[name]), self.exact.get(name, self.contents.tried[name])) for name in SEEN}
        bad = ['%s: seen %s, at least %d and at most %d' % (name, seen.get(name), *between[name]) for name in SEEN
               if not between[name][0] <= seen.get(name, 0) <= between[name][1]]
        if len(self.daemon.pids()) != 3:
            bad.append('running: %s' % sorted(self.daemon.pids()))
        if self.told + 20e6 < self.saw.get('sealed', 0) and self.signalled:
            bad.append('the signal for the encrypted secret did not come')
        return '; '.join(bad) or None

    # Whether the signal must have come; and who looks at processes.
    signalled, onlooker = False, None

    def mounts(self):
        """{(container, path): ids of its mounts} of the files."""
        found = collections.defaultdict(list)
        for name, pid in self.daemon.pids().items():
            try:
                lines = open('%s/proc/%d/mountinfo' % (self.root, pid)).read().splitlines()
            except OSError:
                continue
            for fields in map(str.split, lines):
                if any(fields[4] == path for _, path in SEEN.values()):
                    found[(name, fields[4])].append(fields[0])
        return dict(found)

    def rest(self, least, seconds=40):
        """Waits until everything is as it should be, and looks whether it stays so. Gives the seconds it took."""
        begun, last = time.monotonic(), [None]

        def ask():
            last[0] = self.at_rest(least)
            return last[0] is None
        try:
            wait_for('everything comes to rest', seconds, ask, 0.02)
        except Failed as error:
            raise Failed('%s: %s; status: %s' % (error, last[0], json.dumps(self.daemon.status())[:3000]))
        took = time.monotonic() - begun
        before = (self.daemon.pids(), self.mounts(), self.read(), self.told)
        time.sleep(0.5)
        after = (self.daemon.pids(), self.mounts(), self.read(), self.told)
        return took, [] if before == after else ['it does not stay so: %s, then %s' % (before, after)]

    def stacked(self):
        return sum(len(ids) > 1 for ids in self.mounts().values())

    def kept_now(self):
        """What became of a `secret set` that was not acknowledged: the old one or the new one stayed; `none`: there was none."""
        (name,) = self.contents.broken or ('',)
        return 'none' if not name else 'new' if self.seen.get(name) == self.contents.tried[name] else 'old'

    def says(self):
        """All that the commands say."""
        names = list(self.daemon.containers())
        asked = [('status', '--json'), ('status',), ('ps',), ('secret', 'ls'), ('secret', 'ls', '--json'), ('logs', 's-live-1'), *(('inspect', name) for name in names)]
        return ''.join(self.daemon.cli(*words)[1] for words in asked)


class Writer(threading.Thread):
    """Changes one file after the other."""

    def __init__(self, host, dice, names=OFTEN):
        super().__init__(daemon=True)
        self.host, self.dice, self.names, self.stop, self.count = host, dice, names, False, collections.Counter()

    def run(self):
        while not self.stop and self.names:
            name = self.dice.choice(self.names)
            kept = self.host.rotate(name)
            self.count[name, kept] += 1
            if not kept:
                break
            time.sleep(self.dice.expovariate(20))


class Followers:
    """Commands that go on until the daemon ends."""

    def __init__(self, daemon, out):
        self.daemon, self.out, self.children = daemon, out, []

    def start(self):
        for words in (('events', '--json', '--since', '0'), ('logs', '-f', 's-live-1')):
            out = open(self.out, 'ab')
            self.children.append(subprocess.Popen([LONGSHORE, '--socket', self.daemon.socket, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=out))
            out.close()

    def stop(self):
        for child in self.children:
            child.kill()
            child.wait()
        self.children = []


def children(pid):
    found = []
    for path in glob.glob('/proc/%d/task/*/children' % pid):
        try:
            found += map(int, open(path).read().split())
        except OSError:
            continue
    return found


def helpers(daemon_pid):
    """The processes that swap files right now."""
    found = []
    for pid in children(daemon_pid):
        try:
            if open('/proc/%d/cmdline' % pid, 'rb').read().split(b'\0')[1:3] == [b'runtime', b'files']:
                found.append(pid)
        except OSError:
            continue
    return found


def wait_for_helper(host, pid, seconds=30):
    (one, *_) = wait_for('a helper that swaps files', seconds, lambda: helpers(pid), 0)
    if host.onlooker:
        host.onlooker.look(one)
    return one


def until_set(host, writer, pid, dice):
    """Somewhere in a `secret set`: of the command, of writing the file, or between its rename and the answer."""
    kept, folder = host.contents, host.daemon.data + '/secrets'
    inode = lambda: os.stat(folder + '/kept.age').st_ino
    before = inode()
    sign, longest = dice.choice(((lambda: kept.tried['kept'] > kept.kept['kept'], 0.06), (lambda: os.path.exists(folder + '/.draft'), 0.004), (lambda: inode() != before, 0.002)))
    wait_for('a `secret set`', 30, sign, 0)
    time.sleep(dice.uniform(0, longest))


def until_swap(host, writer, pid, dice):
    """While the helper runs."""
    wait_for_helper(host, pid)
    time.sleep(dice.uniform(0, 0.008))


def until_record(host, writer, pid, dice):
    """Just after the helper, or once the record's draft is there."""
    one, draft = wait_for_helper(host, pid), lambda: glob.glob(host.daemon.data + '/containers/*/.container.json.new')
    sign = dice.choice((draft, lambda: one not in helpers(pid)))
    wait_for('its end', 30, sign, 0)
    time.sleep(dice.uniform(0, 0.002))


def until_any(host, writer, pid, dice):
    time.sleep(dice.uniform(0.05, 1.5))


def until_helper(host, writer, pid, dice):
    """The helper itself is killed, several times; then, half of the time at once, the daemon."""
    for _ in range(5):
        one = wait_for_helper(host, pid)
        time.sleep(dice.uniform(0, 0.006))
        try:
            # By its descriptor: what has ended meanwhile is nobody else.
            handle = os.pidfd_open(one)
            if one in helpers(pid):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                writer.count['helpers killed'] += 1
            os.close(handle)
        except ProcessLookupError:
            continue
    time.sleep(dice.choice((0, 0, 0.3)))


def until_back(host, writer, pid, dice):
    """The config alone is changed; it is put back when the daemon is gone."""
    one = None
    while not one:
        host.before = None
        host.back()
        host.rotate('conf')
        writer.count['conf', True] += 1
        try:
            one = wait_for_helper(host, pid, 2)
        except Failed:
            # It was too quick for us.
            continue
    wait_for('its end', 30, lambda: one not in helpers(pid), 0)
    time.sleep(dice.uniform(0, 0.001))


MOMENTS = {'secret set': until_set, 'swap': until_swap, 'record': until_record, 'helper': until_helper, 'back': until_back, 'any': until_any}


# After a cut no container runs, nor is there a helper that could have gone alone.
CUT = [name for name in MOMENTS if name not in ('helper', 'back')]


class Rows:
    """What is told of each moment."""

    def __init__(self):
        self.rows = collections.defaultdict(lambda: collections.defaultdict(list))

    def add(self, way, moment, **values):
        for key, value in values.items():
            self.rows[way, moment][key].append(value)

    HEAD = ('by', 'moment', 'times', 'helper ran', 'set under way: old stayed', 'new stayed', 'none under way', 'ready, ms', 'at rest, s (most)', 'stacked', 'wrong')

    def print(self):
        form = '%-6s %-11s %6s %11s %26s %11s %15s %10s %18s %8s %6s'
        say('\n' + form % self.HEAD)
        for (way, moment), row in self.rows.items():
            say(form % (way, moment, len(row['ready']), sum(row['helper']), row['set'].count('old'), row['set'].count('new'), row['set'].count('none'),
                        '%.0f' % (median(row['ready']) * 1000), '%.1f (%.1f)' % (median(row['rest']), max(row['rest'])), sum(row['stacked']), sum(row['wrong'])))


def least_of(host):
    """No file may be older than this from now on."""
    kept, seen = host.contents.kept, host.read()
    return {name: host.exact.get(name, max(kept[name], seen.get(name, 0))) for name in SEEN}


def disturb(host, daemon, moment, dice, end):
    """Changes, the moment, the end; gives what was under way."""
    writer = Writer(host, dice, ('kept', 'sealed', 'plain', 'conf') if moment in ('swap', 'record', 'helper') else () if moment == 'back' else ('kept',) if moment == 'secret set' else OFTEN)
    writer.start()
    pid = daemon_pid(daemon)
    try:
        time.sleep(dice.uniform(0, 0.2))
        MOMENTS[moment](host, writer, pid, dice)
        ran = bool(helpers(pid))
        end()
    finally:
        writer.stop = True
        writer.join()
    return ran, writer.count


def daemon_pid(daemon):
    """The machine's is the child of the one that we started."""
    (pid, *_) = children(daemon.child.pid) if isinstance(daemon, Machine) else (daemon.child.pid,)
    return pid


def after(host, rows, way, moment, number, ready, ran, same, failures):
    """Everything must come to rest, as least as new as it was."""
    least, wrong = least_of(host), []
    try:
        took, wrong = host.rest(least)
    except Failed as error:
        took, wrong = float('nan'), [str(error)]
    if same and same != {name: one for name, one in start_times(host.daemon.pids()).items() if name in same}:
        wrong.append('another process: %s, then %s' % (same, start_times(host.daemon.pids())))
    wrong += ['half a content was seen: %s' % half for half in sorted(host.halves)]
    host.halves.clear()
    outcome = host.kept_now()
    rows.add(way, moment, ready=ready, rest=took, helper=ran, set=outcome, stacked=host.stacked(), wrong=len(wrong))
    say('%s %2d, %-10s: ready after %4.0f ms, at rest after %4.1f s, set under way: %s%s' % (way, number, moment, ready * 1000, took, outcome, ', WRONG' if wrong else ''))
    failures += ['%s %d (%s): %s' % (way, number, moment, text) for text in wrong]
    # What was not acknowledged and stayed is acknowledged by that.
    for name in BY_NAME:
        host.contents.kept[name] = max(host.contents.kept[name], host.seen.get(name, 0))
    host.contents.broken.clear()
    # What was put back is the newest by now.
    for name, number in host.exact.items():
        host.contents.kept[name] = number
    host.exact.clear()


def newest(host, failures, way):
    """A last change of everything is seen by everybody."""
    for name in SEEN:
        if not host.rotate(name):
            failures.append('%s: %s was not set at the end' % (way, name))
    host.signalled = True
    try:
        failures += host.rest(dict(host.contents.tried))[1]
    except Failed as error:
        failures.append('%s, at the end: %s' % (way, error))
    host.signalled = False


def kills(lab, image, options, dice, rows, counts, failures):
    daemon, contents = lab.daemon(), Contents(dice)
    search, looked = Search(contents.words), collections.Counter()
    onlooker, host = Onlooker(search, lab.dir), Host(daemon, contents)
    host.onlooker = onlooker
    onlooker.start()
    daemon.start().ready()
    followers = Followers(daemon, lab.path('followers'))
    host.begin(image)
    host.rest(dict(contents.tried))
    said = []
    for number in range(1, options.kills + 1):
        moments = options.moments.split(',') if options.moments else list(MOMENTS)
        moment = moments[number % len(moments)]
        followers.start()
        same = {name: one for name, one in start_times(daemon.pids()).items() if name == 's-live-1'}
        try:
            ran, count = disturb(host, daemon, moment, dice, daemon.kill)
        finally:
            followers.stop()
        counts.update(count)
        if host.before:
            host.back()
        # Some changes come while nobody is there to see them.
        for name in () if host.exact else dice.sample(('sealed', 'plain', 'conf', 'second'), dice.choice((0, 0, 2))):
            host.rotate(name)
        daemon.start()
        ready = daemon.ready()
        after(host, rows, 'kill', moment, number, ready, ran, same, failures)
        said += ['what a command said: %s' % what for what in search.among(host.says().encode())]
    newest(host, failures, 'kill')
    where = search.folder(daemon.data) + search.folder(daemon.run)
    searched = '%d files, %.0f MB' % (search.files, search.bytes / 1e6)
    daemon.terminate()
    where += search.folder(daemon.data) + search.folder(daemon.run)
    onlooker.stop = True
    onlooker.join()
    said += ['the daemon\'s log: ' + what for what in search.file(daemon.log)] + ['events, logs: ' + what for what in search.file(lab.path('followers'))]
    found = where + sorted(set(said)) + sorted(set(onlooker.found))
    failures += ['found: ' + text for text in found]
    if 'panicked' in daemon.log_text():
        failures.append('the daemon panicked: ' + daemon.log_text().split('panicked', 1)[1][:300])
    # The search itself: it finds what is there.
    planted = lab.path('planted')
    os.makedirs(planted)
    for at, (form, needle) in enumerate(forms(contents.words['kept']).items()):
        with open('%s/%d' % (planted, at), 'wb') as out:
            out.write(os.urandom(PLANTED) + needle + os.urandom(99))
    there = len({line.split(':')[0] for line in search.folder(planted)})
    if there != len(forms(contents.words['kept'])):
        failures.append('the search found %d of %d planted words' % (there, len(forms(contents.words['kept']))))
    return ['data and run directory: %s; %d of %d planted forms found, %d others' % (searched, there, len(forms(contents.words['kept'])), len(where)),
            'processes looked at: %s, in %d looks; %d found' % (', '.join('%s %d' % one for one in sorted(onlooker.kinds.items())), onlooker.looks, len(onlooker.found)),
            'log, events, logs, status, inspect, ps, secret ls: %d found' % len(set(said))]


# So that one lies across the end of a part.
PLANTED = (16 << 20) - 5


FS_IOC_SHUTDOWN, WITHOUT_FLUSH = (2 << 30) | (4 << 16) | (ord('X') << 8) | 125, 2


class Elsewhere(Machine):
    """Its state folder is on the machine's own disk, which loses nothing and is not searched."""

    def boot(self):
        super().boot()
        self.state = self.lab.path('machine-state')
        os.makedirs(self.state, exist_ok=True)

    def start(self):
        self.started = time.monotonic()
        self.child = self.inside(LONGSHORE, 'daemon', '--state-dir', self.state, '--data-dir', '/pocket/data', '--run-dir', '/run/longshore', log=self.log)
        return self

    def cut(self):
        if self.up:
            # The disk stops now; all the rest of what a cut does takes a moment.
            disk = os.open(self.root + '/pocket', os.O_RDONLY | os.O_DIRECTORY)
            fcntl.ioctl(disk, FS_IOC_SHUTDOWN, struct.pack('I', WITHOUT_FLUSH))
            os.close(disk)
        super().cut()

    def image(self):
        return self.lab.path('pockets', self.name, 'disk.img')


def cuts(lab, image, options, dice, rows, counts, failures):
    port = int(lab.address.split(':')[1])
    lab.stop_registry()
    machine, contents = Elsewhere(lab, 2000), Contents(dice)
    lab.daemons.append(machine)
    search = Search(contents.words)
    machine.boot()
    host = Host(machine, contents, machine.root)
    machine.registry(port)
    machine.start().ready()
    host.begin(image)
    host.rest(dict(contents.tried))
    found = []
    for number in range(1, options.cuts + 1):
        moment = CUT[number % len(CUT)]
        ran, count = disturb(host, machine, moment, dice, machine.cut)
        counts.update(count)
        found += ['cut %d, the disk: %s' % (number, what) for what in search.image(machine.image())]
        machine.boot()
        host.root = machine.root
        machine.start()
        ready = machine.ready()
        after(host, rows, 'power', moment, number, ready, ran, None, failures)
    newest(host, failures, 'power')
    found += search.folder(machine.data) + search.folder(machine.root + '/run/longshore')
    # A word that lies on this disk is found.
    planted = word()
    with open(machine.data + '/planted', 'wb') as out:
        out.write(planted)
        out.flush()
        os.fsync(out.fileno())
    machine.cut()
    found += ['the end, the disk: ' + what for what in search.image(machine.image())]
    searched = search.bytes
    there = Search({'planted': planted}).image(machine.image())
    if not there:
        failures.append('the search did not find the planted word on the disk')
    found += ['the daemon\'s log: ' + what for what in search.file(machine.log)]
    failures += ['found: ' + text for text in found]
    if 'panicked' in machine.log_text():
        failures.append('the daemon panicked: ' + machine.log_text().split('panicked', 1)[1][:300])
    machine.boot()
    return ['the whole disk after each cut: %.0f MB in all; the planted word %s, %d others' % (searched / 1e6, 'found' if there else 'NOT found', len(found))]


def main():
    options = argparse.ArgumentParser(description='kills and power cuts while configs and secrets change')
    options.add_argument('--kills', type=int, default=20)
    options.add_argument('--cuts', type=int, default=20)
    options.add_argument('--moments', help='only these, after kills')
    options.add_argument('--seed', type=int, default=1)
    options = options.parse_args()
    dice, rows, counts, failures, told, begun = random.Random(options.seed), Rows(), collections.Counter(), [], [], time.monotonic()
    with Lab() as lab:
        say('making an image')
        image = lab.image('soak/witness', ['witness.c'])
        if options.kills:
            told += kills(lab, image, options, dice, rows, counts, failures)
        if options.cuts:
            told += cuts(lab, image, options, dice, rows, counts, failures)
        rows.print()
        say('')
        helpers_killed = counts.pop('helpers killed', 0)
        say('%-28s %s' % ('changes', ', '.join('%s %d%s' % (name, counts[name, True], ' (and %d not acknowledged)' % counts[name, False] if counts[name, False] else '') for name in SEEN)))
        say('%-28s %d' % ('helpers killed', helpers_killed))
        for line in told:
            say('%-28s %s' % ('looked for %d words' % len(SEEN), line))
        say('%-28s %.0f s' % ('took', time.monotonic() - begun))
        close_with(failures, 'secrets.py: %d kills, %d power cuts, %d changes' % (options.kills, options.cuts, sum(counts.values())))


main()
