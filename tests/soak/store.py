#!/usr/bin/env python3
"""store.py - the database damaged in every way while the daemon is stopped: nothing that runs is touched, and it is said aloud."""
import glob, os, random, shutil
from lab import TICK, Lab, close_with, say, start_times, wait_for


def biggest(db):
    files = [f for f in glob.glob(db + '/**', recursive=True) if os.path.isfile(f)]
    return max(files, key=os.path.getsize)


def used(path):
    """Where the data of a sparse file end."""
    data = open(path, 'rb').read()
    return len(data.rstrip(b'\0'))


def delete(db):
    shutil.rmtree(db)


def delete_with_mark(db):
    shutil.rmtree(db)
    for mark in glob.glob(db + '.*'):
        os.unlink(mark)


def empty(db):
    for file in glob.glob(db + '/**', recursive=True):
        if os.path.isfile(file):
            open(file, 'w').close()


def empty_folder(db):
    shutil.rmtree(db)
    os.mkdir(db)


def cut_short(db):
    path = biggest(db)
    os.truncate(path, used(path) // 2)


def cut_short_a_little(db):
    path = biggest(db)
    os.truncate(path, max(0, used(path) - 100))


def garbage(db):
    path = biggest(db)
    size = os.path.getsize(path)
    with open(path, 'r+b') as out:
        out.write(random.Random(1).randbytes(size))


def garbage_in_all(db):
    for file in glob.glob(db + '/**', recursive=True):
        if os.path.isfile(file):
            with open(file, 'wb') as out:
                out.write(random.Random(2).randbytes(5000))


def zeroed(db):
    path = biggest(db)
    with open(path, 'r+b') as out:
        out.write(b'\0' * used(path))


def a_file_instead(db):
    shutil.rmtree(db)
    with open(db, 'w') as out:
        out.write('this is no database')


def bit(at):
    def flip(db):
        path = biggest(db)
        place = int(used(path) * at)
        with open(path, 'r+b') as out:
            out.seek(place)
            byte = out.read(1)[0]
            out.seek(place)
            out.write(bytes([byte ^ 4]))
    flip.__name__ = 'bit flipped at %d%%' % (at * 100)
    return flip


# A single bit may lie where nothing is kept: there a note is welcome, and none is no fault, as long as everything is still right.
CASES = [(delete, True), (delete_with_mark, False), (empty, True), (empty_folder, True), (cut_short, True), (cut_short_a_little, False), (garbage, True),
         (garbage_in_all, True), (zeroed, True), (a_file_instead, True)] + [(bit(at / 10), False) for at in range(1, 10)]


def main():
    failures = []
    with Lab() as lab:
        image = lab.image('soak/work')
        daemon = lab.daemon()
        daemon.start().ready()
        for project in ('one', 'two', 'three'):
            daemon.put(project + '.yaml', TICK % (image, 2))
        wait_for('all run', 60, lambda: len(daemon.pids()) == 6 and daemon.settled())
        before = start_times(daemon.pids())
        say('%-22s %-6s %-9s %s' % ('damage', 'ready', 'same pids', 'note'))
        for case, must_tell in CASES:
            name = case.__name__.replace('_', ' ')
            # Something to damage: an edit that touches nothing that runs.
            daemon.put('three.yaml', '# before: %s\n' % name + TICK % (image, 2))
            daemon.settle()
            daemon.terminate()
            case(os.path.join(daemon.data, 'db'))
            daemon.start()
            took = daemon.ready()
            status = daemon.settle()
            note = status['store']['note']
            same = start_times(daemon.pids()) == before
            restarts = sum(c['restarts'] for c in daemon.containers().values())
            say('%-22s %3.0f ms %-9s %s' % (name, took * 1000, 'yes' if same and not restarts else 'NO', note or '-'))
            if not same or restarts:
                failures.append('%s: other processes' % name)
            if must_tell and not note:
                failures.append('%s: nothing is said' % name)
            if note and note.split(';')[0][:30] not in daemon.log_text():
                failures.append('%s: the note is not in the log' % name)
        if 'panicked' in daemon.log_text():
            failures.append('the daemon panicked: ' + daemon.log_text().split('panicked', 1)[1][:300])
        # An edit is followed as ever.
        daemon.put('one.yaml', TICK % (image, 1))
        wait_for('an edit is followed', 20, lambda: len(daemon.pids()) == 5 and daemon.settled())
        for project in ('one', 'two', 'three'):
            daemon.remove(project + '.yaml')
        wait_for('the fuse', 10, lambda: (daemon.status() or {}).get('folder', {}).get('held') or not daemon.pids())
        daemon.cli('confirm')
        wait_for('all are gone', 60, lambda: not daemon.containers() and daemon.settled())
        daemon.terminate()
        left = daemon.leftovers()
        failures += ['left over, %s: %s' % (k, v[:5]) for k, v in left.items() if v]
        aside = sorted(os.path.basename(f) for f in glob.glob(daemon.data + '/db*broken*') + glob.glob(daemon.data + '/db.*') if not f.endswith('mark'))
        say('set aside: %d' % len(aside))
        close_with(failures, 'store.py: %d kinds of damage, 6 containers' % len(CASES))


main()
