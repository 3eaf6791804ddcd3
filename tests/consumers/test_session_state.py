"""The cache of sessions knows what it does not know."""

import msgspec
from support.simulated_hits import BASE_MS, DAY_MS, HOUR_MS

from consumers.session_state import EVICTION_STEP_MS, SessionState, unpacked
from schemas.session import NO_CAMPAIGN, Session, SessionRule
from schemas.session_membership import keys_of

RULE = SessionRule()
KEY = ("shop", 7)
KEEP = 2 * DAY_MS


def session(ident=1, last=BASE_MS):
    return Session(ident, last, last, last, 0, "Direct", ())


def test_a_fresh_partition_needs_no_look():
    state = SessionState(RULE, KEEP)
    assert not state.needs_lookup("shop", BASE_MS)
    assert not state.needs_lookup("shop", RULE.gap_ms)


def test_a_rebuilt_state_is_complete_from_its_horizon():
    state = SessionState(RULE, KEEP, BASE_MS)
    assert state.horizon_ms == BASE_MS - KEEP
    assert not state.needs_lookup("shop", BASE_MS - KEEP + RULE.gap_ms)
    assert state.needs_lookup("shop", BASE_MS - KEEP + RULE.gap_ms - 1)


def test_eviction_takes_what_ended_before_the_horizon_and_says_so():
    state = SessionState(RULE, KEEP)
    state.open(KEY, session(1, BASE_MS))
    state.open(KEY, session(2, BASE_MS + HOUR_MS))
    state.open(("shop", 8), session(3, BASE_MS))
    state.evict(BASE_MS + KEEP + HOUR_MS)
    assert [found.id for found in state.of(KEY)] == [2], "one that ends at the horizon stays"
    assert len(state) == 1
    assert state.needs_lookup("shop", BASE_MS + HOUR_MS + RULE.gap_ms - 1)
    assert not state.needs_lookup("shop", BASE_MS + HOUR_MS + RULE.gap_ms)


def test_the_horizon_moves_in_steps_and_never_back():
    state = SessionState(RULE, KEEP, BASE_MS)
    horizon = state.horizon_ms
    state.evict(BASE_MS + EVICTION_STEP_MS - 1)
    state.evict(0)
    assert state.horizon_ms == horizon
    state.evict(BASE_MS + EVICTION_STEP_MS)
    assert state.horizon_ms == horizon + EVICTION_STEP_MS


def test_sessions_that_may_still_grow_are_never_evicted_however_small_the_cache():
    state = SessionState(RULE, 0, BASE_MS)
    assert state.horizon_ms == BASE_MS - RULE.gap_ms - RULE.length_ms_max


def test_what_is_known_stays_and_what_was_read_is_added():
    state = SessionState(RULE, KEEP)
    known = session(1)
    state.open(KEY, known)
    state.merge([(KEY, session(1, BASE_MS - 1)), (KEY, session(2)), (("blog", 7), session(3))])
    assert [found.id for found in state.of(KEY)] == [1, 2]
    assert state.of(KEY)[0] is known
    assert [found.id for found in state.of(("blog", 7))] == [3]


def test_every_site_is_looked_up_by_its_own_gap_and_kept_for_the_longest():
    rule = SessionRule(sites={"slow": SessionRule(gap_ms=DAY_MS, length_ms_max=9 * DAY_MS)})
    state = SessionState(rule, KEEP, BASE_MS)
    assert state.horizon_ms == BASE_MS - 10 * DAY_MS
    at = state.horizon_ms + RULE.gap_ms
    assert (state.needs_lookup("shop", at), state.needs_lookup("slow", at)) == (False, True)
    assert not state.needs_lookup("slow", state.horizon_ms + DAY_MS)


def packed(made):
    return msgspec.json.encode(made)


def test_a_packed_session_is_what_was_packed():
    campaign = ("google", "cpc", "spring", "", "", "Cj0", "gclid")
    for keys in ((), ("PageView\0a", "Purchase\0b\0server"), tuple(f"PageView\0{number}" for number in range(40))):
        made = Session(1 << 63, BASE_MS, BASE_MS - 1, BASE_MS + 1, 9, "Paid Search", campaign, keys, 3)
        back = unpacked(packed(made))
        assert (back.event_keys, list(back.event_keys)) == (keys_of(keys), list(keys))
        assert msgspec.structs.replace(back, event_keys=keys) == made
    untagged = msgspec.structs.replace(session(), campaign=("",) * 7)
    assert unpacked(packed(untagged)).campaign is NO_CAMPAIGN


def test_what_a_rebuild_read_is_found_and_changes_stay():
    state = SessionState(RULE, KEEP)
    state.keep(*KEY, packed(session(1)))
    state.keep("shop", 8, packed(session(2)))
    state.keep(*KEY, packed(session(3)))
    state.keep(*KEY, packed(session(4)))
    assert len(state) == 2
    assert [found.id for found in state.of(KEY)] == [1, 3, 4]
    state.of(KEY)[1].last_ts += 7
    assert state.of(KEY)[1].last_ts == BASE_MS + 7
    state.open(("shop", 8), session(5))
    assert [found.id for found in state.of(("shop", 8))] == [2, 5]


def test_what_a_rebuild_read_leaves_as_all_else_does():
    state = SessionState(RULE, KEEP)
    state.keep(*KEY, packed(session(1, BASE_MS)))
    state.keep(*KEY, packed(session(2, BASE_MS + HOUR_MS)))
    state.keep("shop", 8, packed(session(3, BASE_MS)))
    state.keep("blog", 8, packed(session(4, BASE_MS)))
    state.evict(BASE_MS + KEEP + HOUR_MS)
    assert len(state) == 1
    assert [found.id for found in state.of(KEY)] == [2]
