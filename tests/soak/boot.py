#!/usr/bin/env python3
"""boot.py - a project of ten services comes up by itself after a reboot and after a power cut, with no registry and no network.

  boot.py [--rounds N]

The machine is tests/tools/pocket, the project one file: services that wait for others to be started, healthy or done, on a network with
names. Each round halts the machine in order or cuts its power, boots it with nothing but its disk, and waits until all services are
healthy. From the log: who was started when, and whether each came after all that it depends on. Tasks that were done stay done.
"""
import argparse, datetime, json, re, time
from lab import Failed, Lab, close_with, median, say, wait_for
from machine import Machine

# Service: what it comes after, and how far that has to be; how long it takes until it is healthy, or done.
SERVICES = {
    'setup': ({}, 0.2),
    'db': ({'setup': 'service_completed_successfully'}, 0.6),
    'cache': ({}, 0.2),
    'queue': ({'setup': 'service_completed_successfully'}, 0.3),
    'migrate': ({'db': 'service_healthy'}, 0.3),
    'api': ({'migrate': 'service_completed_successfully', 'db': 'service_healthy', 'cache': 'service_healthy'}, 0.3),
    'worker': ({'api': 'service_healthy', 'queue': 'service_healthy'}, 0.2),
    'web': ({'api': 'service_healthy'}, 0.2),
    'proxy': ({'web': 'service_healthy', 'api': 'service_started'}, 0.2),
    'mailer': ({'worker': 'service_started', 'queue': 'service_healthy'}, 0.2),
}
TASKS = {'setup', 'migrate'}
LINE = re.compile(r'^(\S+) .*kind="(container\.\w+)" what="ten-(\w+)-1"')


def project(image):
    services = {}
    for name, (after, seconds) in SERVICES.items():
        service = {'image': image, 'stop_grace_period': '1s'}
        if name in TASKS:
            service.update(restart='no', command=['sh', '-c', 'sleep %g' % seconds])
        else:
            # Ready once its server listens: a file would be there still after a power cut.
            service.update(restart='unless-stopped', command=['sh', '-c', 'sleep %g; exec work listen 80' % seconds],
                           healthcheck={'test': ['CMD-SHELL', 'nc -w 1 127.0.0.1 80 </dev/null | grep -q ok'], 'interval': '5s', 'start_period': '20s', 'start_interval': '100ms'})
        if after:
            service['depends_on'] = {of: {'condition': condition} for of, condition in after.items()}
        services[name] = service
    return json.dumps({'name': 'ten', 'services': services}, indent=1)


def healthy(machine):
    """The services that are as far as they are meant to come."""
    found = set()
    for name, container in machine.containers().items():
        service, state = name.split('-')[1], container['state']
        if service in TASKS:
            done = state['status'] == 'exited' and state.get('code') == 0
        else:
            done = state['status'] == 'running' and container.get('health', {}).get('status') == 'healthy'
        if done:
            found.add(service)
    return found


def told(machine, since):
    """{(event, service): when}, the first of each since then, in seconds from there."""
    found = {}
    for line in machine.log_text()[since:].splitlines():
        match = LINE.match(line)
        if match:
            at = datetime.datetime.fromisoformat(match.group(1).replace('Z', '+00:00')).timestamp()
            found.setdefault((match.group(2), match.group(3)), at)
    return found


def out_of_order(at, first):
    """Starts that came too early. `first`: tasks run, too."""
    wrong = []
    for name, (after, _) in SERVICES.items():
        started = at.get(('container.started', name))
        if started is None:
            if name not in TASKS or first:
                wrong.append('%s was not started' % name)
            continue
        if name in TASKS and not first:
            wrong.append('%s was done, and ran again' % name)
        for of, condition in after.items():
            event = {'service_started': 'container.started', 'service_healthy': 'container.healthy', 'service_completed_successfully': 'container.exited'}[condition]
            if of in TASKS and not first:
                continue
            if at.get((event, of), float('inf')) > started:
                wrong.append('%s was started before %s was there (%s)' % (name, of, condition))
    return wrong


def main():
    options = argparse.ArgumentParser(description='a project of ten services after reboots and power cuts')
    options.add_argument('--rounds', type=int, default=5)
    options = options.parse_args()
    failures, took = [], {'first start': [], 'halt': [], 'cut': []}
    with Lab() as lab:
        image = lab.image('soak/boot')
        port = int(lab.address.split(':')[1])
        lab.stop_registry()
        machine = Machine(lab)
        lab.daemons.append(machine)
        for round in range(2 * options.rounds + 1):
            how = ('halt', 'cut')[round % 2] if round else 'first start'
            if round:
                if how == 'halt':
                    machine.halt()
                else:
                    machine.cut()
            machine.boot()
            since = len(machine.log_text())
            if not round:
                machine.registry(port)
                machine.put('ten.yaml', project(image), durable=True)
            begun = time.time()
            machine.start()
            ready = machine.ready(30)
            try:
                wait_for('all ten are healthy or done', 60, lambda: len(healthy(machine)) == len(SERVICES), 0.02)
            except Failed:
                status = machine.status() or {}
                raise Failed('%s %d: not as they should be: %s; waiting: %s' % (how, round, sorted(set(SERVICES) - healthy(machine)), json.dumps(status.get('waiting'))))
            at = told(machine, since)
            took[how].append(max(when for (event, _), when in at.items() if event in ('container.healthy', 'container.exited')) - begun)
            wrong = out_of_order(at, not round)
            failures += ['%s %d: %s' % (how, round, text) for text in wrong]
            ways = sorted((when - begun, name) for (event, name), when in at.items() if event == 'container.started')
            say('%-11s ready after %4.0f ms, all healthy after %5.2f s; started: %s%s' % (
                how, ready * 1000, took[how][-1], '  '.join('%s %.2f' % (name, when) for when, name in ways), '  WRONG: %s' % wrong if wrong else ''))
            machine.settle(30)
        close_with(failures, 'boot.py: ten services, without registry and network: all healthy after median %s' % ', '.join(
            '%.2f s (%s, %d)' % (median(values), how, len(values)) for how, values in took.items()))


main()
