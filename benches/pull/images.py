"""The images of the pull benchmark, made from nothing, and the registry that has them.

wide      20 layers with 20,000 small files
big       one layer of 500 MB of text
postgres  a Debian and a layer with PostgreSQL, by debootstrap; left out where that does not work

Each is pushed twice by skopeo: `oci-gzip` and `oci-zstd`.
"""
import hashlib, io, json, os, random, shutil, subprocess, tarfile, time, urllib.request

MADE = 1700000000
OCI = 'application/vnd.oci.image.'
ARCH = {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(os.uname().machine, os.uname().machine)
WORDS = []


def text(source, size):
    """Something that compresses as text does."""
    if not WORDS:
        letters = random.Random(7)
        WORDS.extend(''.join(letters.choice('etaoinshrdlucmfwyp') for _ in range(letters.randint(2, 10))).encode() for _ in range(4096))
    parts, length = [], 0
    while length < size:
        parts.append(b' '.join(source.choices(WORDS, k=min(20000, size // 6 + 8))) + b'\n')
        length += len(parts[-1])
    return b''.join(parts)[:size]


def entry(tar, name, data=None, mode=0o644, **more):
    info = tarfile.TarInfo(name)
    info.mtime, info.mode = MADE, mode
    info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
    info.size = len(data or b'')
    for key, value in more.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data or b''))


def busybox(tar):
    for folder in ('bin', 'etc', 'tmp', 'data'):
        entry(tar, folder, mode=0o755)
    entry(tar, 'bin/busybox', open('/bin/busybox', 'rb').read(), 0o755)
    for applet in ('sh', 'true', 'sleep', 'sha256sum', 'cat', 'find'):
        entry(tar, 'bin/' + applet, b'', 0o777, type=tarfile.SYMTYPE, linkname='busybox')
    entry(tar, 'etc/passwd', b'root:x:0:0:root:/:/bin/sh\n')


def wide(work):
    source, layers = random.Random(42), []
    for number in range(20):
        layers.append('%s/wide-%d.tar' % (work, number))
        with tarfile.open(layers[-1], 'w') as tar:
            if number == 0:
                busybox(tar)
            for folder in range(10):
                entry(tar, 'data/%d-%d' % (number, folder), mode=0o755)
                for file in range(100):
                    size = int(200 + source.paretovariate(1.3) * 400) % 16384
                    entry(tar, 'data/%d-%d/%d' % (number, folder, file), text(source, size), uid=folder * 100, gid=folder)
            for file in range(10 if number else 0):  # each layer also removes and replaces a little of the one before
                entry(tar, 'data/%d-0/.wh.%d' % (number - 1, file), b'')
                entry(tar, 'data/%d-1/%d' % (number - 1, file), b'replaced\n')
    return layers


def big(work):
    source, layer = random.Random(43), work + '/big.tar'
    with tarfile.open(layer, 'w') as tar:
        busybox(tar)
        for number in range(50):
            entry(tar, 'data/%02d.txt' % number, text(source, 10_000_000))
    return [layer]


def postgres(work):
    root = work + '/root'
    shutil.rmtree(root, ignore_errors=True)
    quiet = {'check': True, 'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL, 'timeout': 1200}
    subprocess.run(['debootstrap', '--variant=minbase', 'bookworm', root] + mirror(), **quiet)
    base = seen(root)
    layers = [packed(work + '/debian.tar', root, base)]
    shutil.copy('/etc/resolv.conf', root + '/etc/resolv.conf')
    os.makedirs(root + '/etc/postgresql-common', exist_ok=True)
    with open(root + '/etc/postgresql-common/createcluster.conf', 'w') as out:
        out.write('create_main_cluster = false\n')
    with open(root + '/usr/sbin/policy-rc.d', 'w') as out:
        out.write('#!/bin/sh\nexit 101\n')
    os.chmod(root + '/usr/sbin/policy-rc.d', 0o755)
    environment = {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'DEBIAN_FRONTEND': 'noninteractive', 'LC_ALL': 'C.UTF-8'}
    for command in (['apt-get', 'update'], ['apt-get', 'install', '-y', '--no-install-recommends', 'postgresql-15'], ['apt-get', 'clean']):
        subprocess.run(['chroot', root] + command, env=environment, **quiet)
    shutil.rmtree(root + '/var/lib/apt/lists')
    now = seen(root)
    layers.append(packed(work + '/postgres.tar', root, [path for path in now if base.get(path) != now[path]]))
    shutil.rmtree(root)
    return layers


def mirror():
    """The mirror that apt uses on this machine."""
    said = subprocess.run(['apt-get', 'indextargets', '--format', '$(SITE)', 'Created-By: Packages'], capture_output=True, text=True).stdout
    return [line for line in said.split() if 'security' not in line][:1]


def seen(root):
    found = {}
    for at, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(at, name)
            status = os.lstat(path)
            found[os.path.relpath(path, root)] = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_uid)
    return found


def packed(layer, root, paths):
    with tarfile.open(layer, 'w') as tar:
        for path in sorted(paths):
            if not path.startswith(('dev/', 'proc/', 'sys/')):
                tar.add(os.path.join(root, path), path, recursive=False)
    return layer


def put_blob(layout, path):
    """Moves a file into an OCI layout."""
    sum = hashlib.sha256()
    with open(path, 'rb') as data:
        while piece := data.read(1 << 20):
            sum.update(piece)
    size = os.path.getsize(path)
    os.makedirs(layout + '/blobs/sha256', exist_ok=True)
    os.rename(path, '%s/blobs/sha256/%s' % (layout, sum.hexdigest()))
    return {'digest': 'sha256:' + sum.hexdigest(), 'size': size}


def put_json(layout, value):
    path = layout + '/new.json'
    with open(path, 'w') as out:
        json.dump(value, out)
    return put_blob(layout, path)


def write_layout(layout, layers):
    os.makedirs(layout)
    blobs = [put_blob(layout, layer) for layer in layers]
    config = put_json(layout, {'architecture': ARCH, 'os': 'linux', 'config': {'Env': ['PATH=/usr/bin:/bin'], 'Cmd': ['sh']},
                               'rootfs': {'type': 'layers', 'diff_ids': [blob['digest'] for blob in blobs]}})
    manifest = put_json(layout, {'schemaVersion': 2, 'mediaType': OCI + 'manifest.v1+json',
                                 'config': {'mediaType': OCI + 'config.v1+json', **config},
                                 'layers': [{'mediaType': OCI + 'layer.v1.tar', **blob} for blob in blobs]})
    with open(layout + '/oci-layout', 'w') as out:
        out.write('{"imageLayoutVersion":"1.0.0"}')
    with open(layout + '/index.json', 'w') as out:
        json.dump({'schemaVersion': 2, 'manifests': [{'mediaType': OCI + 'manifest.v1+json', **manifest, 'annotations': {'org.opencontainers.image.ref.name': 'made'}}]}, out)


def make(folder, name, say):
    """The OCI layout of an image, kept for the next time; None where it cannot be made."""
    layout, work = '%s/%s' % (folder, name), '%s/%s.work' % (folder, name)
    if not os.path.exists(layout + '/index.json'):
        begun = time.monotonic()
        for old in (layout, work):
            shutil.rmtree(old, ignore_errors=True)
        os.makedirs(work)
        try:
            write_layout(layout, {'wide': wide, 'big': big, 'postgres': postgres}[name](work))
        except (OSError, subprocess.SubprocessError) as error:
            shutil.rmtree(layout, ignore_errors=True)
            say('%s is left out: %s' % (name, str(error)[:200]))
            return None
        finally:
            shutil.rmtree(work, ignore_errors=True)
        say('made %s in %.0f s' % (name, time.monotonic() - begun))
    return layout


def push(layout, address, name, kind):
    """skopeo knows blobs of earlier pushes and would take one of another compression: the caller hides its cache."""
    subprocess.run(['skopeo', 'copy', '-q', '--insecure-policy', '--dest-tls-verify=false', '--format', 'oci', '--dest-compress-format', kind,
                    'oci:%s:made' % layout, 'docker://%s/%s:oci-%s' % (address, name, kind)], check=True, timeout=600)


def layers(address, name, kind):
    """[(address of the blob, digest, bytes)] of an image in a plain HTTP registry; None where it is not there."""
    host, _, folder = address.partition('/')
    request = urllib.request.Request('http://%s/v2/%s/%s/manifests/oci-%s' % (host, folder, name, kind), headers={'Accept': OCI + 'manifest.v1+json'})
    try:
        manifest = json.load(urllib.request.urlopen(request, timeout=20))
    except OSError:
        return None
    return [('http://%s/v2/%s/%s/blobs/%s' % (host, folder, name, layer['digest']), layer['digest'], layer['size']) for layer in manifest['layers']]
