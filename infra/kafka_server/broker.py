"""One Kafka node on a directory: formatted at its first start, started, asked whether it answers, ended.

- The data directory, the port and the cluster's id outlive the process: after kill -9, `start` goes on where it was.
- Nothing is replicated (all factors are 1), a topic is made only by whoever asks for it, and a group's first rebalance
  waits for nobody.
- Tied, it ends with the thread that started it, however that ends, where util-linux is there (`setpriv`).
"""

from __future__ import annotations

import base64
import shutil
import signal
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from schemas.errors import FatalError

HOST = "127.0.0.1"
READY_S_MAX = 60.0
STOP_S_MAX = 30.0
POLL_S = 0.05
LOG_TAIL_LINES = 30
RETENTION_HOURS = 168
API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 7, -1)  # length, ApiVersions v0, correlation id 7, no client id


class KafkaServer:
    """One node. `directory` holds its configuration, its log file and its data; the port is chosen once if it is 0.

    `heap_mib` MiB of Java heap. `users` (name to password) opens a second listener, `sasl_servers`, that wants SASL
    PLAIN, over TLS where there is a `certificate`: a PEM file with the key (PKCS #8) and its chain. `overrides` are
    lines of server.properties. `tied`: start it from the main thread. `short_lived`: it starts with half
    the CPU, and takes more for what it does for long. `profiled`: a sampling profiler can walk its stacks.
    """

    def __init__(  # noqa: PLR0913  all but two have defaults
        self,
        directory: Path,
        jars: Path,
        *,
        port: int = 0,
        heap_mib: int = 768,
        users: Mapping[str, str] | None = None,
        certificate: Path | None = None,
        overrides: Mapping[str, str] | None = None,
        tied: bool = False,
        short_lived: bool = False,
        profiled: bool = False,
    ) -> None:
        self.directory = directory
        self.log_path = directory / "server.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._jars = jars
        self._heap_mib = heap_mib
        free = free_ports(3)
        self.port, self._controller_port, self._sasl_port = port or free[0], free[1], free[2]
        self._users = dict(users or {})
        self._certificate = certificate
        self._overrides = dict(overrides or {})
        self._tied = tied
        self._short_lived = short_lived
        self._profiled = profiled

    @property
    def bootstrap_servers(self) -> str:
        """Return what KAFKA_BOOTSTRAP_SERVERS should say."""
        return f"{HOST}:{self.port}"

    @property
    def sasl_servers(self) -> str:
        """Return the address that wants a login."""
        return f"{HOST}:{self._sasl_port}"

    @property
    def pid(self) -> int:
        """Return its process id; 0 when it does not run."""
        return self.process.pid if self.process else 0

    @property
    def is_running(self) -> bool:
        """Return whether its process lives."""
        return self.process is not None and self.process.poll() is None

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the node, formatting its directory at the first start; returns at once. Raises FatalError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        properties = self.directory / "server.properties"
        properties.write_text(self._properties())
        data = self.directory / "data"
        if not (data / "meta.properties").exists():
            shutil.rmtree(data, ignore_errors=True)
            self._format(properties)
        command = self._java("kafka.Kafka", str(properties), short_lived=self._short_lived)
        if self._tied and shutil.which("setpriv"):
            command = ["setpriv", "--pdeathsig", "TERM", *command]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603  a command of ours
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait_ready(self, timeout_s: float = READY_S_MAX) -> None:
        """Return once the node answers. Raises FatalError when it ends, or has not answered by then."""
        deadline_s = time.monotonic() + timeout_s
        while not self.answers():
            if not self.is_running:
                raise FatalError(f"Kafka ended; {self.log_path} says:\n{self.log_tail()}")
            if time.monotonic() > deadline_s:
                raise FatalError(f"Kafka does not answer after {timeout_s:.0f} s; {self.log_path}:\n{self.log_tail()}")
            time.sleep(POLL_S)

    def answers(self) -> bool:
        """Return whether the node answers a request of Kafka's protocol now."""
        try:
            with socket.create_connection((HOST, self.port), timeout=1.0) as connection:
                connection.sendall(API_VERSIONS)
                head = connection.recv(8)
        except OSError:
            return False
        return len(head) == 8 and struct.unpack(">i", head[4:]) == (7,)

    def stop(self, timeout_s: float = STOP_S_MAX) -> None:
        """End the node in order; kill it when that takes longer than `timeout_s`."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """Kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def log_tail(self) -> str:
        """Return the last lines that the node logged."""
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])

    def _java(self, main: str, *arguments: str, short_lived: bool) -> list[str]:
        logging = Path(__file__).with_name("log4j2.properties")
        options = [f"-Xmx{self._heap_mib}m", f"-Dlog4j2.configurationFile={logging}", "-Djava.awt.headless=true"]
        if short_lived:
            options.append("-XX:TieredStopAtLevel=1")  # the second compiler pays off after minutes
        if self._profiled:
            options.append("-XX:+PreserveFramePointer")
        return ["java", *options, "-cp", f"{self._jars}/*", main, *arguments]

    def _format(self, properties: Path) -> None:
        command = self._java(
            "kafka.tools.StorageTool",
            "format",
            "--standalone",
            "--config",
            str(properties),
            "--cluster-id",
            cluster_id(),
            short_lived=True,
        )
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  a command of ours
        if done.returncode:
            raise FatalError(f"Kafka's storage could not be formatted: {done.stdout}{done.stderr}")

    def _properties(self) -> str:
        listeners = {"PLAINTEXT": self.port, "CONTROLLER": self._controller_port}
        if self._users:
            listeners["SASL_SSL" if self._certificate else "SASL_PLAINTEXT"] = self._sasl_port
        lines = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": f"{HOST}:{self._controller_port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": _addresses(listeners),
            "advertised.listeners": _addresses({name: at for name, at in listeners.items() if name != "CONTROLLER"}),
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,"
            "SASL_SSL:SASL_SSL",
            "log.dirs": str(self.directory.absolute() / "data"),
            "log.retention.hours": str(RETENTION_HOURS),
            "auto.create.topics.enable": "false",  # a topic made by a typo has the wrong partition count
            "default.replication.factor": "1",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "broker.session.timeout.ms": "2000",  # a killed node comes back once its own lease has run out
            "broker.heartbeat.interval.ms": "500",
            "group.min.session.timeout.ms": "1000",
            **self._sasl_lines(),
            **self._overrides,
        }
        return "".join(f"{name}={value}\n" for name, value in lines.items())

    def _sasl_lines(self) -> dict[str, str]:
        if not self._users:
            return {}
        users = " ".join(f'user_{name}="{password}"' for name, password in self._users.items())
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        listener = "listener.name.sasl_ssl" if self._certificate else "listener.name.sasl_plaintext"
        lines = {
            "sasl.enabled.mechanisms": "PLAIN",
            f"{listener}.plain.sasl.jaas.config": f"{module} required {users};",
        }
        if self._certificate:
            lines["ssl.keystore.type"] = "PEM"
            lines["ssl.keystore.location"] = str(self._certificate.absolute())
        return lines


def cluster_id() -> str:
    """Return a new cluster id as Kafka makes them; one with a leading dash would be read as an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


def free_ports(count: int) -> list[int]:
    """Return ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind((HOST, 0))
        return [int(sock.getsockname()[1]) for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def _addresses(listeners: Mapping[str, int]) -> str:
    return ",".join(f"{name}://{HOST}:{port}" for name, port in listeners.items())
