"""The base of all local HTTP servers of the tests: an address, threads, bodies in and out."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LocalServer:
    """Serves while it is entered; `handle(http, method, body)` of the subclass answers."""

    def __enter__(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def _pass_on(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.handle(self, self.command, body)

            do_GET = do_POST = do_DELETE = _pass_on

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        return self

    def __exit__(self, *error):
        self.http.shutdown()
        self.http.server_close()

    @staticmethod
    def hang_up(http):
        """Close the connection without an answer."""
        http.close_connection = True
        http.connection.close()

    @staticmethod
    def send(http, status, headers, body):
        """Answer with bytes, or with anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        http.send_response(status)
        for key, value in headers.items():
            http.send_header(key, value)
        http.send_header("Content-Length", str(len(data)))
        http.end_headers()
        http.wfile.write(data)
