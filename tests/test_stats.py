"""Store.stats: how long calls take, and that all of it is JSON.  Counts are asserted, not times."""

import json
import threading

import pytest

import cubbydb
from cubbydb._native import ffi
from cubbydb.engine.stats import OPERATIONS

ONE_IN = 17  # gets and deletes


@pytest.fixture
def store():
    with cubbydb.open("mem:16M", "c") as store:
        yield store


def counts_of(store: cubbydb.Store) -> dict[str, int]:
    """Timed calls by operation, without those of which there are none."""
    latency = store.stats()["latency"]
    return {name: figures["count"] for name, figures in latency.items() if figures["count"]}


def test_every_operation_of_the_c_side_is_there():
    native = [
        name.removeprefix("CUBBY_OPERATION_").lower()
        for _, name in sorted(ffi.typeof("enum cubby_operation").elements.items())
    ]
    assert native == [*OPERATIONS, "count"]


def test_a_new_store_has_timed_nothing(store):
    for operation, latency in store.stats()["latency"].items():
        assert list(latency) == list(cubbydb.Latency.__annotations__)
        one_in = ONE_IN if operation in {"get", "delete"} else 1
        assert latency == dict.fromkeys(latency, 0) | {"one_in": one_in, "buckets": []}


def test_calls_are_counted_by_operation(store):
    store.put_many((b"%d" % number, bytes(100)) for number in range(10))
    assert counts_of(store) == {"put_many": 1}
    store[b"a"] = store[b"b"] = b"value"
    assert store.add(b"a", b"other") is False
    assert store.get_many([b"a", b"1", b"none"]) == [b"value", bytes(100), None]
    assert [store.get(b"a") for _ in range(ONE_IN)] == [b"value"] * ONE_IN
    assert b"none" not in store  # the second one that is timed
    assert store.delete(b"none") is False
    assert store.pop(b"a") == b"value"  # not timed
    store.sync()
    assert sum(1 for _ in store) == 11
    assert counts_of(store) == {
        "put_many": 1,
        "put": 3,
        "get_many": 1,
        "get": 2,
        "delete": 1,
        "sync": 1,
        "scan": store.stats()["segments"],
    }


def test_the_figures_of_one_operation_agree_with_each_other(store):
    for number in range(2000):
        store[b"%d" % number] = bytes(number % 300)
    stat = store.stats()
    latency = stat["latency"]["put"]
    assert latency["count"] == stat["puts"] == 2000
    assert sum(count for _, count in latency["buckets"]) == 2000
    assert all(count > 0 for _, count in latency["buckets"])
    ends = [end_ns for end_ns, _ in latency["buckets"]]
    assert ends == sorted(set(ends))
    assert latency["max_ns"] == stat["longest_put_ns"]
    assert latency["mean_ns"] == latency["sum_ns"] / 2000
    ends_of_calls = [
        min(end_ns, latency["max_ns"]) for end_ns, count in latency["buckets"] for _ in range(count)
    ]
    assert latency["p50_ns"] == ends_of_calls[999]  # from the shortest on, the thousandth
    assert latency["p90_ns"] == ends_of_calls[1799]
    assert latency["p99_ns"] == ends_of_calls[1979]
    assert latency["p999_ns"] == ends_of_calls[1997]


def test_all_figures_are_json(store):
    store[b"key"] = b"value"
    store.sync()
    stat = store.stats()
    assert json.loads(json.dumps(stat)) == stat


def test_the_calls_of_all_threads_count_also_when_they_have_ended(store):
    def work() -> None:
        for number in range(100):
            store[b"%d" % number] = b"value"

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        latency = store.stats()["latency"]["put"]
        assert latency["count"] == sum(count for _, count in latency["buckets"])
    for thread in threads:
        thread.join()
    assert counts_of(store) == {"put": 400}
