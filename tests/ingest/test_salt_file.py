"""The salt file: it goes forward only, keeps no older salt, and says what is wrong with it."""

import asyncio
import logging
import multiprocessing
import os
import stat

import pytest

from ingest.cookieless import DAY_S, Salt, salt_line
from ingest.salt_file import SaltError, SaltFile
from ingest.salt_keeper import SaltKeeper

DAY = 20_000
SALT = Salt(DAY, bytes(range(32)))


@pytest.fixture
def file(tmp_path):
    made = SaltFile(tmp_path)
    made.put(SALT, force=False)
    return made


def test_it_is_its_owners_alone_and_holds_one_salt(file, tmp_path):
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.path.read_text() == salt_line(SALT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["salt", "salt.lock"]


def test_it_goes_on_to_yesterdays_salt_and_zeros_what_stood_there(file):
    handle = os.open(file.path, os.O_RDONLY)
    assert file.advance(DAY + 1) == SALT
    assert file.advance(DAY + 400) == SALT.of(DAY + 399)
    assert file.read() == SALT.of(DAY + 399)
    assert set(os.read(handle, 1000)) == {0}, "the file that was replaced"
    os.close(handle)


def test_it_never_goes_back_and_bears_a_clock_that_is_a_day_behind(file):
    later = file.advance(DAY + 5)
    assert file.advance(DAY + 5 - 1) == later
    with pytest.raises(SaltError, match=r"salt of 2024-10-08, and this machine's clock says 2024-10-07 UTC"):
        file.advance(DAY + 5 - 2)
    assert file.read() == later


def test_what_a_killed_writer_left_goes(file, tmp_path):
    (tmp_path / ".salt.4711").write_text(salt_line(SALT))
    file.advance(DAY + 2)
    assert not (tmp_path / ".salt.4711").exists()


def test_it_is_replaced_by_force_alone(file):
    other = Salt(DAY, bytes(32))
    with pytest.raises(SaltError, match="is there already"):
        file.put(other, force=False)
    file.put(other, force=True)
    assert file.read() == other


def damage(path, kind):
    text = path.read_text()
    if kind == "missing":
        path.unlink()
    elif kind == "a link":
        path.rename(path.with_name("elsewhere"))
        path.symlink_to("elsewhere")
    elif kind == "for all to read":
        path.chmod(0o644)
    else:
        path.write_text(
            {"empty": "", "cut": text[:-5], "flipped": text.replace("00", "01", 1), "zeros": "\0" * 90}[kind]
        )


KINDS = {
    "missing": "is missing, and a cookieless site needs it: `hitstream salt init`",
    "a link": "cannot be read",
    "for all to read": r"can be read by others \(mode 644\).*chmod 600",
    "empty": "is damaged: import another edge's salt",
    "cut": "is damaged",
    "flipped": "is damaged",
    "zeros": "is damaged",
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_wrong_is_said_and_nothing_is_written(file, kind):
    damage(file.path, kind)
    before = file.path.read_bytes() if file.path.exists() else None
    for act in (file.read, lambda: file.advance(DAY + 9)):
        with pytest.raises(SaltError, match=KINDS[kind]):
            act()
    assert (file.path.read_bytes() if file.path.exists() else None) == before


def advance(path, day, start, found):
    start.wait()
    found.put(SaltFile(path).advance(day))


def test_many_processes_at_midnight_agree(file, tmp_path):
    context = multiprocessing.get_context("fork")
    start, found = context.Event(), context.Queue()
    days = [DAY + 2, DAY + 3] * 4
    processes = [context.Process(target=advance, args=(tmp_path, day, start, found)) for day in days]
    for process in processes:
        process.start()
    start.set()
    salts = {found.get(timeout=30) for _ in processes}
    for process in processes:
        process.join()
    assert salts <= {SALT.of(DAY + 1), SALT.of(DAY + 2)}
    assert file.read() == SALT.of(DAY + 2)


# the keeper


def kept(file, script, now_s=(DAY + 1) * DAY_S):
    """Run `script(keeper, settle)` in an event loop; `settle` looks until the keeper has nothing more to do."""

    async def main():
        keeper = SaltKeeper(file, now_s)

        async def settle(at_s):
            for _ in range(3):
                keeper.look(at_s)
                if keeper._looking is not None:
                    await asyncio.wait([keeper._looking])

        await script(keeper, settle)

    asyncio.run(asyncio.wait_for(main(), 30))


def test_at_midnight_the_salt_is_there_at_once_and_the_file_soon(file):
    async def script(keeper, settle):
        keeper.salts.reach((DAY + 2) * DAY_S)
        assert keeper.salts.yesterday == SALT.next()
        assert file.read() == SALT
        await settle((DAY + 2) * DAY_S)
        assert file.read() == SALT.next()
        await settle((DAY + 2) * DAY_S - 1)
        assert (file.read(), keeper.salts.yesterday) == (SALT.next(), SALT.next()), "a clock that steps back"

    kept(file, script)


def test_a_restart_after_the_clock_went_back_over_midnight_goes_on_with_the_later_day(file, caplog):
    file.advance(DAY + 2)

    async def script(keeper, settle):
        assert keeper.salts.yesterday == SALT.next()
        await settle((DAY + 2) * DAY_S - 1)
        assert file.read() == SALT.next()

    with caplog.at_level(logging.WARNING):
        kept(file, script, (DAY + 2) * DAY_S - 1)
    assert "the clock was set back: 2024-10-06 goes on" in caplog.text


def test_an_imported_salt_is_taken_up_and_kept_over_midnight(file, caplog):
    other = Salt(DAY - 3, bytes(32))

    async def script(keeper, settle):
        file.put(other, force=True)
        await settle((DAY + 1) * DAY_S)
        assert keeper.salts.yesterday == other.of(DAY)
        file.put(SALT, force=True)
        await settle((DAY + 2) * DAY_S)
        assert keeper.salts.yesterday == file.read() == SALT.next()

    kept(file, script)
    assert caplog.text.count("another salt was imported") == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_goes_wrong_while_a_collector_runs_stops_nobody(file, kind, caplog):
    async def script(keeper, settle):
        damage(file.path, kind)
        for second in range(3):
            await settle((DAY + 2) * DAY_S + second)
        assert keeper.salts.yesterday == SALT.next()

    kept(file, script)
    assert caplog.text.count("What is in memory still serves") == 1


def test_a_keeper_without_a_file_does_not_begin(tmp_path):
    with pytest.raises(SaltError, match="is missing"):
        SaltKeeper(SaltFile(tmp_path), DAY * DAY_S)
