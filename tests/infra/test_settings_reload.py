"""A whole box whose settings file changes while traffic flows: sites hold within seconds, and no hit is lost."""

import json
import threading
import urllib.request
from http.client import HTTPConnection

from support import waiting
from support.box import Box

WAIT_S_MAX = 60.0
TAKEN_UP = "hitstream_settings_taken_up_total"


class Traffic(threading.Thread):
    """Hits of one site over one connection, until it is stopped; an answer but 200 ends it with an error."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self._connection = HTTPConnection("127.0.0.1", port, timeout=30)
        self._ended = threading.Event()
        self.sent = self.kept = 0

    def run(self):
        while not self._ended.wait(0.005):
            self.sent += 1
            self._connection.request("GET", f"/p.gif?s=shop&id={self.sent}")
            with self._connection.getresponse() as answer:
                answer.read()
                self.kept += answer.status == 200

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self._ended.set()
        self.join(30)
        self._connection.close()


def wait_until(condition, box):
    waiting.wait_until(condition, WAIT_S_MAX, box.log_tail)


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode("latin-1")


def taken_up(box):
    """How many changes each process says that it took up."""
    lines = get(f"http://127.0.0.1:{box.admin_port}/metrics").splitlines()
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines if line.startswith(TAKEN_UP)}


def hit_of(box, site):
    get(f"http://127.0.0.1:{box.port}/p.gif?s={site}")


def counts(box, table):
    rows = box.query(f"SELECT site, count() AS n FROM {table} GROUP BY site")
    return {row["site"]: row["n"] for row in rows}


def test_sites_are_taken_up_while_hits_come_and_a_broken_file_changes_nothing(tmp_path):
    file = tmp_path / "hitstream.toml"
    file.write_text("[sites.shop]\n")
    config = {"config": file, "batch_age_s_max": 0.05, "ip_keep": "none"}
    with Box(tmp_path / "data", collectors=2, workers=1, **config) as box, Traffic(box.port) as traffic:
        processes = ("collector-0", "collector-1", "worker-0")
        hit_of(box, "blog")
        wait_until(lambda: counts(box, "rejected") == {"blog": 1}, box)
        box.command("site", "add", "blog", "--retention-days", "30")
        wait_until(lambda: taken_up(box) == dict.fromkeys(processes, 1.0), box)
        hit_of(box, "blog")
        wait_until(lambda: counts(box, "events").get("blog") == 1, box)
        (table,) = box.query("SELECT engine_full FROM system.tables WHERE name = 'events' AND database = 'hitstream'")
        assert "toIntervalDay(30)" in table["engine_full"]
        good = file.read_text()
        file.write_text(good + "\n[sites.third]\ntimezone = 'Mars'\n")
        line = good.count("\n") + 3

        def noted():
            ready = json.loads(get(f"http://127.0.0.1:{box.admin_port}/readyz"))
            return ready["ready"] and ready.get("notes", {})

        wait_until(lambda: sorted(noted()) == list(processes), box)
        assert all(
            f"line {line}: sites.third.timezone: 'Mars' is no IANA time zone" in said for said in noted().values()
        )
        hit_of(box, "blog")
        file.write_text(good)
        wait_until(lambda: noted() == {}, box)
        traffic.stop()
        ledger = box.wait_drained()
        assert traffic.kept == traffic.sent > 100
        assert counts(box, "events") == {"shop": traffic.sent, "blog": 2}
        assert (ledger["rejected"], ledger["balance"]) == (1, 0)
        assert "taken up: site blog added" in box.log_path.read_text()
    assert "Traceback" not in box.log_path.read_text()
