"""The status of a parent and its children: readiness, merged metrics, the status page.

- A child that does not answer within `SCRAPE_TIMEOUT_S` is shown as not ready and its metrics are missing from that
  scrape; `hitstream_process_up` says so. The parent's own families are always there.
- Ready means that the parent can do its work: at least one of the processes in `needed` is ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from infra.admin import Readiness, SocketDirectory
from infra.admin_page import PageRow, page_html
from infra.metrics_merge import LABEL, expose, merge
from infra.supervisor import Child, Supervisor

SCRAPE_TIMEOUT_S = 2.0


class FleetStatus:
    """The status of the children of `supervisor`, whose sockets are in `sockets`.

    `served` says whether a child has a status socket, `needed` whether it is one of those of which one must be ready.
    """

    def __init__(
        self,
        title: str,
        supervisor: Supervisor,
        directory: Path,
        needed: Callable[[str], bool],
        served: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._title = title
        self._supervisor = supervisor
        self._sockets = SocketDirectory(directory)
        self._needed = needed
        self._served = served

    async def readiness(self) -> Readiness:
        """Ask every child; ready when one of the needed ones is."""
        children = self._supervisor.children
        names = list(children)
        answers = await asyncio.gather(*(self._child_readiness(children[name]) for name in names))
        processes = {name: said for name, (said, _) in zip(names, answers, strict=True)}
        notes = {name: note for name, (_, note) in zip(names, answers, strict=True) if note}
        ready = any(answer == "ready" for name, answer in processes.items() if self._needed(name))
        return Readiness(ready, processes, notes)

    async def metrics(self) -> bytes:
        """Return every child's metrics and the parent's own in one exposition."""
        return expose(await self._families())

    async def page(self) -> str:
        """Return the status page."""
        readiness, families = await asyncio.gather(self.readiness(), self._families())
        rows = [
            PageRow(
                name,
                child.state,
                readiness.notes.get(name) or readiness.processes.get(name, ""),
                child.pid,
                child.running_s,
                child.restarts,
                child.last_exit,
            )
            for name, child in self._supervisor.children.items()
        ]
        return page_html(self._title, ready=readiness.ready, rows=rows, families=families)

    def close(self) -> None:
        """Close the run directory."""
        self._sockets.close()

    async def _families(self) -> tuple[Metric, ...]:
        running = [child for child in self._supervisor.children.values() if self._asks(child)]
        texts = await asyncio.gather(*(self._get(child.spec.name, "/metrics") for child in running))
        exposed = {child.spec.name: text.decode() for child, (_, text) in zip(running, texts, strict=True) if text}
        return merge(exposed, self._own(exposed))

    def _asks(self, child: Child) -> bool:
        return child.process is not None and self._served(child.spec.name)

    def _own(self, exposed: Mapping[str, str]) -> list[Metric]:
        """Return the parent's own families: about each child, and its own process under the name `parent`."""
        up = GaugeMetricFamily("hitstream_process_up", "1 while the process answers its parent.", labels=[LABEL])
        restarts = CounterMetricFamily(
            "hitstream_process_restarts", "How often the process died and was started again.", labels=[LABEL]
        )
        for name, child in self._supervisor.children.items():
            if self._served(name):
                up.add_metric([name], float(name in exposed))
            restarts.add_metric([name], child.restarts)
        parents = [family for family in REGISTRY.collect() if family.name.startswith("process_")]
        for family in parents:
            family.samples = [sample._replace(labels={**sample.labels, LABEL: "parent"}) for sample in family.samples]
        return [up, restarts, *parents]

    async def _child_readiness(self, child: Child) -> tuple[str, str]:
        """Return what a child says of itself, and its note."""
        if not self._served(child.spec.name) or child.process is None:
            return child.state if not child.last_exit else f"{child.state}: {child.last_exit}", ""
        name = child.spec.name
        status, body = await self._get(name, "/readyz")
        if not status:
            return "does not answer yet", ""
        try:
            said = orjson.loads(body)
            return str(said["processes"][name]), str(said.get("notes", {}).get(name, ""))
        except (ValueError, KeyError, TypeError, AttributeError):
            return f"answers {status}", ""

    async def _get(self, name: str, path: str) -> tuple[int, bytes]:
        """Return status and body of a child's answer; (0, b"") when there was none in time."""
        connector = UnixConnector(self._sockets.address(name))
        try:
            async with (
                ClientSession(connector=connector, timeout=ClientTimeout(SCRAPE_TIMEOUT_S)) as session,
                session.get(f"http://localhost{path}") as response,
            ):
                return response.status, await response.read()
        except (ClientError, OSError, TimeoutError):
            return 0, b""
