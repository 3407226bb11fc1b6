#!/usr/bin/env python3
"""volumes.py - the daemon, a shim or the power gone while a volume is filled, copied or put back: all of it or nothing.

  volumes.py [--rounds N] [--seed S] [--work fill,snapshot,restore] [--by daemon,shim,power]

fill      the first start with a new volume, which takes what the image has there. The shim copies: it is killed too.
snapshot  `longshore volume snapshot`.
restore   `longshore volume restore`, of two snapshots in turn.

A round waits until the draft is on the disk, and strikes at a random moment of the time that the work takes undisturbed; every fourth
one strikes soon after the end, when what is there has to be whole. One that came too late is looked at like the others, and another one
follows. What is on the disk is looked at before the daemon starts again; after that, what it lists, and what a container sees in the
volume. Contents are told apart by names, types, modes, owners, sizes and SHA-256 of all that is in a folder.
"""
import argparse, glob, json, os, random, re, signal, subprocess, time
from collections import Counter
from lab import LONGSHORE, TOOLS, Failed, Lab, close_with, median, run, say, wait_for
from machine import Machine

SUM = '''cd "$1" || exit 1
{ find . ! -type d -exec stat -c '%n %f %u %g %s' {} + | sort; find . -type d -exec stat -c '%n %f %u %g' {} + | sort
  find . -type f | sort | xargs sha256sum; find . -type l | sort | xargs -n1 readlink; } | sha256sum | cut -d' ' -f1
'''
# Before anything else the container says what it sees.
FILE = '''name: %(project)s
services:
  s:
    image: %(image)s
    network_mode: none
    restart: %(restart)s
    stop_grace_period: 1s
    environment: {ROUND: "%(round)s"}
    volumes: ['v:/data']
    command: [sh, -c, 'echo "round $$ROUND sees $$(sh /sum.sh /data)"; %(then)s']
volumes:
  v: {name: %(volume)s}
'''
EMPTY = 'nothing'


def content(folder, dice, large, small):
    """Makes a folder of large and small files with several owners and modes, links and hard links."""
    os.makedirs(folder)
    for number in range(large):
        with open('%s/large-%02d' % (folder, number), 'wb') as out:
            out.write(dice.randbytes(4 << 20))
    for number in range(small):
        at = '%s/%02d/%s' % (folder, number % 20, dice.choice('abc'))
        os.makedirs(at, exist_ok=True)
        path = '%s/%04d' % (at, number)
        with open(path, 'wb') as out:
            out.write(dice.randbytes(dice.randrange(9000)))
        os.chown(path, dice.choice((0, 70, 1000)), 2000)
        os.chmod(path, dice.choice((0o600, 0o644, 0o755, 0o4755)))
        if number % 50 == 0:
            os.symlink('../%04d' % number, path + '.link')
            os.link(path, path + '.hard')
    os.chown(folder, 70, 70)
    os.chmod(folder, 0o750)


def seen(folder):
    """The sum of what a folder holds; a folder that holds nothing, or is not there, is empty."""
    return run('busybox', 'sh', '-c', SUM, 'sum', folder) if os.path.isdir(folder) and os.listdir(folder) else EMPTY


def size(folder):
    """Bytes of the files in a folder that somebody may be changing."""
    found = 0
    for at, _, names in os.walk(folder):
        for name in names:
            try:
                found += os.lstat(os.path.join(at, name)).st_size
            except OSError:
                pass
    return found


