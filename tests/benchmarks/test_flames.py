"""Stacks as perf prints them become stacks by thread; names are kept short."""

from benchmarks.flames import folded, python_file, short, waits

SAID = """\
MergeMutate  8123/8140 100.500001:   5025125 cpu-clock:ppp:
\t    55d0 DB::Merge::run(std::vector<int>)+0x12 (/opt/_chdb.abi3.so)
\t    55d1 [unknown] (/opt/_chdb.abi3.so)
\t    55d2 start_thread+0x2f (/usr/lib/libc.so.6)

data-plane kafka-0   812 [001] 100.600001:  5025125 cpu-clock:ppp:
\t    7f01 Lkafka/network/Processor;::run+0x4 (/tmp/perf-812.map)

MergeMutate  8123/8141 100.700001:   5025125 cpu-clock:ppp:
\t    55d0 DB::Merge::run(std::vector<int>)+0x99 (/opt/_chdb.abi3.so)
\t    55d1 [unknown] (/opt/_chdb.abi3.so)
\t    55d2 start_thread+0x2f (/usr/lib/libc.so.6)
"""


def test_equal_stacks_are_counted_together_outermost_first():
    stacks = folded(SAID.splitlines())
    assert sorted(stacks.values()) == [1, 2]
    (merge,) = (stack for stack, count in stacks.items() if count == 2)
    assert merge == ("MergeMutate", "start_thread", "[_chdb.abi3.so]", "DB::Merge::run")
    (network,) = (stack for stack, count in stacks.items() if count == 1)
    assert network == ("data-plane kafka", "Lkafka/network/Processor;::run")


def test_what_waits_is_told_from_what_works():
    assert waits(("main (a.py:1)", "EpollSelector.select (selectors.py:468)", "epoll_wait (libc.so.6)"))
    assert waits(("request (urllib3/connection.py:3)", "__recv (libc.so.6)"))
    assert not waits(("main (a.py:1)", "decode (consumers/decode.py:40)", "orjson_loads (orjson.so)"))
    assert not waits(("main (a.py:1)", "write (libc.so.6)"))


def test_time_in_native_code_is_its_python_callers():
    assert (
        python_file(("main (a.py:1)", "decode (consumers/decode.py:40)", "loads (orjson.so)")) == "consumers/decode.py"
    )
    assert python_file(("start (libc.so.6)",)) == "no Python"
    compiled = ("run (a.py:1)", "CPyDef_validate____event (__native_hitstream.c:146898)", "PyDict_New (dict.c:1)")
    assert python_file(compiled) == "schemas/validate.py"


def test_names_are_short():
    assert short("DB::f<std::vector<A<int>>, B>(C const&)", "x") == "DB::f"
    assert short("[unknown]", "/usr/lib/libz.so") == "[libz.so]"
    assert len(short("x" * 500, "")) == 80
