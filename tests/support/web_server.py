"""A web server for the pages that a browser is sent to."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Web:
    """Notes every request. `answers` by path: a status, or (status, type, content), or a list of these."""

    def __init__(self):
        self.answers = {}
        self.requests = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                web.requests.append((self.path, body))
                answer = web.answers.get(self.path.partition("?")[0], 404)
                if isinstance(answer, list):  # one after the other; the last one for ever
                    answer = answer.pop(0) if len(answer) > 1 else answer[0]
                status, kind, content = answer if isinstance(answer, tuple) else (answer, "text/plain", b"")
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET  # noqa: N815  the name that http.server calls

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port

    def page(self, path, html):
        """Serve a page; return its URL."""
        self.answers[path] = (200, "text/html; charset=utf-8", f"<!doctype html>{html}".encode())
        return f"http://localhost:{self.port}{path}"


@contextmanager
def web_server():
    """A web server on a free port, for the time of a block."""
    web = Web()
    thread = threading.Thread(target=web.server.serve_forever)
    thread.start()
    try:
        yield web
    finally:
        web.server.shutdown()
        thread.join()
        web.server.server_close()
