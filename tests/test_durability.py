"""What changes survive: the three promises, per store and per call; and batches, all or nothing.

Processes that are killed for real are in test_kill.py, power cuts in the tests of the C side.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from store_samples import some_bytes

import cubbydb
from cubbydb import errors

PROMISES = ("power", "process", "none")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.cubby"


@pytest.fixture
def store(path):
    with cubbydb.open(path, "c", size="16M") as store:
        yield store


def flushes_of(store: cubbydb.Store, call: Callable[[], object]) -> int:
    """How often the device is flushed for the promise of a call."""
    before = store.stats()["log_flushes"]
    call()
    return store.stats()["log_flushes"] - before


def awaited(call: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return await call()

    return asyncio.run(main())


# Every call that changes pairs, made on a store that is prepared, with or without a durability.
CALLS: dict[str, Callable[..., Any]] = {
    "put": lambda store, **how: store.put(b"key", b"value", **how),
    "put with a ttl": lambda store, **how: store.put(b"key", b"value", ttl=60, **how),
    "put_until": lambda store, **how: store.put_until(b"key", b"value", None, **how),
    "put_many": lambda store, **how: store.put_many({b"a": b"1", b"b": b"2"}, **how),
    "delete": lambda store, **how: store.delete(b"1", **how),
    "delete_many": lambda store, **how: store.delete_many([b"1", b"2"], **how),
    "add": lambda store, **how: store.add(b"key", b"value", **how),
    "replace": lambda store, **how: store.replace(b"1", b"value", **how),
    "compare_and_swap": lambda store, **how: store.compare_and_swap(b"1", b"1", b"2", **how),
    "compare and add": lambda store, **how: store.compare_and_swap(b"key", None, b"2", **how),
    "compare and delete": lambda store, **how: store.compare_and_swap(b"1", b"1", None, **how),
    "setdefault": lambda store, **how: store.setdefault(b"key", b"value", **how),
    "incr": lambda store, **how: store.incr(b"1", **how),
    "pop": lambda store, **how: store.pop(b"1", **how),
    "popitem": lambda store, **how: store.popitem(**how),
    "expire": lambda store, **how: store.expire(b"1", 60, **how),
    "aput": lambda store, **how: awaited(lambda: store.aput(b"key", b"value", **how)),
    "adelete": lambda store, **how: awaited(lambda: store.adelete(b"1", **how)),
    "put of a space": lambda store, **how: store.space(b"s").put(b"key", b"value", **how),
    "delete of a space": lambda store, **how: store.space(b"s").delete(b"1", **how),
    "put_many of a space": lambda store, **how: store.space(b"s").put_many({b"a": b""}, **how),
    "expire of a space": lambda store, **how: store.space(b"s").expire(b"1", 60, **how),
}


def prepared(store: cubbydb.Store) -> cubbydb.Store:
    for mapping in (store, store.space(b"s")):
        mapping.put_many({b"1": b"1", b"2": b"2"})
        mapping.delete(b"key")
    return store


@pytest.mark.parametrize("name", CALLS)
def test_each_call_that_changes_pairs_can_promise_more_or_less_than_its_store(store, name):
    call = CALLS[name]
    assert flushes_of(prepared(store), lambda: call(store)) == 0
    assert flushes_of(prepared(store), lambda: call(store, durability="none")) == 0
    assert flushes_of(prepared(store), lambda: call(store, durability="process")) == 0
    assert flushes_of(prepared(store), lambda: call(store, durability="power")) == 1
    # What is put next without a promise of its own has the store's again.
    assert flushes_of(store, lambda: store.put(b"plain", b"value")) == 0


@pytest.mark.parametrize("name", CALLS)
def test_a_store_that_promises_power_does_so_for_each_call_that_does_not_say_less(path, name):
    call = CALLS[name]
    with cubbydb.open(path, "c", size="16M", durability="power") as store:
        assert flushes_of(prepared(store), lambda: call(store)) >= 1
        for less in ("process", "none"):
            prepared(store)
            assert flushes_of(store, lambda: call(store, durability=less)) == 0  # noqa: B023


@pytest.mark.parametrize("name", CALLS)
def test_a_durability_that_is_none_is_named_and_nothing_is_changed(store, name):
    before = dict(prepared(store).items())
    for wrong in ("disk", "", "POWER", "power "):
        with pytest.raises(ValueError, match=f"'power', 'process' or 'none', not {wrong!r}"):
            CALLS[name](store, durability=wrong)
    for wrong in (3, b"power", True):
        with pytest.raises(TypeError, match=f"a durability is a str, not {type(wrong).__name__}"):
            CALLS[name](store, durability=wrong)
    assert dict(store.items()) == before


def test_a_durability_that_is_none_is_told_also_where_there_is_nothing_to_do(store):
    for call in (
        lambda: store.put_many([], durability="disk"),
        lambda: store.delete_many([], durability="disk"),
        lambda: store.setdefault(b"1", b"2", durability="disk"),
        lambda: store.compare_and_swap(b"none", None, None, durability="disk"),
        lambda: store.batch(durability="disk"),
        lambda: store.space(b"s").batch(durability="disk"),
    ):
        with pytest.raises(ValueError, match="not 'disk'"):
            call()


def test_a_call_that_fails_leaves_the_promise_of_the_next_one_alone(store):
    for call in (
        lambda: store.put(b"", b"", durability="power"),
        lambda: store.delete(b"", durability="power"),
        lambda: store.pop(b"none", durability="power"),
        lambda: store.put_many([(b"", b"")], durability="power"),
        lambda: store.incr(b"text", durability="power"),
    ):
        store[b"text"] = b"text"
        with pytest.raises((ValueError, KeyError)):
            call()
        assert flushes_of(store, lambda: store.put(b"plain", b"value")) == 0


def test_changes_that_are_not_made_flush_nothing(store):
    store[b"key"] = b"value"
    for call in (
        lambda: store.add(b"key", b"other", durability="power"),
        lambda: store.replace(b"none", b"other", durability="power"),
        lambda: store.compare_and_swap(b"key", b"other", b"more", durability="power"),
        lambda: store.delete(b"none", durability="power"),
        lambda: store.delete_many([b"none"], durability="power"),
        lambda: store.pop(b"none", None, durability="power"),
    ):
        assert flushes_of(store, call) == 0


def test_many_pairs_of_one_call_share_their_flushes(store):
    pairs = {b"%d" % number: b"value" for number in range(2500)}
    # Write-back flushes now and then, too.
    assert flushes_of(store, lambda: store.put_many(pairs, durability="power")) < 25
    assert flushes_of(store, lambda: store.delete_many(pairs, durability="power")) < 25
    assert len(store) == 0


def test_the_pairs_of_one_turn_of_an_event_loop_share_a_flush(store):
    async def main() -> None:
        await asyncio.gather(
            *(store.aput(b"%d" % number, b"value", durability="power") for number in range(500))
        )

    assert flushes_of(store, lambda: asyncio.run(main())) == 1
    assert len(store) == 500


def test_sync_flushes_what_promised_nothing(path):
    with cubbydb.open(path, "c", size="16M", durability="none") as store:
        assert flushes_of(store, lambda: store.put(b"key", b"value")) == 0
        assert flushes_of(store, store.sync) == 1


@pytest.mark.parametrize("durability", PROMISES)
def test_whatever_was_promised_is_there_after_close(path, durability):
    pairs = {b"%d" % number: some_bytes(number, number) for number in range(2000)}
    with cubbydb.open(path, "c", size="16M", durability=durability) as store:
        store.put_many(pairs)
        store.put(b"more", b"value", durability="none")
    for flag in "rw":
        with cubbydb.open(path, flag, durability=durability) as store:
            assert store.stats()["recovered"] == 0
            assert dict(store.items()) == pairs | {b"more": b"value"}
            assert store.check() == []


def test_memory_for_dirty_pairs_is_an_option(path):
    with cubbydb.open(path, "c", size="64M", dirty_bytes="256K") as store:
        assert store.stats()["dirty_limit_bytes"] == 256 << 10
        store.put_many((b"%d" % number, bytes(200)) for number in range(20_000))
        stat = store.stats()
        assert 0 < stat["dirty_bytes"] <= 256 << 10
        assert stat["written_back_pairs"] > 10_000
    with cubbydb.open(path, "w", dirty_bytes="1T") as store:  # as far as the log has room
        assert 256 << 10 < store.stats()["dirty_limit_bytes"] < store.stats()["log_capacity_bytes"]
        assert len(store) == 20_000


# Batches -----------------------------------------------------------------------------------------


def test_a_batch_is_committed_at_the_end_of_its_block_and_not_seen_before(store):
    store.put_many({b"old": b"1", b"changed": b"1"})
    with store.batch() as batch:
        batch[b"new"] = b"2"
        batch.put(bytearray(b"changed"), memoryview(b"2"))
        batch.put(b"session", b"token", ttl=60)
        batch.put(b"blob", bytes(5000))
        del batch[b"old"]
        batch.delete(b"none")
        assert len(batch) == 6
        assert dict(store.items()) == {b"old": b"1", b"changed": b"1"}
    assert dict(store.items()) == {
        b"new": b"2",
        b"changed": b"2",
        b"session": b"token",
        b"blob": bytes(5000),
    }
    assert 50 < store.ttl(b"session") <= 60
    assert store.ttl(b"new") is None
    assert store.check() == []


def test_a_batch_is_dropped_by_an_exception(store):
    store[b"old"] = b"1"
    used = store.stats()["used_bytes"]
    with pytest.raises(ZeroDivisionError), store.batch() as batch:  # noqa: PT012
        batch[b"new"] = b"2"
        batch[b"blob"] = bytes(100_000)
        del batch[b"old"]
        raise ZeroDivisionError
    assert dict(store.items()) == {b"old": b"1"}
    assert store.check() == []
    assert store.stats()["used_bytes"] == used


def test_of_two_changes_of_one_key_the_later_one_counts(store):
    with store.batch() as batch:
        batch[b"a"] = b"1"
        batch[b"a"] = bytes(3000)
        batch[b"a"] = b"2"
        batch[b"b"] = b"1"
        del batch[b"b"]
        del batch[b"c"]
        batch[b"c"] = b"3"
        assert len(batch) == 3
    assert dict(store.items()) == {b"a": b"2", b"c": b"3"}
    assert store.check() == []


def test_a_batch_may_be_committed_and_cleared_again_and_again(store):
    with store.batch() as batch:
        for number in range(10):
            batch[b"%d" % number] = b"value"
            batch.commit()
            assert len(batch) == 0
            assert len(store) == number + 1
        batch[b"dropped"] = b"value"
        batch.clear()
        assert len(batch) == 0
        batch.commit()
        batch[b"last"] = b"value"
    assert len(store) == 11
    assert b"dropped" not in store


def test_a_batch_without_a_block_is_committed_by_hand_and_dropped_by_close(store):
    batch = store.batch()
    batch[b"kept"] = b"value"
    batch.commit()
    batch[b"dropped"] = b"value"
    batch.close()
    batch.close()
    assert dict(store.items()) == {b"kept": b"value"}
    for call in (
        batch.commit,
        batch.clear,
        lambda: batch.put(b"a", b""),
        lambda: batch.delete(b""),
    ):
        with pytest.raises(errors.Closed, match="the batch has been closed"):
            call()
    assert "closed" in repr(batch)
    with store.batch() as batch:
        batch.close()  # and there is nothing to commit at the end of the block
    assert "closed" in repr(batch)


def test_an_empty_batch_is_none_of_the_falsehoods(store):
    with store.batch() as batch:
        assert batch
        assert len(batch) == 0
        assert "0 changes" in repr(batch)


def test_the_batch_of_a_space_changes_that_space(store):
    store[b"a"] = b"outside"
    space = store.space(b"name")
    with space.batch() as batch:
        batch[b"a"] = b"inside"
        batch[b""] = b"no key"
        del batch[b"b"]
    assert dict(space) == {b"a": b"inside", b"": b"no key"}
    assert store[b"a"] == b"outside"
    inner = space.space(b"inner")
    with inner.batch(durability="power") as batch:
        batch[b"a"] = b"innermost"
    assert inner[b"a"] == b"innermost"


@pytest.mark.parametrize(("durability", "flushes"), [(None, 0), ("none", 0), ("power", 1)])
def test_a_batch_promises_what_it_was_made_with(store, durability, flushes):
    def change() -> None:
        with store.batch(durability=durability) as batch:
            batch.put(b"a", b"1")
            batch.put(b"b", b"2")

    for _ in range(3):
        assert flushes_of(store, change) == flushes
    with store.batch() as batch:  # in the session of the last one
        batch[b"c"] = b"3"
        assert flushes_of(store, batch.commit) == 0


def test_a_batch_of_a_store_that_promises_power_is_flushed_once(path):
    with cubbydb.open(path, "c", size="16M", durability="power") as store, store.batch() as batch:
        for number in range(100):
            batch[b"%d" % number] = b"value"
        assert flushes_of(store, batch.commit) == 1


def test_a_batch_that_becomes_too_large_stays_as_it_was(store):
    eighth = store.stats()["log_capacity_bytes"] // 8
    with store.batch() as batch:
        with pytest.raises(errors.TooLarge, match="more than an eighth") as caught:  # noqa: PT012
            for number in range(100_000):
                batch[b"key %d" % number] = some_bytes(400, number)
        count = len(batch)
        assert f"b'key {count}'" in str(caught.value)
        assert isinstance(caught.value, ValueError)
        assert 0.6 * eighth < 400 * count < eighth
        with pytest.raises(errors.TooLarge):
            batch.put(b"key %d" % count, bytes(400))
        assert len(batch) == count
        with pytest.raises(errors.TooLarge):  # noqa: PT012
            for number in range(1000):
                batch.delete(b"absent %d" % number)
        batch[b"key 0"] = b"less"
    assert len(store) == count
    assert store[b"key 0"] == b"less"
    assert store[b"key %d" % (count - 1)] == some_bytes(400, count - 1)
    assert store.check() == []


def test_a_batch_of_very_many_changes_keeps_the_last_of_each_key(tmp_path):
    with cubbydb.open(tmp_path / "data.cubby", "n", size="256M") as store:
        with store.batch() as batch:
            for number in range(9000):
                batch.put(b"%d" % (number % 3000), b"%d" % number)
            for number in range(0, 3000, 3):
                batch.delete(b"%d" % number)
        assert len(store) == 2000
        assert all(store[b"%d" % i] == b"%d" % (i + 6000) for i in range(3000) if i % 3)


def test_large_values_take_next_to_nothing_of_a_batch(store):
    with store.batch() as batch:
        for number in range(100):
            batch[b"%d" % number] = some_bytes(20_000, number)
    assert len(store) == 100
    assert store[b"99"] == some_bytes(20_000, 99)
    assert store.check() == []


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda batch: batch.put(b"", b""), "a key has 1 to 65,535 bytes, this one 0"),
        (lambda batch: batch.delete(bytes(65_536)), "a key has 1 to 65,535 bytes, this one 65,536"),
        (lambda batch: batch.put(b"key", b"", ttl=0), "a ttl is above 0"),
    ],
)
def test_what_a_batch_does_not_take_is_named_and_leaves_it_as_it_was(store, call, complaint):
    with store.batch() as batch:
        batch[b"key"] = b"value"
        with pytest.raises(ValueError, match=complaint):
            call(batch)
        assert len(batch) == 1
    assert dict(store.items()) == {b"key": b"value"}


def test_keys_and_values_of_a_batch_are_bytes(store):
    with store.batch() as batch:
        for call in (
            lambda: batch.put("key", b"value"),
            lambda: batch.put(b"key", "value"),
            lambda: batch.put(b"key", None),
            lambda: batch.delete(7),
        ):
            with pytest.raises(TypeError):
                call()
        buffer = bytearray(b"value")
        batch[b"key"] = buffer
        buffer[:] = b"other and longer"
        assert len(batch) == 1
    assert store[b"key"] == b"value"


def test_a_batch_belongs_to_its_thread(store):
    caught: list[BaseException] = []

    def use() -> None:
        for call in (lambda: batch.put(b"a", b"1"), lambda: batch.delete(b"a"), batch.commit):
            try:
                call()
            except RuntimeError as error:
                caught.append(error)

    with store.batch() as batch:
        batch[b"key"] = b"value"
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        assert len(batch) == 1
    assert [str(error) for error in caught] == ["a batch belongs to the thread that made it"] * 3
    assert dict(store.items()) == {b"key": b"value"}


def test_two_batches_of_one_thread_are_apart(store):
    with store.batch() as outer:
        outer[b"outer"] = b"1"
        with store.batch() as inner:
            inner[b"inner"] = b"2"
        assert dict(store.items()) == {b"inner": b"2"}
        store[b"plain"] = b"3"
    assert dict(store.items()) == {b"inner": b"2", b"outer": b"1", b"plain": b"3"}


def test_batches_of_several_threads_come_one_after_the_other(store, path):
    keys = [b"key %d" % number for number in range(200)]
    failures: list[BaseException] = []

    def change(name: bytes) -> None:
        try:
            for count in range(50):
                with store.batch(durability="none" if count % 2 else None) as batch:
                    for key in keys:
                        batch[key] = name * (1 + count)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=change, args=(name,)) for name in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    (last,) = set(store.get_many(keys))  # all of them from one batch
    assert len(last) == 50
    store.close()
    with cubbydb.open(path) as again:
        assert set(again.values()) == {last}
        assert again.check() == []


def test_a_batch_of_a_closed_store_is_dropped(store, path):
    with pytest.raises(errors.Closed), store.batch() as batch:  # noqa: PT012
        batch[b"key"] = b"value"
        batch[b"blob"] = bytes(5000)
        store.close()
    with pytest.raises(errors.Closed):
        store.batch()
    with cubbydb.open(path) as again:
        assert len(again) == 0
        assert again.check() == []


def test_a_store_that_is_read_only_takes_no_batches(path):
    cubbydb.open(path, "c", size="4M").close()
    with cubbydb.open(path) as store:
        for call in (
            lambda batch: batch.put(b"key", b"value"),
            lambda batch: batch.delete(b"key"),
            lambda batch: batch.commit(),
        ):
            with pytest.raises(errors.ReadOnly):
                call(store.batch())


def test_a_store_of_the_smallest_size_has_batches(tmp_path):
    with cubbydb.open(tmp_path / "small", "c", size="1M") as store:
        with store.batch() as batch:
            for number in range(20):
                batch[b"%d" % number] = bytes(200)
        assert len(store) == 20
