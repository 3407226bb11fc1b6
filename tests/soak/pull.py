#!/usr/bin/env python3
"""pull.py - one pull that is interrupted again and again: by cut connections, then by kill -9 of the daemon.

  pull.py [--times N] [--seed S]

Between the daemon and the registry stands a relay that counts the bytes, slows them down, and cuts at random places. What was fetched
in total is held against the size of the image; at the end the image must be whole, and nothing of the pull may be left.
"""
import argparse, json, os, random, sys, time

sys.dont_write_bytecode = True
from lab import Lab, close_with, half_layers, say, wait_for
from proxy import Relay

SIZES = (40, 24, 12, 4)  # MiB of the layers
RATE = 24 << 20
# Of the image's size. Each interruption may lose what was on the way, in each of the three layers that are fetched at once.
MOST = 1.3


def state_file(image):
    check = 'cd /data && find . -type f | sort | xargs cat | sha256sum'
    return json.dumps({'services': {'sum': {'image': image, 'network_mode': 'none', 'restart': 'no', 'command': ['sh', '-c', check]}}})


class Run:
    """One daemon that pulls through the relay."""

    def __init__(self, lab, name, image, relay, expected):
        self.daemon, self.image, self.relay, self.expected = lab.daemon(name), image, relay, expected
        relay.forget()

    def done(self):
        """The container that shows the sum has ended."""
        container = self.daemon.containers().get('a-sum-1')
        return container if container and container['state']['status'] == 'exited' else None

    def finish(self, what, size, seconds, failures):
        begun = time.monotonic()
        try:
            wait_for('the container of the pulled image', 300, self.done, 0.1)
        finally:
            share = self.relay.sent / size
            say('%-22s %3d times  fetched %6.1f MiB of %5.1f: %.2f of the image, %5.1f s' % (
                what, self.relay.cuts or self.kills, self.relay.sent / 1048576, size / 1048576, share, time.monotonic() - begun + seconds))
        said = self.daemon.cli('logs', 'a-sum-1')[1].split()[:1]
        if said != [self.expected]:
            failures.append('%s: the container sees %s and not %s' % (what, said, self.expected))
        if share > MOST:
            failures.append('%s: %.2f times the image was fetched; more than %.1f' % (what, share, MOST))
        if 'panicked' in self.daemon.log_text():
            failures.append('%s: a panic' % what)
        self.daemon.remove('a.yaml')
        wait_for('all is removed', 60, lambda: not self.daemon.containers() and self.daemon.settled())
        images = self.daemon.data + '/images'
        left = [at + '/' + name for at in ('ingest', 'partial') if os.path.isdir(images + '/' + at) for name in os.listdir(images + '/' + at)]
        if left:
            failures.append('%s: left over: %s' % (what, left[:5]))
        failures += ['%s: %s' % (what, bad) for bad in half_layers(self.daemon.data)]
        self.daemon.destroy()

    kills = 0

    def cut(self, times, size, random_):
        self.daemon.start().ready()
        begun = time.monotonic()
        self.daemon.put('a.yaml', state_file(self.image))
        for number in range(times):
            self.relay.cut_after(random_.randint(size // times // 4, size // times))
            wait_for('cut %d' % (number + 1), 180, lambda: self.relay.cuts > number or self.done(), 0.01)
        return time.monotonic() - begun

    def kill(self, times, size, random_):
        begun = time.monotonic()
        self.daemon.start().ready()
        self.daemon.put('a.yaml', state_file(self.image))
        for number in range(times):
            until = self.relay.sent + random_.randint(size // times // 4, size // times)
            wait_for('the bytes before kill %d' % (number + 1), 180, lambda: self.relay.sent >= until or self.done(), 0.005)
            self.daemon.kill()
            self.kills += 1
            self.daemon.start().ready()
        return time.monotonic() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--times', type=int, default=20)
    parser.add_argument('--seed', type=int, default=random.randrange(10000))
    args = parser.parse_args()
    say('seed %d' % args.seed)
    random_, failures = random.Random(args.seed), []
    with Lab() as lab:
        image, expected, size = lab.layered_image('soak/layers', SIZES)
        relay = Relay(lab.registry(), RATE)
        image = image.replace(lab.registry(), relay.address)
        for what in ('cut', 'kill'):
            run = Run(lab, what, image, relay, expected)
            seconds = getattr(run, what)(args.times, size, random_)
            run.finish({'cut': 'connections cut', 'kill': 'daemon killed -9'}[what], size, seconds, failures)
    close_with(failures, 'pull.py')


main()
