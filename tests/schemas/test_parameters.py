"""A query string and a JSON event say the same in the same words."""

from contextlib import suppress
from decimal import Decimal
from math import isfinite

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.parameters import NUMBERS, TEXT, RejectError, from_json, from_query, number
from schemas.rejection import Reason


def reason(function, *arguments):
    with pytest.raises(RejectError) as caught:
        function(*arguments)
    assert caught.value.rejection.detail
    return caught.value.rejection.reason


def test_names_that_nobody_documented_are_dropped():
    assert from_query("s=a&x=1&S=b&pp=2&p=3") == {"s": "a"}
    assert from_json({"s": "a", "x": 1, "S": "b", "p": {"deep": True}}) == {"s": "a"}


def test_of_a_repeated_parameter_the_first_counts():
    assert from_query("s=a&s=b&ti=&ti=late&p.k=1&p.k=2") == {"s": "a", "ti": "late", "p.k": "1"}


def test_of_a_repeated_parameter_the_first_counts_even_when_it_is_spelled_with_escapes():
    assert from_query("%73=a&s=b") == {"s": "a"}


def test_plus_is_a_space_and_percent_is_utf8():
    assert from_query("ti=a+b%20c%C3%A4&u=http%3A%2F%2Fx%2F%3Fa%3D1%26b") == {"ti": "a b cä", "u": "http://x/?a=1&b"}
    assert from_query("ti=a=b") == {"ti": "a=b"}


@pytest.mark.parametrize("query", ["ti=%zz", "ti=%", "ti=%4", "%zz=1", "ti=%ff", "ti=a%00b", "ti=%C3", "ti=%ED%A0%80"])
def test_broken_encoding(query):
    assert reason(from_query, query) is Reason.BAD_ENCODING


def test_broken_encoding_where_nobody_reads_hurts_nobody():
    assert from_query("s=a&unknown=%zz") == {"s": "a"}


def test_json_numbers_and_texts():
    found = from_json({"t": 1, "sent": "2", "v": 1.1, "id": 77, "oid": 0, "uid": "u", "c": 1, "p.n": 5, "p.b": True})
    assert found == {
        "t": Decimal(1),
        "sent": Decimal(2),
        "v": Decimal("1.1"),
        "id": "77",
        "oid": "0",
        "uid": "u",
        "c": "1",
        "p.n": "5",
        "p.b": "true",
    }


@pytest.mark.parametrize("absent", [None, ""])
@pytest.mark.parametrize("name", ["s", "e", "t", "v", "items", "id", "p.k"])
def test_null_and_empty_text_are_absent_in_json(name, absent):
    assert from_json({name: absent}) == {}


@pytest.mark.parametrize(
    "event",
    [
        {"s": 1},
        {"u": ["x"]},
        {"ti": {"a": "b"}},
        {"e": True},
        {"id": 1.5},
        {"id": False},
        {"c": 2},
        {"t": []},
        {"t": True},
        {"v": {}},
        {"sent": False},
        {"p.k": ["x"]},
        {"cur": 978},
    ],
)
def test_another_type_than_documented(event):
    assert reason(from_json, event) is Reason.BAD_TYPE


def test_a_nul_in_json():
    assert reason(from_json, {"ti": "a\0b"}) is Reason.BAD_ENCODING


def test_items_are_json_in_both():
    items = [{"sku": "a", "qty": 2}]
    assert from_query("items=%5B%7B%22sku%22%3A%22a%22%2C%22qty%22%3A2%7D%5D") == {"items": items}
    assert from_json({"items": items}) == from_json({"items": '[{"sku":"a","qty":2}]'}) == {"items": items}
    assert reason(from_query, "items=%5B") is Reason.BAD_ITEMS
    assert reason(from_json, {"items": "[1"}) is Reason.BAD_ITEMS


@pytest.mark.parametrize(("value", "text"), [(0.1, "0.1"), ("0.1", "0.1"), (5, "5"), (" 7 ", "7"), (1e21, "1E+21")])
def test_numbers_are_exact(value, text):
    assert number("v", value) == Decimal(text)


@pytest.mark.parametrize("value", ["x", "1,5", "nan", "inf", "-Infinity", "1e99", "9" * 41, "0x10", "1 2", ""])
def test_no_number(value):
    assert reason(number, "v", value) is Reason.BAD_VALUE
    assert reason(number, "t", value) is Reason.BAD_TIME


slowly = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
names = st.sampled_from([*sorted(TEXT | NUMBERS), "items", "p.k", "p.", "zz"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2),
    max_leaves=4,
)


@slowly
@given(st.text(alphabet='se=&%+0aFtzp.vuid\0ä[]{}":,', max_size=80))
def test_any_query_is_parameters_or_a_reason(query):
    with suppress(RejectError):
        check(from_query(query))


@slowly
@given(st.dictionaries(names, json_values, max_size=6))
def test_any_json_is_parameters_or_a_reason(event):
    with suppress(RejectError):
        check(from_json(event))


def check(found):
    for name, value in found.items():
        if name in NUMBERS:
            assert isfinite(value)
        elif name != "items":
            assert value
            assert "\0" not in value
            value.encode()


@pytest.mark.parametrize("given", ["1795195748332", " 1795195748332 ", "1795195748332.9", "1.7951957483329e12"])
def test_times_are_whole_milliseconds(given):
    assert from_query(f"t={given}")["t"] == 1795195748332
    assert type(from_query(f"sent={given}")["sent"]) is int
    assert from_json({"t": given})["t"] == 1795195748332


def test_a_broken_value_is_told_by_its_name_each_time_it_comes():
    for name in ("ti", "u", "ti"):
        with pytest.raises(RejectError, match=f"^{name} has a %"):
            from_query(f"{name}=50%25%+off")
