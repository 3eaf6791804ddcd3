"""nginx and HAProxy as `infra/tls/` configures them, in front of real collectors: address, Secure cookie, reuse."""

import http.client
import os
import socket
import ssl
import subprocess
import threading
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme
from support.box import free_ports
from support.edge import hits_in
from support.parent import Parent
from support.programs import needed
from support.waiting import wait_until

pytestmark = pytest.mark.outside

EXAMPLES = Path(__file__).parents[2] / "infra/tls"
NAME = "hits.shop.example"
CLIENT = "127.0.0.5"  # who comes to a proxy; a proxy comes to the collector from 127.0.0.1
SPOOFED = "203.0.113.9"
OPENED = "hitstream_collector_connections_opened_total"
NGINX_MAIN = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
{user}
events {{}}
http {{
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/hitstream.conf;
}}
"""


class Collectors(NamedTuple):
    parent: Parent
    port: int
    admin_port: int

    def hits(self):
        return hits_in(self.parent.data_dir / "spool")

    def opened(self):
        """How many connections were ever accepted."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(OPENED))

    def address_of(self, event_id):
        wait_until(lambda: self._hit(event_id))
        return self._hit(event_id)[0]["ip"]

    def _hit(self, event_id):
        return [hit for hit in self.hits() if f"&id={event_id}" in hit.get("query", "")]


