"""Kafka's jars: fetched once through Maven's ordinary client into the cache directory, then found there.

- A directory of jars is complete or not there: Maven fills a directory beside it, which is then renamed.
- It is named after the content of `pom.xml`, so another version of Kafka gets a directory of its own.
- Of several processes that want it at once, one fetches and the others wait.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from infra.journal.files import Lock
from schemas.errors import FatalError

POM = Path(__file__).with_name("pom.xml")
JAVA_LEAST = 17
INSTALL = "apt-get install openjdk-17-jdk-headless maven"
FETCH_S_MAX = 900.0
LOCK_POLL_S = 0.2


class MissingToolError(FatalError):
    """Java or Maven is not there; the message names it and the command that installs it."""


def check_tools() -> None:
    """Raise MissingToolError when Java is missing or too old, or Maven is missing."""
    for program, what in (("java", f"Java {JAVA_LEAST} or newer"), ("mvn", "Maven")):
        if shutil.which(program) is None:
            raise MissingToolError(
                f"the local Apache Kafka needs {what}, and `{program}` is not on the PATH: {INSTALL} "
                "(or set KAFKA_BOOTSTRAP_SERVERS to a running broker)"
            )
    version = _java_version()
    if version < JAVA_LEAST:
        raise MissingToolError(f"the local Apache Kafka needs Java {JAVA_LEAST} or newer, this is {version}: {INSTALL}")


def jars_directory(cache_dir: Path) -> Path:
    """Return where this version's jars are, or will be."""
    return cache_dir / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"


def ensure_jars(cache_dir: Path, say: Callable[[str], None] = lambda _: None) -> Path:
    """Return the directory of the jars, fetched if need be; `say` is told what takes long.

    Raises MissingToolError, and FatalError when Maven fails or the cache directory cannot be written.
    """
    check_tools()
    directory = jars_directory(cache_dir)
    if directory.is_dir():
        return directory
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FatalError(f"{cache_dir} cannot be made ({error.strerror}): set HITSTREAM_CACHE_DIR") from error
    lock = Lock(cache_dir / "kafka.lock")
    deadline_s = time.monotonic() + FETCH_S_MAX
    while not lock.acquire():
        if time.monotonic() > deadline_s:
            raise FatalError(f"another process has been fetching Apache Kafka into {cache_dir} for too long")
        time.sleep(LOCK_POLL_S)
    try:
        if not directory.is_dir():
            say("fetching Apache Kafka through Maven, once: 43 MB, about half a minute")
            _fetch(directory)
    finally:
        lock.release()
    return directory


def _fetch(directory: Path) -> None:
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".kafka-") as work:
        jars = Path(work) / "jars"
        pom = shutil.copy(POM, Path(work) / "pom.xml")  # Maven writes beside it
        command = ["mvn", "--batch-mode", "--quiet", "--file", str(pom), "dependency:copy-dependencies"]
        command += ["-DincludeScope=runtime", f"-DoutputDirectory={jars}"]
        try:
            done = subprocess.run(  # noqa: S603  a fixed command
                command, capture_output=True, text=True, check=False, timeout=FETCH_S_MAX, cwd=work
            )
        except subprocess.TimeoutExpired:
            raise FatalError(f"Maven did not fetch Apache Kafka within {FETCH_S_MAX:.0f} s") from None
        if done.returncode or not jars.is_dir():
            tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
            raise FatalError(f"Maven could not fetch Apache Kafka (is its repository reachable?):\n{tail}")
        jars.rename(directory)


def _java_version() -> int:
    done = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)  # noqa: S607  on the PATH
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    return int(found[1]) if found else 0
