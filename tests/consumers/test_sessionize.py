"""Sessions and client duplicates by example; the property tests against the reference are test_pipeline's."""

import pytest
from support.events import event_of
from support.simulated_hits import BASE_MS, DAY_MS, MINUTE_MS

from consumers.session_state import SessionState
from consumers.sessionize import sessionize
from schemas.session import SessionRule
from schemas.session_membership import session_id

GAP = SessionRule().gap_ms


class Visit:
    """Sessionizes events one by one, offsets rising."""

    def __init__(self, rule=None):
        self.state = SessionState(rule or SessionRule(), DAY_MS)
        self.offset = 0

    def see(self, ts=BASE_MS, *, site="shop", visitor=7, event_id="", name="PageView", **fields):
        event = event_of(
            site=site,
            event_name=name,
            visitor_id=visitor,
            ts=ts,
            ts_source="client",
            received_at=ts,
            spool_id=3,
            spool_seq=self.offset,
            event_id=event_id,
            **{"source": "pixel"} | fields,
        )
        self.offset += 1
        self.kept = sessionize(event, self.offset, self.state)
        return event


@pytest.fixture
def visit():
    return Visit()


def test_the_opener_names_the_session_and_gives_it_all_it_has(visit):
    opener = visit.see(utm_source="mail", channel="Email", click_id="x", click_id_type="gclid")
    assert opener.session_id == session_id("shop", 7, 3, 0)
    later = visit.see(BASE_MS + 1, channel="Direct")
    assert (later.session_id, later.session_start) == (opener.session_id, BASE_MS)
    assert (later.channel, later.utm_source, later.click_id, later.click_id_type) == ("Email", "mail", "x", "gclid")


def test_a_late_event_does_not_rewrite_the_start(visit):
    opener = visit.see(BASE_MS)
    late = visit.see(BASE_MS - GAP)
    assert (late.session_id, late.session_start) == (opener.session_id, BASE_MS)
    assert visit.see(BASE_MS - 2 * GAP).session_id == opener.session_id, "the span was stretched"


def test_a_gap_of_30_minutes_joins_and_one_ms_more_opens(visit):
    first = visit.see(BASE_MS)
    assert visit.see(BASE_MS + GAP).session_id == first.session_id
    assert visit.see(BASE_MS + 2 * GAP + 1).session_id != first.session_id


def test_a_repeat_in_its_session_is_a_duplicate_and_changes_nothing(visit):
    visit.see(BASE_MS, event_id="a")
    visit.see(BASE_MS + GAP, event_id="a")
    assert not visit.kept
    second = visit.see(BASE_MS + GAP + 1, event_id="a")
    assert visit.kept, "the repeat did not stretch the session"
    assert second.session_start == BASE_MS + GAP + 1


def test_only_name_and_id_together_make_a_repeat(visit):
    for name, event_id in (("A", "1"), ("B", "1"), ("A", "2"), ("A", ""), ("A", "")):
        visit.see(name=name, event_id=event_id)
        assert visit.kept
    visit.see(name="B", event_id="1")
    assert not visit.kept


@pytest.mark.parametrize("sources", [("beacon", "server"), ("server", "pixel"), ("server", "click")])
def test_a_browser_and_a_server_event_of_one_id_are_no_repeats_but_each_of_itself(visit, sources):
    opener = visit.see(event_id="a", source=sources[0])
    assert visit.see(event_id="a", source=sources[1]).session_id == opener.session_id
    assert visit.kept
    for source in sources:
        visit.see(event_id="a", source=source)
        assert not visit.kept


@pytest.mark.parametrize("other", [{"site": "blog"}, {"visitor": 8}, {"ts": BASE_MS + GAP + 1}, {"utm_source": "x"}])
def test_a_repeat_elsewhere_is_none(visit, other):
    visit.see(event_id="a")
    visit.see(**{"event_id": "a"} | other)
    assert visit.kept


def test_hours_later_with_the_same_time_and_id_it_is_still_a_repeat(visit):
    visit.see(BASE_MS, event_id="a")
    visit.see(BASE_MS + 5 * 60 * MINUTE_MS, event_id="b")
    visit.see(BASE_MS, event_id="a")
    assert not visit.kept


def test_the_last_1024_ids_are_known(visit):
    for number in range(1025):
        visit.see(BASE_MS + number, event_id=str(number))
    visit.see(BASE_MS + 1025, event_id="1")
    assert not visit.kept
    visit.see(BASE_MS + 1026, event_id="0")
    assert visit.kept, "1,024 others came after it"
    visit.see(BASE_MS + 1027, event_id="1")
    assert visit.kept, "the one kept last pushed it out"


def test_without_a_visitor_there_is_no_session_and_no_repeat(visit):
    for _ in range(2):
        event = visit.see(visitor=0, event_id="a", channel="Direct")
        assert visit.kept
        assert (event.session_id, event.session_start, event.channel) == (0, 0, "Direct")


def test_the_id_is_64_bits_never_0_and_depends_on_all_it_is_made_of():
    ids = {
        session_id(*name) for name in (("a", 1, 2, 3), ("b", 1, 2, 3), ("a", 2, 2, 3), ("a", 1, 3, 3), ("a", 1, 2, 4))
    }
    assert len(ids) == 5
    assert all(0 < ident < 1 << 64 for ident in ids)
    assert session_id("a" * 64, 2**64 - 1, 2**64 - 1, 2**64 - 1) > 0


def test_what_comes_too_fast_in_a_minute_is_a_bots_and_the_next_minute_is_not():
    visit = Visit(SessionRule(events_per_minute_max=3))
    minute = BASE_MS - BASE_MS % MINUTE_MS
    labels = [visit.see(minute + at).bot_reason for at in (0, 59_999, 1, 2, 3, MINUTE_MS, MINUTE_MS + 1)]
    assert labels == ["", "", "", "rate", "rate", "", ""]
    assert visit.see(minute + 4).bot_reason == "", "late for an earlier minute: not counted"
    assert visit.see(minute + MINUTE_MS + 2).bot_reason == ""
    assert visit.see(minute + MINUTE_MS + 3).is_bot


def test_a_rate_replaces_no_other_reason_and_servers_have_none():
    visit = Visit(SessionRule(events_per_minute_max=1))
    visit.see()
    assert visit.see(is_bot=True, bot_reason="agent").bot_reason == "agent"
    assert not visit.see(source="server").is_bot
    assert visit.see().bot_reason == "rate"
    assert not visit.see(visitor=8).is_bot
    assert not visit.see(visitor=9, source="server").is_bot
    assert not visit.see(visitor=9).is_bot, "the server's does not count"
    assert not visit.see(visitor=0).is_bot


def test_a_site_with_its_own_rule_has_its_own_limit():
    visit = Visit(SessionRule(events_per_minute_max=1, sites={"blog": SessionRule(events_per_minute_max=2)}))
    labels = [(site, visit.see(site=site).bot_reason) for site in ("shop", "blog", "shop", "blog", "blog")]
    assert labels == [("shop", ""), ("blog", ""), ("shop", "rate"), ("blog", ""), ("blog", "rate")]


def test_without_a_limit_nothing_is_too_fast(visit):
    assert not any(visit.see().is_bot for _ in range(1_000))
