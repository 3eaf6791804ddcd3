"""The local Apache Kafka: its jars and its node. The tools it needs are played by scripts, its node is real."""

import os
import stat
import uuid

import pytest
from support.kafka import HEAP_MIB, local_jars

from infra.kafka_server.broker import KafkaServer, cluster_id
from infra.kafka_server.jars import INSTALL, MissingToolError, check_tools, ensure_jars, jars_directory
from schemas.errors import FatalError

JAVA = "#!/bin/sh\necho 'openjdk version \"%s\" 2025-04-15' >&2\n"
MAVEN = """#!/bin/sh
for argument in "$@"; do
  case "$argument" in -DoutputDirectory=*) directory="${argument#-DoutputDirectory=}";; esac
done
echo called >> "$CALLS"
mkdir -p "$directory" && echo jar > "$directory/kafka.jar"
"""


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Put a script in front of the PATH, or in its place."""
    directory = tmp_path / "bin"
    directory.mkdir()

    def put(name, script):
        path = directory / name
        path.write_text(script)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    monkeypatch.setenv("PATH", str(directory))
    for name in ("sh", "mkdir"):
        (directory / name).symlink_to(f"/bin/{name}")
    return put


@pytest.mark.parametrize(("there", "missing"), [((), "java"), (("java",), "mvn")])
def test_a_missing_tool_is_named_with_the_command_that_installs_it(tools, there, missing):
    for name in there:
        tools(name, JAVA % "17.0.1")
    with pytest.raises(MissingToolError, match=f"`{missing}` is not on the PATH: {INSTALL}"):
        check_tools()


def test_a_java_that_is_too_old_is_refused(tools):
    tools("mvn", MAVEN)
    tools("java", JAVA % "1.8.0_392")
    with pytest.raises(MissingToolError, match=f"needs Java 17 or newer, this is 8: {INSTALL}"):
        check_tools()
    tools("java", JAVA % "21.0.2")
    check_tools()


def test_jars_are_fetched_once(tools, tmp_path, monkeypatch):
    calls = tmp_path / "calls"
    monkeypatch.setenv("CALLS", str(calls))
    tools("java", JAVA % "17.0.1")
    tools("mvn", MAVEN)
    said = []
    for _ in range(2):
        directory = ensure_jars(tmp_path / "cache", said.append)
        assert [path.name for path in directory.iterdir()] == ["kafka.jar"]
    assert calls.read_text().split() == ["called"]
    assert len(said) == 1


def test_a_fetch_that_fails_says_why_and_leaves_nothing(tools, tmp_path):
    tools("java", JAVA % "17.0.1")
    tools("mvn", "#!/bin/sh\nmkdir -p half\necho the repository is away\nexit 1\n")
    with pytest.raises(FatalError, match="the repository is away"):
        ensure_jars(tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["kafka.lock"]
    assert not jars_directory(tmp_path / "cache").exists()


def test_a_cluster_id_is_never_read_as_an_option(monkeypatch):
    drawn = iter([uuid.UUID(bytes=b"\xfb" * 16), uuid.UUID(bytes=b"\x00" * 16)])
    monkeypatch.setattr(uuid, "uuid4", lambda: next(drawn))
    assert cluster_id() == "A" * 22


def test_a_node_that_cannot_start_says_what_its_log_says(tmp_path):
    with (
        pytest.raises(FatalError, match="Invalid value nonsense"),
        KafkaServer(
            tmp_path / "kafka",
            local_jars(),
            heap_mib=HEAP_MIB,
            overrides={"num.io.threads": "nonsense"},
            short_lived=True,
        ),
    ):
        pass


def test_a_node_stops_in_order_and_its_process_is_gone(tmp_path):
    with KafkaServer(tmp_path / "kafka", local_jars(), heap_mib=HEAP_MIB, tied=True, short_lived=True) as server:
        pid = server.pid
        assert server.is_running
        assert server.answers()
    assert not server.answers()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
