"""Pairs that expire, as Python sees them, and compaction."""

import math
import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from store_samples import some_bytes

import cubbydb
from cubbydb import errors

SIZES = [0, 100, 990, 1100, 70_000]
HOUR = 3600


@pytest.fixture
def store():
    with cubbydb.open("mem:256M", "n", size="64M") as store:
        yield store
        if not store.closed:
            assert store.check() == []


@pytest.fixture
def long_ago(monkeypatch):
    """Let what is put with a ttl of some seconds be expired at once."""
    past = SimpleNamespace(time_ns=lambda: 0)
    monkeypatch.setattr("cubbydb.engine.session.time", past)


def has_about(left: float | None, seconds: float) -> bool:
    """A pair that was given so many seconds just now has no more, and most of them, left."""
    assert left is not None
    return seconds - 60 < left <= seconds + 0.001


# The calls that take a ttl, each storing under an absent key, and whether one must be there.
WAYS = {
    "put": lambda store, ttl: store.put(b"key", b"1", ttl=ttl),
    "put_many": lambda store, ttl: store.put_many({b"key": b"1"}, ttl=ttl),
    "add": lambda store, ttl: store.add(b"key", b"1", ttl=ttl),
    "setdefault": lambda store, ttl: store.setdefault(b"key", b"1", ttl=ttl),
    "incr": lambda store, ttl: store.incr(b"key", ttl=ttl),
    "swap in": lambda store, ttl: store.compare_and_swap(b"key", None, b"1", ttl=ttl),
    "replace": lambda store, ttl: store.replace(b"there", b"1", ttl=ttl),
    "swap": lambda store, ttl: store.compare_and_swap(b"there", b"0", b"1", ttl=ttl),
    "incr more": lambda store, ttl: store.incr(b"there", ttl=ttl),
    "expire": lambda store, ttl: store.expire(b"there", ttl),
}


@pytest.mark.parametrize("ttl", [HOUR, float(HOUR), timedelta(hours=1)])
@pytest.mark.parametrize("way", WAYS)
def test_each_call_that_stores_takes_a_ttl(store, way, ttl):
    store[b"there"] = b"0"
    WAYS[way](store, ttl)
    key = b"key" if b"key" in store else b"there"
    assert has_about(store.ttl(key), HOUR)
    assert store.get(key) in (b"1", b"0")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("ttl", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (-0.5, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        (10**12, ValueError),
        (timedelta(0), ValueError),
        (timedelta(days=-1), ValueError),
        ("60", TypeError),
        (b"60", TypeError),
        (True, TypeError),
    ],
)
def test_a_bad_ttl_is_named_and_nothing_is_stored(store, way, ttl, error):
    store[b"there"] = b"0"
    with pytest.raises(error) as caught:
        WAYS[way](store, ttl)
    assert "ttl" in str(caught.value)
    assert error is TypeError or str(ttl) in str(caught.value)
    assert dict(store.items()) == {b"there": b"0"}
    assert store.ttl(b"there") is None


@pytest.mark.parametrize("size", SIZES)
def test_what_has_expired_is_there_for_no_call(store, long_ago, size):
    value = some_bytes(size)
    store.put(b"key", value, ttl=1)
    assert store.get(b"key") is None
    assert b"key" not in store
    assert store.get_many([b"key"]) == [None]
    assert list(store.items()) == list(store) == []
    assert store.pop(b"key", b"none") == b"none"
    assert store.delete(b"key") is False
    assert store.replace(b"key", b"new") is False
    assert store.compare_and_swap(b"key", value, b"new") is False
    assert store.expire(b"key", HOUR) is False
    with pytest.raises(errors.NotFound):
        store.ttl(b"key")
    with pytest.raises(KeyError):
        store[b"key"]
    assert len(store) == 1  # it takes up space
    assert store.add(b"key", b"new") is True
    assert store[b"key"] == b"new"
    assert len(store) == 1


def test_a_put_takes_the_expiry_away_and_incr_keeps_it(store):
    store.put(b"key", b"5", ttl=HOUR)
    assert store.incr(b"key") == 6
    assert has_about(store.ttl(b"key"), HOUR)
    assert store.incr(b"key", ttl=2 * HOUR) == 7
    assert has_about(store.ttl(b"key"), 2 * HOUR)
    store.put(b"key", b"1")
    assert store.ttl(b"key") is None
    store.put_many({b"key": b"2"}, ttl=HOUR)
    store[b"key"] = b"3"
    assert store.ttl(b"key") is None
    assert store.incr(b"new") == 1
    assert store.ttl(b"new") is None


def test_incr_of_an_expired_counter_begins_anew(store, long_ago):
    store.put(b"key", b"5", ttl=1)
    assert store.incr(b"key", initial=100) == 101
    assert store.ttl(b"key") is None


@pytest.mark.parametrize("size", SIZES)
def test_expire_leaves_the_value_alone(store, size):
    value = some_bytes(size)
    store[b"key"] = value
    assert store.expire(b"key", 0.5 * HOUR) is True
    assert has_about(store.ttl(b"key"), 0.5 * HOUR)
    assert store[b"key"] == value
    assert store.expire(b"key", None) is True
    assert store.ttl(b"key") is None
    assert store[b"key"] == value
    assert store.expire(b"absent", 1) is False
    assert store.expire(b"absent", None) is False


def test_expire_loses_no_increment_of_other_threads(store):
    stop = threading.Event()

    def expire():
        while not stop.is_set():
            store.expire(b"count", HOUR)

    thread = threading.Thread(target=expire)
    thread.start()
    try:
        for _ in range(2000):
            store.incr(b"count")
    finally:
        stop.set()
        thread.join()
    assert store[b"count"] == b"2000"


