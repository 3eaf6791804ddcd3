"""The crowd: deterministic, one agent a visitor, as varied as it says, and nothing else is changed."""

from collections import defaultdict
from itertools import islice

from benchmarks.crowd import HINTS, agent_of, crowd
from benchmarks.shop import shop_requests
from benchmarks.shop_world import BOTS
from consumers.enrich.agent import describe
from consumers.enrich.client_hints import ClientHints

NOW_MS = 1_763_820_000_000
ROBOTS = {bot.user_agent.encode() for bot in BOTS}


def requests(count=4_000):
    return list(islice(shop_requests(3, NOW_MS, visitors=1_000), count))


def agent(request):
    return dict(request.headers).get(b"User-Agent", b"")


def test_it_is_the_same_each_time_and_expects_what_the_shop_expects():
    plain = requests()
    made = list(crowd(plain))
    assert made == list(crowd(plain))
    for before, after in zip(plain, made, strict=True):
        names = ("method", "expect", "client_ip", "events", "number", "visitor", "rejected", "duplicates", "raw")
        assert all(getattr(before, name) == getattr(after, name) for name in names)
        kept = [header for header in before.headers if header[0] not in {b"User-Agent", b"Referer", *HINTS}]
        assert [header for header in after.headers if header in kept] == kept


def test_a_visitor_keeps_its_agent_and_robots_theirs():
    plain = requests()
    agents = defaultdict(set)
    for before, after in zip(plain, crowd(plain), strict=True):
        if agent(before) in ROBOTS or before.raw:
            assert agent(after) == agent(before)
        elif before.visitor:
            agents[before.visitor].add(agent(after))
    assert {len(found) for found in agents.values()} == {1}


def test_agents_pages_and_referrers_are_many_and_uneven():
    made = list(crowd(requests()))
    counted = defaultdict(int)
    for request in made:
        counted[agent(request)] += 1
    assert len(counted) > 100
    assert max(counted.values()) > len(made) / 50
    assert len({request.target.partition(b"&u=")[2].partition(b"&")[0] for request in made}) > 1_000


def test_no_agent_contradicts_its_hints_and_all_have_a_name():
    for number in range(500):
        made = agent_of(str(number))
        hints = ClientHints(made.brands, "?1" if made.mobile else "?0", f'"{made.platform}"') if made.brands else None
        described = describe(made.user_agent, *([hints] if hints else []))
        assert described.bot_reason == "", made
        assert "Other" not in (described.browser, described.os), made
