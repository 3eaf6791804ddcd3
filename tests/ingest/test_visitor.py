import pytest

from ingest.visitor import OPTED_OUT, Visitors

NOW = 1_700_000_000
ID = b"00000000000000ab"


def visitors(**changes):
    return Visitors(**{"renew_s": 3600, "secure": False, "third_party": False, **changes})


@pytest.mark.parametrize(
    "cookie",
    [
        b"_hs=00000000000000ab.1700000000",
        b"a=b; _hs=00000000000000ab.1700000000",
        b"a=b;_hs=00000000000000ab.1700000000; c=d",
        b"_hs=00000000000000ab.1700000000 ; c=d",
        b"my_hs=x; _hs=00000000000000ab.1700000000",
        b"a=_hs; _hs=00000000000000ab.1700000000",
    ],
)
def test_a_valid_cookie(cookie):
    assert visitors().read(cookie, NOW) == (ID, 1_700_000_000)


@pytest.mark.parametrize(
    "cookie",
    [
        None,
        b"",
        b"a=b",
        b"_hs=",
        b"_hs=00000000000000ab",
        b"_hs=00000000000000ab.",
        b"_hs=00000000000000AB.1700000000",
        b"_hs=0000000000000ab.1700000000",
        b"_hs=000000000000000ab.1700000000",
        b"_hs=00000000000000ab.01700000000",
        b"_hs=00000000000000ab.-1",
        b"_hs=00000000000000ab.0",
        b"_hs=00000000000000ab.170000000000",
        b"_hs=00000000000000ab.1700000000x",
        b'_hs="00000000000000ab.1700000000"',
        b"_hs=0000000000000000.1700000000",
        b"_HS=00000000000000ab.1700000000",
        b"my_hs=00000000000000ab.1700000000",
        b"a=b _hs=00000000000000ab.1700000000",
        b"_hs=00000000000000ab.1700000000; _hs=00000000000000ab.1700000000",
        b"_hs=00000000000000ab.1700000000; _hs=x",
        b"_hs=00000000000000ab.1700086401",
    ],
)
def test_what_counts_as_absent(cookie):
    assert visitors().read(cookie, NOW) is None


@pytest.mark.parametrize(
    "cookie",
    [
        b"_hs_out=1",
        b"a=b; _hs_out=1",
        b"_hs=00000000000000ab.1700000000; _hs_out=1",
        b"_hs_out=1; _hs=00000000000000ab.1700000000",
        b"a=b;_hs_out=1 ;_hs=x",
        b"_hs_out=0; _hs_out=1",
    ],
)
def test_the_opt_out_cookie_is_all_that_counts(cookie):
    assert visitors().read(cookie, NOW) == OPTED_OUT


@pytest.mark.parametrize(
    "cookie", [b"_hs_out=0", b"_hs_out=", b"_hs_out=11", b"my_hs_out=1", b"_hs_out=1x", b"_HS_OUT=1", b"a=_hs_out=1"]
)
def test_what_is_no_opt_out_cookie(cookie):
    assert visitors().read(cookie, NOW) is None
    assert visitors().read(b"_hs=00000000000000ab.1700000000; " + cookie, NOW) == (ID, 1_700_000_000)


def test_born_a_day_ahead_is_still_believed():
    assert visitors().read(b"_hs=00000000000000ab.1700086400", NOW)[1] == NOW + 86_400


def test_ids_are_minted_in_batches_and_never_0():
    asked = []

    def random(size):
        asked.append(size)
        return bytes(size - 8) + b"\x00" * 7 + b"\x01" if len(asked) == 1 else b"\x02" * size

    made = visitors(random=random)
    assert made.mint() == b"0000000000000001"
    assert made.mint() == b"0202020202020202"
    assert len(asked) == 2
    assert len({visitors().mint() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("changes", "https", "attributes"),
    [
        ({}, False, b"; Path=/; HttpOnly; SameSite=Lax; Max-Age=34128000"),
        ({}, True, b"; Path=/; HttpOnly; SameSite=Lax; Max-Age=34128000; Secure"),
        ({"secure": True}, False, b"; Path=/; HttpOnly; SameSite=Lax; Max-Age=34128000; Secure"),
        ({"third_party": True}, False, b"; Path=/; HttpOnly; SameSite=None; Secure; Partitioned; Max-Age=34128000"),
    ],
)
def test_attributes(changes, https, attributes):
    line = visitors(**changes).set_cookie(ID, NOW, https=https)
    assert line == b"Set-Cookie: _hs=00000000000000ab.1700000000" + attributes + b"\r\n"