class Certificate(NamedTuple):
    directory: Path
    context: ssl.SSLContext
    authority: Path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificate")
    authority = trustme.CA()
    issued = authority.issue_cert(NAME, "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(directory / "hitstream.pem")
    issued.private_key_pem.write_to_path(directory / "hitstream.key")
    for pem in issued.cert_chain_pems:
        pem.write_to_path(directory / "hitstream.crt", append=True)
    authority.cert_pem.write_to_path(directory / "authority.crt")
    context = ssl.create_default_context(cafile=directory / "authority.crt")
    return Certificate(directory, context, directory / "authority.crt")


@pytest.fixture(scope="module")
def collectors(tmp_path_factory):
    port, admin_port = free_ports(2)
    own = {"port": port, "admin_port": admin_port, "collectors": 1, "ip_keep": "full", "trusted_proxies": "127.0.0.1"}
    with Parent("collect", tmp_path_factory.mktemp("tls") / "data", **own) as parent:
        wait_until(lambda: answers(f"http://127.0.0.1:{admin_port}/readyz"), 60, parent.log_tail)
        yield Collectors(parent, port, admin_port)


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def put(text, **changes):
    """Return an example with this test's places in it; every one of the example's own must be there to be replaced."""
    for old, new in changes.values():
        assert old in text, f"the example has no {old!r} any more"
        text = text.replace(old, str(new))
    return text


def nginx_example(port, collectors, certificate, directory):
    text = put(
        (EXAMPLES / "nginx.conf").read_text(),
        ipv6=("    listen [::]:443 ssl http2;\n", ""),
        listen=("listen 443", f"listen 127.0.0.1:{port}"),
        upstream=("127.0.0.1:8080", f"127.0.0.1:{collectors.port}"),
        certificate=("/etc/ssl/", f"{certificate.directory}/"),
        log=("/var/log/nginx/", f"{directory}/"),
    )
    (directory / "hitstream.conf").write_text(text)
    user = "user root;" if os.geteuid() == 0 else ""
    (directory / "nginx.conf").write_text(NGINX_MAIN.format(directory=directory, user=user))
    return [needed("nginx", "nginx-light"), "-c", directory / "nginx.conf", "-e", directory / "nginx.log"]


def haproxy_example(port, collectors, certificate, directory, **changes):
    text = put(
        (EXAMPLES / "haproxy.cfg").read_text(),
        listen=("bind :443", f"bind 127.0.0.1:{port}"),
        upstream=("127.0.0.1:8080", f"127.0.0.1:{collectors.port}"),
        admin=("port 9470", f"port {collectors.admin_port}"),
        certificate=("/etc/ssl/", f"{certificate.directory}/"),
        **changes,
    )
    (directory / "haproxy.cfg").write_text(text)
    return [needed("haproxy", "haproxy"), "-db", "-f", directory / "haproxy.cfg"]


def haproxy_behind_another(*places):
    """HAProxy as it is to be behind one more trusted proxy: it adds a field and leaves the others."""
    change = ("http-request set-header X-Forwarded-For %[src]", "option forwardfor")
    return haproxy_example(*places, forwarded=change)


@contextmanager
def running(command, directory):
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen([*map(str, command)], stdout=output, stderr=output)
    try:
        yield
        assert process.poll() is None, (directory / "output").read_text()
    finally:
        process.terminate()
        process.wait(20)


class Proxy(NamedTuple):
    port: int
    context: ssl.SSLContext

    def ask(self, *requests, **headers):
        """Send requests (method, path, body) over one connection of the client's; return the answers."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=self.context, source_address=(CLIENT, 0), timeout=20
        )
        got = []
        for method, path, body in requests:
            connection.request(method, path, body, {"Host": NAME, **headers})
            with connection.getresponse() as answer:
                got.append((answer.status, answer.headers, answer.read()))
        connection.close()
        return got

    def is_up(self):
        try:
            return self.ask(("HEAD", "/p.gif", None))[0][0] == 200
        except OSError:
            return False


EXAMPLE_OF = {"nginx": nginx_example, "haproxy": haproxy_example, "haproxy behind another": haproxy_behind_another}


@contextmanager
def started(name, collectors, certificate, directory):
    [port] = free_ports(1)
    with running(EXAMPLE_OF[name](port, collectors, certificate, directory), directory):
        yield Proxy(port, certificate.context)


@pytest.fixture(scope="module", params=EXAMPLE_OF)
def proxy(request, collectors, certificate, tmp_path_factory):
    directory = tmp_path_factory.mktemp("proxy")
    with started(request.param, collectors, certificate, directory) as proxy:
        wait_until(proxy.is_up, 30, (directory / "output").read_text)
        yield proxy


@pytest.mark.parametrize(
    "forwarded",
    [SPOOFED, "127.0.0.1", f"{SPOOFED}, 127.0.0.1", "127.0.0.1, 127.0.0.1", "no address", ",", f"{SPOOFED}, x", '"'],
)
def test_the_address_kept_is_the_clients_whatever_it_says_of_itself(proxy, collectors, forwarded, request):
    event_id = str(abs(hash(request.node.name)))
    headers = {"X-Forwarded-For": forwarded, "X-Real-IP": SPOOFED, "Forwarded": f"for={SPOOFED}"}
    ((status, _, _),) = proxy.ask(("GET", f"/p.gif?s=shop&id={event_id}", None), **headers)
    assert (status, collectors.address_of(event_id)) == (200, CLIENT)


@pytest.mark.parametrize("said", [{}, {"X-Forwarded-Proto": "http"}])
def test_the_cookie_is_secure_over_tls(proxy, said):
    ((_, headers, _),) = proxy.ask(("GET", "/p.gif?s=shop", None), **said)
    assert "; Secure" in headers["Set-Cookie"]


def test_who_comes_past_the_proxy_is_not_believed(collectors):
    connection = http.client.HTTPConnection("127.0.0.1", collectors.port, source_address=(CLIENT, 0), timeout=20)
    said = {"X-Forwarded-For": SPOOFED, "X-Forwarded-Proto": "https"}
    connection.request("GET", "/p.gif?s=shop&id=past", headers=said)
    with connection.getresponse() as answer:
        assert "Secure" not in answer.headers["Set-Cookie"]
    connection.close()
    assert collectors.address_of("past") == CLIENT


def test_clients_that_come_one_after_the_other_share_a_connection_to_the_collector(proxy, collectors):
    proxy.ask(("GET", "/p.gif?s=shop", None))
    before = collectors.opened()
    for number in range(30):
        requests = ("GET", f"/p.gif?s=shop&n={number}", None), ("POST", "/e", b'{"s":"shop"}')
        assert [status for status, _, _ in proxy.ask(*requests)] == [200, 204]
    assert collectors.opened() - before <= 1


def test_a_body_as_large_as_the_collector_takes_passes_and_a_larger_one_does_not(proxy):
    body = b'{"s":"shop","p.x":"%b"}'
    fixed = len(body) - len(b"%b")
    (kept,) = proxy.ask(("POST", "/e", body % (b"x" * (128 * 1024 - fixed))))
    (refused,) = proxy.ask(("POST", "/e", body % (b"x" * (128 * 1024 - fixed + 1))))
    assert (kept[0], refused[0]) == (204, 413)


class Listener(threading.Thread):
    """Stands where the collector does; keeps the head of the first request that says something."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.head = b""

    def run(self):
        connection, _ = self.socket.accept()
        with connection:
            connection.settimeout(20)
            while b"\r\n\r\n" not in self.head:
                self.head += connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_http_2_comes_to_the_collector_with_the_names_that_its_fast_path_knows(name, collectors, certificate, tmp_path):
    listener = Listener()
    listener.start()
    place = collectors._replace(port=listener.port)
    with started(name, place, certificate, tmp_path) as proxy:
        host = f"{NAME}:{proxy.port}"
        wait_until(lambda: listening(proxy.port))
        command = [needed("curl", "curl"), "--silent", "--http2", "--cacert", certificate.authority, "--max-time", "20"]
        command += ["--resolve", f"{host}:127.0.0.1", "--cookie", "_hs=1", "--referer", "https://shop.example/"]
        command += [
            "--output",
            os.devnull,
            "--write-out",
            "%{http_version} %{http_code}",
            f"https://{host}/p.gif?s=shop",
        ]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    listener.join(20)
    listener.socket.close()
    assert done.stdout == "2 204", done.stderr
    lines = listener.head.split(b"\r\n")
    for start in (b"Cookie: _hs=1", b"Referer: https://shop.example/", b"X-Forwarded-For: 127.0.0.1"):
        assert start in lines


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
