"""The daily salts and what visitors are called under them."""

from collections import Counter
from hashlib import blake2b

import pytest

from ingest.cookieless import (
    BUCKETS,
    DAY_MAX,
    DAY_S,
    DailySalts,
    Salt,
    date_of,
    day_of,
    parsed_salt,
    salt_line,
    seed,
)

DAY = 20_000  # 2024-10-04
SALT = Salt(DAY, bytes(range(32)))
AGENT = b',"user_agent":"Mozilla/5.0 (\\"odd\\") Firefox/130"'
MEMBERS = AGENT + b',"accept_language":"de"'


def names(salts, now_s, *, site=b"shop", address=b"192.0.2.7", members=MEMBERS, ip_member=b',"ip":"192.0.2.0"'):
    return salts.names(now_s, site, address, members, ip_member)


def noon(day):
    return day * DAY_S + DAY_S // 2


def test_the_next_salt_is_the_last_ones_keyed_hash_of_the_date():
    later = SALT.next()
    keyed = blake2b(b"2024-10-05", key=bytes(range(32)), digest_size=32, person=b"hitstream salt")
    assert (later.day, later.secret) == (DAY + 1, keyed.digest())
    assert SALT.of(DAY + 3) == later.next().next()
    with pytest.raises(ValueError, match="does not lead back to 2024-10-03"):
        SALT.of(DAY - 1)


def test_an_id_is_the_keyed_hash_of_site_address_and_agent():
    found = names(DailySalts(SALT), noon(DAY + 1))
    who = b'shop\n192.0.2.7\nMozilla/5.0 (\\"odd\\") Firefox/130'
    expected = [
        blake2b(who, key=SALT.of(day).secret, digest_size=8).hexdigest().encode() for day in (DAY, DAY + 1, DAY + 2)
    ]
    assert [found.before, found.visitor, found.after] == expected


@pytest.mark.parametrize(
    "other",
    [{"site": b"blog"}, {"address": b"192.0.2.8"}, {"members": AGENT.replace(b"130", b"131")}, {"members": b""}],
)
def test_another_site_address_or_agent_is_another_visitor_and_other_fields_are_not(other):
    salts = DailySalts(SALT)
    one = names(salts, noon(DAY + 1))
    assert names(salts, noon(DAY + 1), **other).visitor != one.visitor
    assert names(salts, noon(DAY + 1), members=AGENT + b',"accept_language":"en"') == one


def test_yesterdays_id_is_todays_before_and_tomorrows_after_also_when_days_were_missed():
    salts = DailySalts(SALT)
    first = names(salts, (DAY + 2) * DAY_S - 1)
    second = names(salts, (DAY + 2) * DAY_S)
    assert (second.before, second.visitor) == (first.visitor, first.after)
    assert second.key == first.key
    assert len({first.before, first.visitor, first.after, second.after}) == 4
    late = names(salts, noon(DAY + 900))
    assert late == names(DailySalts(SALT.of(DAY + 899)), noon(DAY + 900))


def test_days_never_go_back():
    salts = DailySalts(SALT)
    today = names(salts, noon(DAY + 5))
    assert names(salts, noon(DAY + 4)) == today
    salts.replace(SALT)
    assert names(salts, noon(DAY + 5)) == today
    salts.replace(Salt(DAY, bytes(32)))
    assert names(salts, noon(DAY + 5)) == names(DailySalts(Salt(DAY, bytes(32))), noon(DAY + 5))


def test_the_log_key_is_a_bucket_of_what_the_hit_shows_and_knows_no_more():
    salts = DailySalts(SALT)
    one = names(salts, noon(DAY + 1))
    assert names(salts, noon(DAY + 1), address=b"192.0.2.8").key == one.key, (
        "the address that is not kept does not show"
    )
    assert int(one.key, 16) < BUCKETS
    others = Counter(
        names(salts, noon(DAY + 1), ip_member=b',"ip":"192.0.%d.0"' % number).key for number in range(20_000)
    )
    assert len(others) == BUCKETS
    assert max(others.values()) < 60


def test_no_visitor_gets_the_id_of_nobody(monkeypatch):
    class Zero:
        def copy(self):
            return self

        def update(self, _):
            pass

        def hexdigest(self):
            return "0" * 16

    salts = DailySalts(SALT)
    monkeypatch.setattr(salts, "_hashers", (Zero(), Zero(), Zero()))
    assert names(salts, noon(DAY + 1)).visitor == b"0000000000000001"


def test_a_line_is_read_as_it_was_written():
    assert salt_line(SALT).startswith("2024-10-04 000102")
    assert parsed_salt(salt_line(SALT)) == SALT
    assert parsed_salt("".join(salt_line(SALT).split("\n")) + " \r\n") == SALT
    assert date_of(day_of(noon(DAY) + 0.5)) == "2024-10-04"
    assert seed(DAY, bytes) == Salt(DAY, bytes(32))


def test_a_line_with_any_flipped_or_missing_character_is_none():
    line = salt_line(SALT).strip()
    for place, character in enumerate(line):
        other = "1" if character == "0" else "0"
        assert parsed_salt(line[:place] + other + line[place + 1 :]) is None
        assert parsed_salt(line[:place]) is None
    assert parsed_salt(line + "0") is None
    assert parsed_salt(salt_line(Salt(DAY_MAX + 1, bytes(32)))) is None


def test_a_date_that_is_none_is_refused():
    said = f"2024-02-30 {bytes(32).hex()}"
    assert parsed_salt(f"{said} {blake2b(said.encode(), digest_size=4).hexdigest()}") is None