class Work:
    """What is disturbed: each kind begins a round, finds its draft, and judges what is there afterwards."""

    def __init__(self, host, image, sums, bytes):
        self.host, self.image, self.sums, self.bytes, self.round, self.child = host, image, sums, bytes, 0, None

    def prepare(self):
        self.round += 1

    def draft(self):
        return next(iter(glob.glob(self.host.data + self.DRAFT)), None)

    def over(self):
        """Whether the draft has become what it is for."""
        return not self.draft()

    def cli(self, *args):
        code, text = self.host.cli('volume', *args)
        if code:
            raise Failed('longshore volume %s: %s' % (' '.join(args), text))
        return text

    def send(self, *args):
        """A command that will perhaps not end well."""
        environment = {**os.environ, 'LONGSHORE_SOCKET': self.host.socket}
        self.child = subprocess.Popen([LONGSHORE, 'volume', *args], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def acknowledged(self):
        """Whether the command was told that all is done."""
        return self.child is not None and self.child.wait(30) == 0

    def name(self, sum):
        return next((name for name, known in self.sums.items() if known == sum), 'HALF')

    def started(self, project, volume, restart='always', then='exec work graceful 0'):
        self.host.put(project + '.yaml', FILE % {'project': project, 'image': self.image, 'restart': restart, 'volume': volume,
                                                 'round': self.round, 'then': then}, durable=True)

    def told(self, project):
        """What containers of this round said that they saw."""
        return re.findall(r'round %d sees (\w*)' % self.round, self.host.cli('logs', project + '-s-1')[1])


class Fill(Work):
    DRAFT = '/volumes/v*/.fill-*'

    def begin(self):
        self.volume = 'v%d' % self.round
        self.started('fill', self.volume)

    def folder(self):
        return '%s/volumes/%s/_data' % (self.host.data, self.volume)

    def done(self):
        return self.told('fill')

    def down(self):
        """What is on the disk while no daemon runs."""
        self.before = self.name(seen(self.folder()))
        return [] if self.before in (EMPTY, 'a') else ['the volume holds a half on the disk']

    def up(self):
        names = [self.name(sum) for sum in wait_for('a container sees the volume', 90, lambda: self.told('fill'))]
        failures = ['a container saw a volume that is not whole: %s' % names] if set(names) != {'a'} else []
        if self.name(seen(self.folder())) != 'a':
            failures.append('the volume is not whole after all')
        for old in glob.glob(self.host.data + '/volumes/v*'):
            if os.path.basename(old) != self.volume:
                wait_for('the old volume can go', 30, lambda: self.host.cli('volume', 'rm', os.path.basename(old))[0] == 0, 0.1)
        return {EMPTY: 'nothing, then filled', 'a': 'whole'}.get(self.before, 'HALF'), failures


class Snapshot(Work):
    DRAFT = '/snapshots/keep/.new-*'

    def begin(self):
        self.called = 's%d' % self.round
        self.send('snapshot', '-q', 'keep', self.called)

    def folder(self):
        return '%s/snapshots/keep/%s/_data' % (self.host.data, self.called)

    def done(self):
        return os.path.isdir(self.folder())

    def listed(self):
        return [entry['name'] for entry in json.loads(self.cli('snapshots', '--json', 'keep'))]

    def down(self):
        self.before = self.name(seen(self.folder()))
        return [] if self.before in (EMPTY, 'a') else ['a half snapshot is on the disk']

    def up(self):
        failures, listed, acknowledged = [], self.called in self.listed(), self.acknowledged()
        there = self.name(seen(self.folder()))
        if listed != (there == 'a') or not listed and os.path.exists(os.path.dirname(self.folder())):
            failures.append('the snapshot is %slisted and holds %s' % ('' if listed else 'not ', there))
        if acknowledged and not listed:
            failures.append('a snapshot that was said to be done is not there')
        if not listed:
            # Nothing is in the way of the same one.
            self.cli('snapshot', '-q', 'keep', self.called)
            if self.called not in self.listed() or self.name(seen(self.folder())) != 'a':
                failures.append('the snapshot, made again, is not whole')
        self.cli('rm-snapshot', 'keep', self.called)
        return ('whole, listed' if listed else 'not there'), failures


class Restore(Work):
    DRAFT = '/volumes/keep/.restore-*'

    def prepare(self):
        super().prepare()
        self.old = self.name(seen(self.folder()))
        if self.old not in 'ab':  # which was told
            self.cli('restore', '-q', 'keep', 'a')
            self.old = 'a'
        self.new = {'a': 'b', 'b': 'a'}[self.old]

    def begin(self):
        self.replaced = os.stat(self.folder()).st_ino
        self.send('restore', '-q', 'keep', self.new)

    def over(self):
        # The two change places; what was there is removed then, under the draft's name.
        return os.stat(self.folder()).st_ino != self.replaced or not self.draft()

    def folder(self):
        return self.host.data + '/volumes/keep/_data'

    def done(self):
        return self.child.poll() is not None

    def down(self):
        self.before = self.name(seen(self.folder()))
        return [] if self.before in ('a', 'b') else ['the volume holds a half on the disk']

    def up(self):
        self.started('look', 'keep', '"no"', 'true')
        names = [self.name(sum) for sum in wait_for('a container sees the volume', 90, lambda: self.told('look'))]
        failures = []
        if names not in (['a'], ['b']):
            failures.append('a container saw %s' % names)
        if names[-1] != self.before:
            failures.append('the disk had %s, the container saw %s' % (self.before, names))
        if self.acknowledged() and names[-1] != self.new:
            failures.append('what was said to be put back is not there')
        for called in 'ab':
            if self.round % 5 == 0 and self.name(seen('%s/snapshots/keep/%s/_data' % (self.host.data, called))) != called:
                failures.append('the snapshot %s is not whole any more' % called)
        wait_for('the container has ended', 30, lambda: 'look-s-1' not in self.host.pids(), 0.05)
        return ('new whole' if names[-1] == self.new else 'old whole'), failures


WORKS = {'fill': Fill, 'snapshot': Snapshot, 'restore': Restore}


def by_daemon(work, dice):
    work.host.kill()
    hit = size(work.draft()) if work.draft() else None
    # The shim may come to its end before the daemon is back, or still copy when it is.
    failures = work.down() if dice.random() < 0.5 else []
    work.host.start().ready()
    return hit, failures + work.down()


def by_shim(work, dice):
    """The daemon lives on."""
    for pid in work.shims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    hit = size(work.draft()) if work.draft() else None
    return hit, work.down()


def by_power(work, dice):
    draft = work.draft()
    hit = size(draft) if draft else None
    hit = hit if draft and os.path.isdir(draft) else None
    work.host.stop_disk()
    work.host.cut()
    work.host.boot()
    failures = work.down()
    work.host.start().ready()
    return hit, failures


WAYS = {'daemon': by_daemon, 'shim': by_shim, 'power': by_power}


def undisturbed(work):
    """Seconds from the draft to its end."""
    work.prepare()
    work.begin()
    wait_for('the draft', 60, work.draft, 0.001)
    begun = time.monotonic()
    wait_for('the draft is done with', 120, work.over, 0.001)
    took = time.monotonic() - begun
    wait_for('the work is done', 120, work.done)
    failures = work.down() + work.up()[1]
    if failures:
        raise Failed('undisturbed: %s' % failures)
    return took


def rounds(work, way, count, dice):
    """Does them until so many have hit the work, but not for ever; gives what is wrong."""
    took = median([undisturbed(work) for _ in range(3)])
    moments, shares, outcomes, failures, said, removing = [], [], Counter(), [], 0, 0
    for number in range(2 * count):
        if len(shares) == count:
            break
        work.prepare()
        work.begin()
        wait_for('the draft', 60, work.draft, 0.0005)
        begun = time.monotonic()
        if number % 4 == 3:
            wait_for('the draft is done with', 120, work.over, 0.0005)
            until = time.monotonic() + dice.uniform(0, 0.05)
        else:
            until = begun + dice.uniform(0, took)
        if way == 'shim':
            work.shims = [pid for pid, comm in work.host.processes() if comm.startswith('longshore')]
        time.sleep(max(0, until - time.monotonic()))
        moment = time.monotonic() - begun
        hit, wrong = WAYS[way](work, dice)
        try:
            outcome, more = work.up()
        except Failed as error:
            outcome, more = 'stuck', ['%s\n%s' % (error, json.dumps(work.host.status()))]
        wrong += more
        if work.draft():
            wrong.append('a draft is left: %s' % work.draft())
        said += work.acknowledged()
        if hit is not None:
            # What was replaced is a draft too, until it is removed.
            replaced = work.kind == 'restore' and work.before == work.new
            removing += replaced
            shares += [] if replaced else [min(1, hit / work.bytes)]
            moments += [] if replaced else [moment]
        outcomes[outcome] += 1
        for text in wrong:
            failures.append('%s, %s, round %d after %.0f ms: %s' % (work.kind, way, number + 1, moment * 1000, text))
            say('WRONG: ' + failures[-1])
    row = (work.kind, way, sum(outcomes.values()), '%.0f ms' % (took * 1000), len(shares),
           '%.0f-%.0f ms' % (min(moments) * 1000, max(moments) * 1000) if moments else '-',
           '%d%%-%d%%' % (min(shares) * 100, max(shares) * 100) if shares else '-',
           sum(share < 0.999 for share in shares), sum(share >= 0.999 for share in shares), removing, sum(outcomes.values()) - len(shares) - removing, said,
           ', '.join('%s %d' % o for o in sorted(outcomes.items())), len(failures))
    say(ROW % row)
    if len(shares) < count // 2:
        failures.append('%s, %s: only %d of %d rounds hit the work' % (work.kind, way, len(shares), sum(outcomes.values())))
    return failures


ROW = '%-9s %-7s %6s %12s %7s %13s %9s %8s %8s %9s %5s %5s  %-36s %s'
HEAD = ('work', 'gone', 'rounds', 'undisturbed', 'in the', 'moments', 'of it', 'while', 'while', 'while the', 'after', 'said', 'what was there', 'wrong')
BELOW = ('', '', '', 'takes', 'work', '', 'copied', 'copying', 'syncing', 'old goes', '', 'done', '', '')


def trash(host):
    return [at for at in glob.glob(host.data + '/volumes/.trash/*') + glob.glob(host.data + '/volumes/.new-*') + glob.glob(host.data + '/snapshots/*/.*')]


def on(host, folders, image, sums, bytes, works, ways, options, dice):
    """All that is done on one machine."""
    made, failures = {}, []
    for kind in works:
        work = made[kind] = WORKS[kind](host, image, sums, bytes)
        work.kind = kind
    for called in 'ba':
        made[works[0]].cli('import', '--replace', 'keep', folders[called])
        made[works[0]].cli('snapshot', '-q', 'keep', called)
    for kind in works:
        for way in ways:
            if way != 'shim' or kind == 'fill':
                failures += rounds(made[kind], way, options.rounds, dice)
    for called in 'ab':
        found = made[works[0]].name(seen('%s/snapshots/keep/%s/_data' % (host.data, called)))
        failures += [] if found == called else ['the snapshot %s holds %s at the end' % (called, found)]
    return failures


def main():
    options = argparse.ArgumentParser(description='kills and power cuts while volumes are filled, copied and put back')
    options.add_argument('--rounds', type=int, default=20, help='that hit each kind of work, by each way to disturb it')
    options.add_argument('--seed', type=int, default=1)
    options.add_argument('--work', default='fill,snapshot,restore')
    options.add_argument('--by', default='daemon,shim,power')
    options.add_argument('--large', type=int, default=24, help='files of 4 MiB')
    options.add_argument('--small', type=int, default=2000, help='files of a few kB')
    options = options.parse_args()
    works, ways = options.work.split(','), options.by.split(',')
    dice, failures, begun = random.Random(options.seed), [], time.monotonic()
    with Lab() as lab:
        say('making an image')
        root = lab.path('root')
        run(os.path.join(TOOLS, 'busybox-root.sh'), root, lab.program('work.c'))
        folders = {'a': root + '/data', 'b': lab.path('data')}
        for folder in folders.values():
            content(folder, dice, options.large, options.small)
        with open(root + '/sum.sh', 'w') as out:
            out.write(SUM)
        image = lab.image_of('soak/content', root)
        sums = {EMPTY: EMPTY, **{called: seen(folder) for called, folder in folders.items()}}
        bytes = size(root + '/data')
        say('what a volume holds: %.0f MB, %d files' % (bytes / 1e6, sum(len(names) for _, _, names in os.walk(root + '/data'))))
        say('\n' + ROW % HEAD + '\n' + ROW % BELOW)
        kills = [way for way in ways if way != 'power']
        if kills:
            host = lab.daemon()
            host.start().ready()
            failures += on(host, folders, image, sums, bytes, works, kills, options, dice)
            failures += ended(host)
        if 'power' in ways:
            port = int(lab.address.split(':')[1])
            lab.stop_registry()
            machine = Machine(lab)
            lab.daemons.append(machine)
            machine.boot()
            machine.registry(port)
            machine.start().ready()
            failures += on(machine, folders, image, sums, bytes, works, ['power'], options, dice)
            failures += panics(machine)
        say('\ntook %.0f s' % (time.monotonic() - begun))
        close_with(failures, 'volumes.py: %d hits of each of %s, by %s' % (options.rounds, ', '.join(works), ', '.join(ways)))


def panics(host):
    return ['the daemon panicked: ' + text[:300] for text in host.log_text().split('panicked')[1:]]


def ended(host):
    """An orderly end: nothing is left over that is not a volume or a snapshot."""
    host.terminate()
    host.start().ready()
    failures = ['left over: %s' % at for at in trash(host)]
    for name in os.listdir(host.state):
        host.remove(name)
    wait_for('the fuse', 20, lambda: (host.status() or {}).get('folder', {}).get('held') or not host.containers())
    host.cli('confirm')
    wait_for('all are gone', 60, lambda: not host.containers() and host.settled())
    host.terminate()
    return failures + ['left over, %s: %s' % (k, v[:5]) for k, v in host.leftovers().items() if v] + panics(host)


main()
