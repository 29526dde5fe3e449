"""The contract of Store, on every kind of device: pairs, scans, close, threads."""

import os
import pickle
import signal
import threading
import time
from array import array
from concurrent.futures import ThreadPoolExecutor

import pytest
from store_samples import some_bytes, some_pairs

import cubbydb
from cubbydb import errors
from cubbydb._native import ffi, lib

SIZES = [0, 1, 2, 17, 100, 399, 500, 900, 980, 1000, 1024, 1100, 2000, 4000, 4095, 4096, 4097]
SIZES += [8192, 20_000, 65_000, 65_535, 65_536, 65_537, 131_072, 200_000]
KEY_SIZES = [1, 2, 16, 127, 128, 255, 256, 900, 1000, 1024, 4000, 4096, 5000, 65_534, 65_535]


class StoreContract:
    """What every store does; subclasses say on what."""

    @pytest.fixture
    def path(self, tmp_path):
        raise NotImplementedError

    @pytest.fixture
    def store(self, path):
        with cubbydb.open(path, "n", size="64M") as store:
            yield store

    # One pair

    def test_a_pair_that_was_put_is_found(self, store):
        store.put(b"key", b"value")
        assert store.get(b"key") == b"value"
        assert store[b"key"] == b"value"
        assert b"key" in store

    def test_a_missing_key_is_none_or_the_default(self, store):
        assert store.get(b"key") is None
        assert store.get(b"key", 7) == 7
        assert b"key" not in store

    def test_a_missing_key_in_brackets_is_a_key_error_with_the_key(self, store):
        with pytest.raises(KeyError) as caught:
            store[b"key"]
        assert type(caught.value) is errors.NotFound
        assert caught.value.args == (b"key",)

    def test_put_replaces_the_value(self, store):
        for size in (10, 300, 5000, 0, 100_000, 20):
            store[b"key"] = some_bytes(size)
            assert store[b"key"] == some_bytes(size)
        assert len(store) == 1

    def test_delete_tells_whether_there_was_a_pair(self, store):
        store[b"key"] = b"value"
        assert store.delete(b"key") is True
        assert store.delete(b"key") is False
        assert store.get(b"key") is None

    def test_del_of_a_missing_key_is_a_key_error(self, store):
        store[b"key"] = b"value"
        del store[b"key"]
        with pytest.raises(errors.NotFound, match="b'key'"):
            del store[b"key"]
        with pytest.raises(errors.NotFound):
            del store[bytearray(b"key")]

    @pytest.mark.parametrize("size", SIZES)
    def test_a_value_of_any_size_comes_back(self, store, size):
        for content in (some_bytes(size), bytes(size)):
            store[b"key"] = content
            assert store[b"key"] == content
            assert store.get_many([b"key", b"none"]) == [content, None]
            assert list(store.items()) == [(b"key", content)]

    @pytest.mark.parametrize("size", KEY_SIZES)
    def test_a_key_of_any_size_is_found(self, store, size):
        key = some_bytes(size)
        for value in (b"", b"value", some_bytes(3000)):
            store[key] = value
            assert store[key] == value
            assert key in store
            assert store.get_many([key]) == [value]
            assert list(store.scan(key[:3])) == [(key, value)]
        assert key[:-1] + b"?" not in store
        assert store.delete(key)
        assert len(store) == 0

    def test_keys_and_values_may_hold_any_byte(self, store):
        pairs = {bytes([byte]): bytes([byte, 0, byte]) for byte in range(256)}
        store.put_many(pairs)
        assert dict(store.items()) == pairs

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_any_bytes_like_object_is_taken(self, store, kind):
        key, value = kind(b"key"), kind(b"value")
        store[key] = value
        assert store[key] == store.get(key) == b"value"
        assert type(store[key]) is bytes
        assert key in store
        assert store.get_many([key, b"key"]) == [b"value", b"value"]
        assert store.put_many([(key, value)]) == 1
        assert list(store.scan(kind(b"k"))) == [(b"key", b"value")]
        assert store.delete(key)

    def test_a_buffer_of_wider_items_is_taken_by_its_bytes(self, store):
        words = array("I", range(100))
        store[memoryview(words)] = memoryview(words)
        assert store[words.tobytes()] == words.tobytes()
        assert store.get_many([memoryview(words)]) == [words.tobytes()]

    @pytest.mark.parametrize("wrong", ["text", 5, None, [1, 2], 1.5, ("a",)])
    def test_what_is_not_bytes_is_a_type_error(self, store, wrong):
        for call in (
            lambda: store[wrong],
            lambda: store.get(wrong),
            lambda: store.put(wrong, b""),
            lambda: store.put(b"key", wrong),
            lambda: store.delete(wrong),
            lambda: wrong in store,
            lambda: store.get_many([b"key", wrong]),
            lambda: store.put_many([(b"key", wrong)]),
            lambda: store.put_many([(wrong, b"key")]),
            lambda: store.scan(wrong),
        ):
            with pytest.raises(TypeError, match="is bytes, not"):
                call()
        assert len(store) == 0

    def test_a_str_is_told_to_be_encoded(self, store):
        with pytest.raises(TypeError, match=r"encode it first: 'naïve'\.encode\(\)"):
            store["naïve"]

    @pytest.mark.parametrize("key", [b"", b"k" * 65_536], ids=["empty", "too long"])
    def test_a_key_of_a_wrong_size_is_a_value_error_naming_the_size(self, store, key):
        for call in (
            lambda: store[key],
            lambda: store.get(key),
            lambda: store.put(key, b""),
            lambda: store.delete(key),
            lambda: key in store,
            lambda: store.get_many([b"key", key]),
            lambda: store.put_many([(b"key", b""), (key, b"")]),
        ):
            with pytest.raises(ValueError, match=rf"1 to 65,535 bytes, this one {len(key):,}"):
                call()

    # Many pairs

    def test_get_many_keeps_the_order_and_knows_what_is_missing(self, store):
        pairs = some_pairs(3000)
        assert store.put_many(pairs) == 3000
        keys = [*pairs, b"none", *reversed(pairs), b"", b"key 5", b"key 5"]
        keys.remove(b"")
        assert store.get_many(keys) == [pairs.get(key) for key in keys]

    def test_get_many_takes_any_iterable(self, store):
        store.put_many(some_pairs(10))
        assert store.get_many(iter([b"key 1", b"none"])) == [some_bytes(60, 1), None]
        assert store.get_many((b"key 1",)) == [some_bytes(60, 1)]
        assert store.get_many([]) == []

    def test_many_values_of_all_sizes_come_back(self, store):
        pairs = {b"key %d" % size: some_bytes(size) for size in SIZES}
        store.put_many(pairs)
        assert store.get_many(list(pairs)) == list(pairs.values())

    def test_put_many_takes_pairs_that_use_the_store_meanwhile(self, store):
        store.put_many((b"%d" % number, b"%d" % len(store)) for number in range(3000))
        assert len(store) == 3000
        assert store[b"2999"] == b"2048"

    def test_of_two_pairs_with_one_key_the_later_stays(self, store):
        store.put_many([(b"key", b"1"), (b"other", b""), (b"key", b"2")])
        assert store[b"key"] == b"2"
        store.put_many((b"key", b"%d" % number) for number in range(2500))
        assert store[b"key"] == b"2499"

    def test_put_many_of_more_than_a_batch_of_bytes(self, store):
        value = some_bytes(1 << 20)
        store.put_many((b"%d" % number, value) for number in range(20))
        assert [*map(len, store.values())] == [1 << 20] * 20

    def test_many_pairs_grow_the_store(self, store):
        pairs = some_pairs(40_000, 100)
        store.put_many(pairs)
        assert len(store) == 40_000
        assert dict(store.items()) == pairs
        for key in list(pairs)[::7]:
            assert store[key] == pairs[key]
        assert store.check() == []

    # Scans

    def test_a_scan_returns_every_pair_once(self, store):
        pairs = some_pairs(5000)
        store.put_many(pairs)
        found = list(store.scan())
        assert len(found) == 5000
        assert dict(found) == pairs
        assert sorted(store) == sorted(store.keys()) == sorted(pairs)
        assert sorted(store.values()) == sorted(pairs.values())
        assert dict(store) == pairs

    def test_a_scan_of_a_prefix_returns_its_keys_alone(self, store):
        pairs = some_pairs(500)
        store.put_many(pairs)
        wanted = {key for key in pairs if key.startswith(b"key 12")}
        assert {key for key, _ in store.scan(b"key 12")} == wanted
        assert list(store.scan(b"none")) == []

    def test_a_scan_goes_on_from_its_cursor(self, store):
        pairs = some_pairs(1000)
        store.put_many(pairs)
        found = []
        cursor = None
        for _ in range(12):
            with store.scan(cursor=cursor, limit=100) as scan:
                found += scan
                cursor = scan.cursor
        assert len(cursor) == lib.CUBBY_CURSOR_BYTES
        assert len(found) == 1000
        assert dict(found) == pairs

    def test_a_cursor_stays_readable_after_close(self, store):
        store.put_many(some_pairs(10))
        scan = store.scan()
        next(scan)
        cursor = scan.cursor
        scan.close()
        scan.close()
        assert scan.cursor == cursor
        assert len(list(store.scan(cursor=cursor))) == 9
        assert list(scan) == []

    def test_the_cursor_of_a_finished_scan_has_nothing_after_it(self, store):
        store.put_many(some_pairs(10))
        scan = store.scan()
        assert len(list(scan)) == 10
        assert list(store.scan(cursor=scan.cursor)) == []

    def test_a_limit_is_kept(self, store):
        store.put_many(some_pairs(10))
        assert len(list(store.scan(limit=3))) == 3
        assert list(store.scan(limit=0)) == []
        with pytest.raises(ValueError, match="a limit is 0 or more, not -1"):
            store.scan(limit=-1)
        for limit in ("3", 2.5, True):
            with pytest.raises(TypeError, match="a limit is an int, not"):
                store.scan(limit=limit)

    def test_a_wrong_cursor_is_an_error_before_the_scan(self, store):
        with pytest.raises(ValueError, match="24 bytes, this one has 3"):
            store.scan(cursor=b"abc")
        with pytest.raises(TypeError, match="a cursor is bytes"):
            store.scan(cursor="0" * 24)
        with pytest.raises(ValueError, match="cursor"):
            store.scan(cursor=b"\xff" * 24)

    def test_a_scan_sees_stable_pairs_once_while_the_store_changes(self, store):
        stable = some_pairs(2000)
        store.put_many(stable)
        found = []
        for number, (key, _) in enumerate(store.scan()):
            found.append(key)
            if number < 4000:
                store[b"new %d" % number] = some_bytes(200, number)
            store.get(key)
        found = [key for key in found if key in stable]
        assert sorted(found) == sorted(stable)

    def test_two_scans_at_a_time_do_not_mix(self, store):
        pairs = some_pairs(300)
        store.put_many(pairs)
        one, two = store.scan(), store.scan(b"key 1")
        together = [(next(one), next(two)) for _ in range(100)]
        assert all(pairs[key] == value for both in together for key, value in both)

    def test_a_scan_belongs_to_its_thread(self, store):
        store.put_many(some_pairs(10))
        scan = store.scan()
        caught = []

        def use():
            try:
                next(scan)
            except RuntimeError as error:
                caught.append(str(error))

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        assert caught == ["a scan belongs to the thread that began it"]

    # The store as a whole

    def test_len_counts_pairs(self, store):
        assert len(store) == 0
        store.put_many(some_pairs(100))
        store[b"key 1"] = b""
        del store[b"key 2"]
        assert len(store) == 99

    def test_stat_has_the_fields_of_the_c_struct_and_they_count(self, store):
        names = [name for name, _ in ffi.typeof("struct cubby_stat").fields]
        assert list(store.stats()) == [*names, "device_reads_per_get", "latency"]
        assert list(cubbydb.StoreStat.__annotations__) == list(store.stats())
        assert store.stats()["device_reads_per_get"] is None
        store.put_many(some_pairs(1000))
        store.delete(b"key 1")
        store.get(b"key 1")
        assert store.stats()["dirty_pairs"] > 0
        assert len(store) == 999  # which has all of them written to their places
        store.get_many([b"key 2", b"key 3"])
        stat = store.stats()
        assert (stat["pairs"], stat["puts"], stat["deletes"]) == (999, 1000, 1)
        assert (stat["dirty_pairs"], stat["written_back_pairs"]) == (0, 1000)
        assert (stat["gets"], stat["get_misses"]) == (3, 1)
        assert 0 < stat["device_reads_per_get"] < 3  # the first get found its key in memory

    def test_sync_step_and_check_work_on_a_store_in_use(self, store):
        for begin in range(0, 3000, 500):
            store.put_many((b"%d" % number, bytes(90)) for number in range(begin, begin + 500))
            store.sync()
            for _ in range(100):
                if not store.step():
                    break
        assert store.check() == []
        assert len(store) == 3000

    def test_a_store_says_what_it_is(self, store, path):
        assert store.path == os.fspath(path)
        assert store.read_only is False
        assert repr(store) == f"<cubbydb.Store {os.fspath(path)!r}, read-write>"

    def test_a_store_cannot_be_pickled(self, store):
        with pytest.raises(TypeError):
            pickle.dumps(store)

    # After close

    def test_close_twice_is_allowed(self, store):
        assert store.closed is False
        store.close()
        store.close()
        assert store.closed is True
        assert repr(store).endswith(", closed>")

    def test_every_use_after_close_raises_closed(self, store):
        store.put_many(some_pairs(10))
        begun = store.scan()
        next(begun)
        store.close()
        for call in (
            lambda: store[b"key 1"],
            lambda: store.get(b"key 1"),
            lambda: store.put(b"key 1", b""),
            lambda: store.delete(b"key 1"),
            lambda: b"key 1" in store,
            lambda: len(store),
            lambda: store.get_many([b"key 1"]),
            lambda: store.put_many([(b"key 1", b"")]),
            lambda: list(store),
            lambda: store.scan(),
            lambda: next(begun),
            lambda: store.sync(),
            lambda: store.step(),
            lambda: store.stats(),
            lambda: store.check(),
        ):
            with pytest.raises(errors.Closed) as caught:
                call()
            assert isinstance(caught.value, ValueError)
        begun.close()

    def test_a_session_of_another_thread_knows_of_the_close(self, store):
        used, closed = threading.Event(), threading.Event()
        caught = []

        def use():
            store[b"key"] = b"value"
            used.set()
            closed.wait()
            try:
                store.get(b"key")
            except errors.Closed as error:
                caught.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        used.wait()
        store.close()
        closed.set()
        thread.join()
        assert len(caught) == 1

    # Threads

    def test_threads_share_a_store(self, store):
        failures = []

        def work(name: int):
            try:
                mixed_work(store, name)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(store) == 8 * 250
        assert store.check() == []

    def test_a_close_amid_the_work_of_threads_ends_it_cleanly(self, store):
        store.put_many(some_pairs(500))
        ends = []

        def work(name: int):
            try:
                while True:
                    store[b"key %d" % name] = bytes(200)
                    store.get_many([b"key %d" % number for number in range(50)])
                    next(store.scan())
            except BaseException as error:
                ends.append(type(error))

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(50):
            assert store.get(b"key 100") is not None
        store.close()
        for thread in threads:
            thread.join(60)
        assert ends == [errors.Closed] * 4

    def test_a_call_from_a_signal_handler_spoils_no_result(self, store):
        store.put_many({b"a": b"a" * 500, b"b": b"b" * 500})

        is_over = threading.Event()  # a handler that runs late must not set the timer again

        def use_the_store(*_):
            store.get_many([b"b"])
            assert store[b"b"] == b"b" * 500
            if not is_over.is_set():
                signal.setitimer(signal.ITIMER_REAL, 0.0003)

        before = signal.signal(signal.SIGALRM, use_the_store)
        signal.setitimer(signal.ITIMER_REAL, 0.0003)
        try:
            values = {store[b"a"] for _ in range(20_000)}
            scanned = {pair for _ in range(200) for pair in store.scan(b"a")}
        finally:
            is_over.set()
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert values == {b"a" * 500}
        assert scanned == {(b"a", b"a" * 500)}


