"""What stands between a daemon and a registry: a TCP relay that counts, slows down and cuts, and an HTTP front that misbehaves."""
import http.client, http.server, socket, threading, time


class Relay:
    """Hands bytes through to `target`, at most `rate` bytes a second in all. `cut_after(n)` cuts all connections after n further bytes."""

    def __init__(self, target, rate):
        host, port = target.rsplit(':', 1)
        self.target, self.rate = (host, int(port)), rate
        self.sent, self.cuts, self.left = 0, 0, None
        self.lock, self.pairs, self.clock = threading.Lock(), set(), time.monotonic()
        self.listener = socket.create_server(('127.0.0.1', 0))
        # Little is on its way when it is cut, so that what was sent is about what arrived.
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        self.address = '127.0.0.1:%d' % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def cut_after(self, n):
        with self.lock:
            self.left = n

    def cut(self):
        with self.lock:
            pairs, self.pairs, self.left = self.pairs, set(), None
            self.cuts += 1
        for pair in pairs:
            for one in pair:
                shut(one)

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            try:
                server = socket.create_connection(self.target, 10)
            except OSError:
                client.close()
                continue
            with self.lock:
                self.pairs.add((client, server))
            threading.Thread(target=self.pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self.pump, args=(server, client, True), daemon=True).start()

    def pump(self, source, sink, down):
        try:
            while data := source.recv(16384):
                if down:
                    self.wait(len(data))
                sink.sendall(data)
                if down and self.count(len(data)):
                    self.cut()
        except OSError:
            pass
        shut(source), shut(sink)

    def wait(self, n):
        with self.lock:
            self.clock = max(self.clock, time.monotonic()) + n / self.rate
            pause = self.clock - time.monotonic()
        time.sleep(max(0, pause))

    def count(self, n):
        """Whether it is time for a cut."""
        with self.lock:
            self.sent += n
            if self.left is None:
                return False
            self.left -= n
            return self.left <= 0

    def forget(self):
        with self.lock:
            self.sent, self.cuts, self.left = 0, 0, None


def shut(one):
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    one.close()


class Front:
    """An HTTP front of a registry. `answer(path, times)` may give (status, headers, body) instead of the registry's answer."""

    def __init__(self, target, answer):
        self.seen = []  # paths asked for
        front = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def do_GET(self):
                front.seen.append(self.path)
                own = answer(self.path, front.seen.count(self.path))
                if own:
                    status, headers, body = own
                else:
                    connection = http.client.HTTPConnection(target, timeout=60)
                    kept = {k: v for k, v in self.headers.items() if k.lower() in ('accept', 'range', 'authorization')}
                    connection.request(self.command, self.path, headers=kept)
                    response = connection.getresponse()
                    status, body = response.status, response.read()
                    headers = {k: v for k, v in response.headers.items() if k.lower() not in ('connection', 'transfer-encoding', 'content-length')}
                    if self.command == 'HEAD':
                        headers['Content-Length'] = response.headers.get('Content-Length', '0')
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                if self.command != 'HEAD' or own:
                    self.send_header('Content-Length', str(len(body)))
                self.end_headers()
                if self.command != 'HEAD':
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.address = '127.0.0.1:%d' % self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def silent():
    """The address of something that accepts and never answers."""
    listener = socket.create_server(('127.0.0.1', 0), backlog=64)
    KEPT.append(listener)
    return '127.0.0.1:%d' % listener.getsockname()[1]


KEPT = []
