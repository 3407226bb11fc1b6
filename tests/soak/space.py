#!/usr/bin/env python3
"""space.py - the disk is full in the middle of a pull, while a container runs.

The data directory is a small ext4. An image that does not fit is wanted: the status must say so in words that help, the running
container must not notice, and what was fetched must be given back. Then a large file is removed, and the pull must end well by itself.
"""
import json, os, subprocess, sys, time

sys.dont_write_bytecode = True
from lab import TICK, Failed, Lab, close_with, half_layers, run, say, start_times, wait_for

MIB = 1 << 20
SIZE, FILLER, IMAGE = 800, 580, (120, 110, 30)  # MiB


def used(folder):
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize / MIB


def free(folder):
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize / MIB


def main():
    failures = []

    def must(true, text):
        if not true:
            failures.append(text)

    with Lab() as lab:
        small = lab.image('soak/tick')
        image, expected, size = lab.layered_image('soak/large', IMAGE)
        daemon = lab.daemon()
        disk = lab.path('disk.img')
        run('truncate', '-s', '%dM' % SIZE, disk)
        run('mkfs.ext4', '-q', '-F', '-m', '0', disk)
        os.makedirs(daemon.data)
        run('mount', '-o', 'loop', disk, daemon.data)
        filler = daemon.data + '/filler'
        run('fallocate', '-l', '%dM' % FILLER, filler)
        daemon.start().ready()
        daemon.put('by.yaml', TICK % (small, 1))
        wait_for('the bystander runs', 60, daemon.pids)
        daemon.settle()
        before, at_first = start_times(daemon.pids()), used(daemon.data)
        say('%.0f MiB are free; an image of %.0f MiB is wanted' % (free(daemon.data), size / MIB))

        command = ['sh', '-c', 'cd /data && find . -type f | sort | xargs cat | sha256sum']
        daemon.put('a.yaml', json.dumps({'services': {'sum': {'image': image, 'network_mode': 'none', 'restart': 'no', 'command': command}}}))
        most = [0]

        def failed():
            most[0] = max(most[0], used(daemon.data))
            state = next((i['state'] for i in (daemon.status() or {'images': []})['images'] if i['image'] == image), {})
            return state if state.get('status') == 'failed' else None
        state = wait_for('the pull fails', 120, failed, 0.05)
        say('status says: ' + state['error'])
        say('next attempt: %s' % state['next_attempt'])
        must('space' in state['error'], 'the message does not name the space: ' + state['error'])
        must(state['next_attempt'], 'it is not tried again')

        def given_back():
            most[0] = max(most[0], used(daemon.data))
            return free(daemon.data) > 20
        try:
            wait_for('room is made', 10, given_back, 0.05)
        except Failed:
            must(False, 'what was fetched is not given back: %.0f MiB are free' % free(daemon.data))
        say('used: %.0f MiB before, %.0f at most, %.0f after the failure' % (at_first, most[0], used(daemon.data)))
        line = os.path.getsize(next(os.path.join(at, 'log') for at, _, names in os.walk(daemon.data + '/containers') if at.endswith('/logs') and 'log' in names))
        time.sleep(1)
        grown = os.path.getsize(next(os.path.join(at, 'log') for at, _, names in os.walk(daemon.data + '/containers') if at.endswith('/logs') and 'log' in names))
        must(grown > line, 'the output of the bystander is not kept any more')
        must(start_times(daemon.pids()).get('by-tick-1') == before['by-tick-1'], 'the bystander is another process')
        code, said = daemon.cli('status')
        must('space' in said, 'longshore status does not say it: ' + said[-400:])

        os.unlink(filler)
        begun = time.monotonic()
        say('a file of %d MiB is removed' % FILLER)
        container = wait_for('the image is pulled and has run', 200, lambda: (lambda c: c if c and c['state']['status'] == 'exited' else None)(daemon.containers().get('a-sum-1')), 0.2)
        say('pulled and run %.1f s later, %s' % (time.monotonic() - begun, container['state']['how']))
        out = daemon.cli('logs', 'a-sum-1')[1].split()[:1]
        must(out == [expected], 'the container sees %s and not %s' % (out, expected))
        must(start_times(daemon.pids()).get('by-tick-1') == before['by-tick-1'], 'the bystander is another process')
        failures.extend(half_layers(daemon.data))
        images = daemon.data + '/images'
        left = [name for at in ('ingest', 'partial') if os.path.isdir(images + '/' + at) for name in os.listdir(images + '/' + at)]
        must(not left, 'left over: %s' % left)
        must('panicked' not in daemon.log_text(), 'a panic')
    still = subprocess.run(['losetup', '-j', disk], capture_output=True, text=True).stdout
    must(not still, 'the loop device is still there: ' + still)
    close_with(failures, 'space.py')


main()