def mixed_work(store: cubbydb.Store, name: int) -> None:
    """Put, get, delete and scan pairs of one's own; 250 of them stay."""
    prefix = b"thread %d " % name
    mine = {prefix + b"%d" % number: some_bytes(number * 5, name) for number in range(400)}
    store.put_many(mine)
    for number, (key, value) in enumerate(mine.items()):
        assert store[key] == value
        if number % 2:
            mine[key] = value[::-1]
            store[key] = mine[key]
    for key in list(mine)[:150]:
        assert store.delete(key)
        del mine[key]
    assert store.get_many(list(mine)) == list(mine.values())
    assert dict(store.scan(prefix)) == mine


class TestStoreInAFile(StoreContract):
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "data.cubby"


class TestStoreInMemory(StoreContract):
    @pytest.fixture
    def path(self, tmp_path):
        return "mem:256M"


def test_another_thread_sees_how_far_a_check_has_come(tmp_path):
    path = tmp_path / "data.cubby"
    with cubbydb.open(path, "c", size="16M") as store:
        store[b"key"] = b"value"
    seen = []
    with cubbydb.open(f"fault:delay=20000:{path}") as slow, ThreadPoolExecutor(1) as pool:
        damages = pool.submit(slow.check)
        while not damages.done():
            seen.append(slow.check_progress())
            time.sleep(0.002)
        assert damages.result() == []
        assert slow.check_progress() == (0, 0)
    assert all(done <= total for done, total in seen)
    assert any(total > 0 for _, total in seen)
