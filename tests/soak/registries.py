#!/usr/bin/env python3
"""registries.py - registries as they are: behind TLS with a CA of their own and a client's certificate, behind a login, behind mirrors
that are down, silent, empty or busy.

  registries.py [CASE...]

A case needs the settings of config.json; each has a daemon of its own.
"""
import json, os, subprocess, sys, time

sys.dont_write_bytecode = True
from lab import Failed, Lab, close_with, free_port, run, say, wait_for
from proxy import Front, silent

# bcrypt of PASSWORD with cost 5
USER, PASSWORD, HASH = 'pilot', 'kjell-4471-vik', '$2y$05$abcdefghijklmnopqrstuuZmN.fzUQHWaP7xwCcSDoAFpH.fDCX1q'


class Registries:
    def __init__(self, lab):
        self.lab = lab
        self.plain_image = lab.image('soak/box')
        self.plain = lab.registry()

    def secured(self, name, tls=None, login=False):
        """A second registry on the same blobs."""
        port, dir = free_port(), self.lab.path(name)
        os.makedirs(dir)
        config = {'version': '0.1', 'log': {'level': 'warn', 'accesslog': {'disabled': True}},
                  'storage': {'filesystem': {'rootdirectory': self.lab.path('registry', 'blobs')}}, 'http': {'addr': '127.0.0.1:%d' % port}}
        if tls:
            config['http']['tls'] = tls
        if login:
            with open(dir + '/htpasswd', 'w') as out:
                out.write('%s:%s\n' % (USER, HASH))
            config['auth'] = {'htpasswd': {'realm': 'soak', 'path': dir + '/htpasswd'}}
        with open(dir + '/config.yml', 'w') as out:
            json.dump(config, out)
        log = open(dir + '/log', 'w')
        self.lab.children.append(subprocess.Popen(['docker-registry', 'serve', dir + '/config.yml'], stdout=log, stderr=log))
        time.sleep(0.5)
        return '127.0.0.1:%d' % port

    def certificates(self):
        """A CA, a certificate for 127.0.0.1, and one for the daemon."""
        at = lambda name: self.lab.path(name)
        if not os.path.exists(at('ca.pem')):
            run('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=soak CA', '-keyout', at('ca.key'), '-out', at('ca.pem'))
            for name, extension in (('server', 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth'), ('client', 'extendedKeyUsage=clientAuth')):
                with open(at(name + '.ext'), 'w') as out:
                    out.write('basicConstraints=CA:FALSE\n%s\n' % extension)
                run('openssl', 'req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=soak ' + name, '-keyout', at(name + '.key'), '-out', at(name + '.csr'))
                run('openssl', 'x509', '-req', '-in', at(name + '.csr'), '-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-CAcreateserial', '-days', '2', '-extfile', at(name + '.ext'), '-out', at(name + '.pem'))
        return {'certificate': at('server.pem'), 'key': at('server.key')}, at('ca.pem'), at('client.pem'), at('client.key')

    def daemon(self, name, config):
        path = self.lab.path(name + '.json')
        with open(path, 'w') as out:
            json.dump(config, out)
        daemon = self.lab.daemon(name + '.d', arguments=['--config', path])
        daemon.start().ready()
        return daemon

    def wanted(self, daemon, image):
        daemon.put('a.yaml', json.dumps({'services': {'a': {'image': image, 'network_mode': 'none', 'restart': 'always', 'command': ['work', 'tick', '100']}}}))

    def runs(self, daemon, image, seconds=60):
        """Seconds until it runs."""
        begun = time.monotonic()
        self.wanted(daemon, image)
        wait_for('%s runs' % image, seconds, daemon.pids, 0.05)
        return '%.1f s' % (time.monotonic() - begun)

    def refused(self, daemon, image, *words, seconds=60):
        """What the status says of a pull that fails."""
        self.wanted(daemon, image)

        def failed():
            state = [i['state'] for i in (daemon.status() or {'images': []})['images'] if i['image'] == image]
            return state[0] if state and state[0]['status'] == 'failed' else None
        error = wait_for('the refusal', seconds, failed, 0.05)['error']
        if not any(word in error.lower() for word in words):
            raise Failed('the message has none of %s: %s' % (', '.join(words), error))
        if PASSWORD in error + daemon.log_text() + daemon.cli('status')[1]:
            raise Failed('the password is shown')
        return error


def own_ca(r):
    tls, ca, _, _ = r.certificates()
    host = r.secured('tls', tls)
    return r.runs(r.daemon('own-ca', {'registries': {host: {'plain-http': False, 'ca-file': ca}}}), host + '/soak/box:latest')


def unknown_ca(r):
    tls, _, _, _ = r.certificates()
    host = r.secured('tls-unknown', tls)
    return r.refused(r.daemon('unknown-ca', {'registries': {host: {'plain-http': False}}}), host + '/soak/box:latest', 'certificate', 'tls')


def client_certificate(r):
    tls, ca, certificate, key = r.certificates()
    host = r.secured('mtls', {**tls, 'clientcas': [ca]})
    said = r.refused(r.daemon('no-client', {'registries': {host: {'plain-http': False, 'ca-file': ca}}}), host + '/soak/box:latest', 'certificate', 'tls')
    os.chmod(key, 0o600)
    with_one = {'plain-http': False, 'ca-file': ca, 'client-cert-file': certificate, 'client-key-file': key}
    return '%s; with it: %s' % (said, r.runs(r.daemon('client', {'registries': {host: with_one}}), host + '/soak/box:latest'))


def certs_d(r):
    """The layout of /etc/docker/certs.d."""
    tls, ca, certificate, key = r.certificates()
    host = r.secured('certs-d', {**tls, 'clientcas': [ca]})
    folder = r.lab.path('certs.d', host)
    os.makedirs(folder)
    for source, name in ((ca, 'ca.crt'), (certificate, 'client.cert'), (key, 'client.key')):
        with open(source) as text, open(folder + '/' + name, 'w', opener=lambda p, f: os.open(p, f, 0o600)) as out:
            out.write(text.read())
    return r.runs(r.daemon('certs-d.run', {'certs-dirs': [r.lab.path('certs.d')], 'registries': {host: {'plain-http': False}}}), host + '/soak/box:latest')


def login(r):
    host = r.secured('login', login=True)
    said = r.refused(r.daemon('no-login', {}), host + '/soak/box:latest', 'login', 'unauthorized', '401', 'denied')
    secret = r.lab.path('password')
    with open(secret, 'w', opener=lambda p, f: os.open(p, f, 0o600)) as out:
        out.write(PASSWORD + '\n')
    return '%s; with one: %s' % (said, r.runs(r.daemon('login.run', {'registries': {host: {'username': USER, 'password-file': secret}}}), host + '/soak/box:latest'))


def mirror(r):
    """The first mirror is down, the second has nothing, the third has it; the registry itself does not exist."""
    empty = Front(r.plain, lambda path, times: (404, {}, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}') if '/manifests/' in path else None)
    down = '127.0.0.1:%d' % free_port()
    mirrors = ['http://%s' % down, 'http://' + empty.address, 'http://%s' % r.plain]
    took = r.runs(r.daemon('mirror', {'registries': {'registry.invalid': {'mirrors': mirrors}}}), 'registry.invalid/soak/box:latest')
    if not empty.seen:
        raise Failed('the second mirror was not asked')
    return took


def mirror_silent(r):
    """A mirror that accepts and never answers."""
    mirrors = ['http://' + silent(), 'http://%s' % r.plain]
    return r.runs(r.daemon('silent', {'registries': {'registry.invalid': {'mirrors': mirrors}}}), 'registry.invalid/soak/box:latest', 150)


def mirror_empty(r):
    """The mirror fails and the registry itself has it."""
    down = Front(r.plain, lambda path, times: (503, {}, b''))
    return r.runs(r.daemon('mirror-down', {'registries': {r.plain: {'mirrors': ['http://' + down.address]}}}), r.plain_image)


def busy(r):
    """429 with Retry-After, for the manifest and for each blob."""
    front = Front(r.plain, lambda path, times: (429, {'Retry-After': '1'}, b'') if times == 1 and ('/manifests/' in path or '/blobs/' in path) else None)
    took = r.runs(r.daemon('busy', {}), front.address + '/soak/box:latest')
    return '%s, %d requests' % (took, len(front.seen))


def busy_long(r):
    """429 that asks for an hour: it is not waited out, and the status says it."""
    front = Front(r.plain, lambda path, times: (429, {'Retry-After': '3600'}, b''))
    return r.refused(r.daemon('busy-long', {}), front.address + '/soak/box:latest', '429', 'too many', 'busy', 'rate')


CASES = (own_ca, unknown_ca, client_certificate, certs_d, login, mirror, mirror_silent, mirror_empty, busy, busy_long)


def main():
    wanted, failures = sys.argv[1:], []
    with Lab() as lab:
        registries = Registries(lab)
        for case in CASES:
            name = case.__name__
            if wanted and name not in wanted:
                continue
            try:
                say('%-20s ok      %s' % (name, case(registries)[:300]))
            except (Failed, subprocess.SubprocessError) as error:
                said = getattr(error, 'stderr', '') or ''
                say('%-20s FAILED  %s %s' % (name, error, said[-300:]))
                failures.append('%s: %s' % (name, error))
            for daemon in lab.daemons:
                if 'panicked' in daemon.log_text():
                    failures.append('%s: a panic' % name)
                daemon.destroy()
            lab.daemons.clear()
    close_with(failures, 'registries.py')


main()
