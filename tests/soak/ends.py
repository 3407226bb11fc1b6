#!/usr/bin/env python3
"""ends.py - how containers end that do not want to, and that what is recorded of an end is true.

  ends.py [--codes N] [--batch N] [--zombies N]

The hard ones: one that ignores SIGTERM, one of 4000 processes that forks without end, one with N zombies (10000), one with children
that left their parent and their session. Each is stopped by taking its file away: how long from then until the status does not know
it any more, beside its grace of 2 s; and afterwards no process, cgroup, mount or folder of it may be left.
Then N containers (1000) that exit with code 3 as fast as they can, in files of a batch each: what is recorded of each on disk, what
the status says of it, and that nothing is left once the files are gone. Each batch is made anew while the last one is removed.
"""
import argparse, collections, glob, json, os, time
from lab import Lab, close_with, run, say, wait_for

GRACE = 2.0
HARD = '''services:
  it:
    image: %s
    network_mode: none
    restart: always
    stop_grace_period: 2s
    pids_limit: %d
    command: %s
'''
CODES = '''services:
  three:
    image: %s
    network_mode: none
    restart: "no"
    scale: %d
    command: [work, exit, "3"]
'''


def hard(daemon, image, options, failures):
    """(name, pids limit, command, what it says once it is ready, how many processes it has then)"""
    cases = [('stubborn', 100, '[work, stubborn]', 'stubborn', 1),
             ('fork bomb', 4000, '[work, forkbomb]', 'forked 3999 errno 11', 4000),
             ('zombies', options.zombies + 100, '[work, zombies, "%d"]' % options.zombies, '%d zombies' % options.zombies, options.zombies + 1),
             ('orphans', 100, '[sh, -c, "for i in 1 2 3 4 5; do work orphan; done; exec work stubborn"]', 'stubborn', 6),
             ('orphans of a main process that left', 100, '[sh, -c, "work orphan; work orphan; exit 3"]', 'orphan tick', None)]
    say('%-38s %10s %10s %10s' % ('what', 'processes', 'stop', 'left over'))
    for name, limit, command, ready, count in cases:
        file = 'p%d.yaml' % len(name)
        daemon.put(file, HARD % (image, limit, command))
        wait_for('%s runs' % name, 60, lambda: daemon.pids() or name.endswith('left'))
        wait_for('%s is ready' % name, 120, lambda: any(ready in open(log).read() for log in glob.glob(daemon.data + '/containers/*/logs/log')), 0.05)
        pids = usage(daemon)
        begun = time.monotonic()
        daemon.remove(file)
        wait_for('%s is gone' % name, 60, lambda: not daemon.containers() and daemon.settled(), 0.01)
        took = time.monotonic() - begun
        left = leftovers(daemon)
        # A removal is acted upon after 0.3 s; ending thousands of processes takes a moment on a slow machine.
        if took > GRACE + 8:
            failures.append('%s: %.1f s to stop with a grace of %g s' % (name, took, GRACE))
        if left:
            failures.append('%s: left over: %s' % (name, left))
        if count is not None and pids != count:
            failures.append('%s: %s processes, not %d' % (name, pids, count))
        say('%-38s %10s %8.2f s %10s' % (name, pids, took, left or 'nothing'))


def usage(daemon):
    code, body = daemon.get('/api/v1/stats')
    found = [c['pids']['current'] for c in json.loads(body)['containers'] if c['pids']] if code == 200 else []
    return found[0] if found else None


def leftovers(daemon):
    return {kind: names for kind, names in daemon.leftovers().items() if names}


def codes(daemon, image, options, failures):
    recorded, told, records = collections.Counter(), collections.Counter(), 0
    begun = time.monotonic()
    for at in range(0, options.codes, options.batch):
        count, file = min(options.batch, options.codes - at), 'codes-%04d.yaml' % at
        daemon.put(file, CODES % (image, count))
        name = file.split('.')[0]

        def ended():
            mine = [c for c in daemon.containers().values() if c['project'] == name]
            return mine if len(mine) == count and all(c['state']['status'] == 'exited' for c in mine) else None
        for container in wait_for('%s has ended' % file, 300, ended, 0.1):
            told[(container['state']['code'], container['state']['how'])] += 1
            record = json.load(open('%s/containers/%s/exit' % (daemon.data, container['id'])))
            recorded[(record.get('code'), record.get('signal'), record['oom'])] += 1
            records += container['restarts'] == 0
        daemon.remove(file)
    took = time.monotonic() - begun
    wait_for('all are gone', 120, lambda: not daemon.containers() and daemon.settled(), 0.1)
    say('%d containers that exit with code 3, %d at once: %.0f s' % (options.codes, options.batch, took))
    say('recorded (code, signal, oom):', dict(recorded))
    say('told:', dict(told))
    if recorded != {(3, None, False): options.codes} or told != {(3, 'exit code 3'): options.codes} or records != options.codes:
        failures.append('not %d times code 3, each once' % options.codes)
    left = leftovers(daemon)
    say('left over:', left or 'nothing')
    if left:
        failures.append('left over: %s' % left)


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument('--codes', type=int, default=1000)
    ask.add_argument('--batch', type=int, default=100)
    ask.add_argument('--zombies', type=int, default=10000)
    options = ask.parse_args()
    failures = []
    with Lab() as lab:
        image = lab.image('soak/ends')
        daemon = lab.daemon().start()
        daemon.ready()
        hard(daemon, image, options, failures)
        codes(daemon, image, options, failures)
    close_with(failures, 'ends')


if __name__ == '__main__':
    main()