def test_a_small_ttl_ends(store):
    store.put(b"key", b"value", ttl=0.0001)
    deadline = time.monotonic() + 60
    while b"key" in store:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert len(store) == 1


def test_scans_tell_when_pairs_expire(store):
    store.put_until(b"a", b"", 4_000_000_000_123)
    store.put_until(b"b", bytes(5000), 4_000_000_000_456)
    store[b"c"] = b""
    expected = {b"a": 4_000_000_000.123, b"b": 4_000_000_000.456, b"c": None}
    for keys_only in (False, True):
        with store.scan(keys_only=keys_only) as scan:
            assert scan.expires is None
            seen = {item if keys_only else item[0]: scan.expires for item in scan}
            assert seen == expected
            last = scan.expires
        assert scan.expires == last  # of the last pair, also when it is closed
    with store.scan(b"a", limit=1) as scan:
        next(scan)
        assert scan.expires_ms == 4_000_000_000_123


@pytest.mark.parametrize("expires_ms", [0, -1, 2**64 - 1, 2**64])
def test_put_until_refuses_what_is_no_time(store, expires_ms):
    with pytest.raises(ValueError, match=f"not {expires_ms}"):
        store.put_until(b"key", b"", expires_ms)
    assert len(store) == 0


@pytest.mark.parametrize("expires_ms", ["1", 1.5, True])
def test_put_until_refuses_what_is_no_int(store, expires_ms):
    kind = type(expires_ms).__name__
    with pytest.raises(TypeError, match=f"an expiry is an int, not {kind}"):
        store.put_until(b"key", b"", expires_ms)
    assert len(store) == 0


def test_put_until_takes_any_time(store):
    for expires_ms in (4_000_000_000_000, 2**63, 2**64 - 2, None):
        store.put_until(b"key", b"", expires_ms)
        with store.scan() as scan:
            next(scan)
            assert scan.expires_ms == expires_ms
    store.put_until(b"key", b"", 1)
    assert b"key" not in store


def test_a_space_passes_the_ttl_on(store):
    space = store.space(b"name")
    space.put(b"a", b"1", ttl=HOUR)
    space.put_many({b"b": b"2"}, ttl=2 * HOUR)
    space[b"c"] = b"3"
    assert has_about(space.ttl(b"a"), HOUR)
    assert has_about(space.ttl(b"b"), 2 * HOUR)
    assert space.ttl(b"c") is None
    assert space.expire(b"c", HOUR) is True
    assert has_about(space.ttl(b"c"), HOUR)
    assert space.expire(b"d", HOUR) is False
    with pytest.raises(errors.NotFound) as caught:
        space.ttl(b"d")
    assert caught.value.args == errors.NotFound(b"d").args
    with space.scan() as scan:
        assert all(scan.expires > time.time() for _ in scan)


def test_a_reopened_store_has_its_expiries(tmp_path, long_ago):
    path = tmp_path / "store"
    with cubbydb.open(path, "n", size="4M") as store:
        store.put_until(b"later", b"1", 4_000_000_000_000)
        store.put(b"past", b"2", ttl=1)
    with cubbydb.open(path) as store:
        assert dict(store.items()) == {b"later": b"1"}
        assert store.ttl(b"later") > 0
        assert store.check() == []


# Compaction --------------------------------------------------------------------------------------


def test_compact_drops_what_has_expired_and_gives_space_back(store, long_ago):
    pairs = {b"%d" % number: some_bytes(400, number) for number in range(3000)}
    store.put_many(pairs)
    store.put_many({b"big%d" % number: bytes(9000) for number in range(100)}, ttl=1)
    store.put_many({b"gone%d" % number: bytes(300) for number in range(3000)})
    store.delete_many(b"gone%d" % number for number in range(3000))
    store.put_many({b"old%d" % number: bytes(300) for number in range(100)}, ttl=1)
    count = len(store)  # has all of it written to its place
    before = store.stats()
    calls = []
    done = store.compact(lambda *figures: calls.append(figures))
    after = store.stats()
    assert calls == [(n + 1, before["segments"]) for n in range(before["segments"])]
    assert done.segments == before["segments"]
    assert 0 < done.rebuilt <= done.segments
    assert done.dropped_pairs == count - len(pairs)
    assert done.freed_bytes > 0
    assert after["used_bytes"] < before["used_bytes"]
    assert after["blobs"] == after["quarantined_bytes"] == 0
    assert len(store) == len(pairs)
    assert dict(store.items()) == pairs
    again = store.compact()
    assert (again.rebuilt, again.dropped_pairs, again.freed_bytes) == (0, 0, 0)


def test_what_progress_raises_ends_the_compaction(store, long_ago):
    store.put_many({b"%d" % number: bytes(400) for number in range(6000)})
    store.delete_many(b"%d" % number for number in range(2000))
    store.put(b"old", b"", ttl=1)
    assert store.stats()["segments"] > 1

    def stop(done, total):
        raise InterruptedError(done, total)

    with pytest.raises(InterruptedError):
        store.compact(stop)
    again = store.compact()
    assert 0 < again.rebuilt < again.segments
    assert len(store) == 4000


def test_a_store_that_is_read_only_or_closed_is_not_compacted(tmp_path):
    path = tmp_path / "store"
    cubbydb.open(path, "n", size="4M").close()
    with cubbydb.open(path) as store, pytest.raises(errors.ReadOnly):
        store.compact()
    for call in (store.compact, lambda: store.ttl(b"key"), lambda: store.expire(b"key", 1)):
        with pytest.raises(errors.Closed):
            call()
