"""Calls that look at a pair and change it: what they do, in the order of the class, and races."""

import os
import threading
from array import array
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import some_bytes, some_pairs

import cubbydb
from cubbydb import errors
from cubbydb._native import lib

SIZES = [0, 1, 500, 1000, 1100, 4096, 65_536, 200_000]
THREADS = 6


@pytest.fixture
def store():
    with cubbydb.open("mem:256M", "n", size="64M") as store:
        yield store
        if not store.closed:
            assert store.check() == []


def run_threads(work) -> None:
    """Run work in several threads that begin together; what one raises, this raises."""
    failures = []
    barrier = threading.Barrier(THREADS)

    def run():
        try:
            barrier.wait()
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure


# To store, if ...


@pytest.mark.parametrize("size", SIZES)
def test_add_stores_only_what_is_absent(store, size):
    assert store.add(b"key", some_bytes(size)) is True
    assert store.add(b"key", some_bytes(size, 1)) is False
    assert store[b"key"] == some_bytes(size)
    del store[b"key"]
    assert store.add(b"key", b"again") is True


@pytest.mark.parametrize("size", SIZES)
def test_replace_stores_only_where_there_is_a_pair(store, size):
    assert store.replace(b"key", some_bytes(size)) is False
    assert b"key" not in store
    store[b"key"] = b"value"
    assert store.replace(b"key", some_bytes(size)) is True
    assert store[b"key"] == some_bytes(size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("new_size", [10, 5000])
def test_compare_and_swap_changes_what_is_expected(store, size, new_size):
    old, new = some_bytes(size), some_bytes(new_size, 1)
    assert store.compare_and_swap(b"key", old, new) is False
    assert store.compare_and_swap(b"key", None, old) is True
    assert store.compare_and_swap(b"key", None, new) is False
    assert store.compare_and_swap(b"key", old + b"?", new) is False
    assert store.compare_and_swap(b"key", b"?" + old[1:], new) is False
    assert store[b"key"] == old
    assert store.compare_and_swap(b"key", old, new) is True
    assert store[b"key"] == new
    assert store.compare_and_swap(b"key", old, None) is False
    assert store.compare_and_swap(b"key", new, None) is True
    assert store.compare_and_swap(b"key", new, None) is False
    assert b"key" not in store


def test_compare_and_swap_of_nothing_for_nothing_looks_only(store):
    assert store.compare_and_swap(b"key", None, None) is True
    store[b"key"] = b"value"
    assert store.compare_and_swap(b"key", None, None) is False
    assert store[b"key"] == b"value"


def test_setdefault_without_a_default_returns_what_is_there(store):
    store[b"key"] = b"value"
    assert store.setdefault(b"key") == b"value"
    with pytest.raises(TypeError, match="a value is bytes, not NoneType"):
        store.setdefault(b"absent")
    assert b"absent" not in store


def test_setdefault_returns_what_is_there_afterwards(store):
    assert store.setdefault(b"key", b"first") == b"first"
    assert store.setdefault(b"key", b"second") == b"first"
    found = store.setdefault(b"other", bytearray(b"third"))
    assert (found, type(found)) == (b"third", bytes)
    assert dict(store) == {b"key": b"first", b"other": b"third"}


def test_incr_counts_in_decimal_text(store):
    assert store.incr(b"key") == 1
    assert store.incr(b"key", 41) == 42
    assert store[b"key"] == b"42"
    assert store.incr(b"key", -100) == -58
    assert store[b"key"] == b"-58"
    assert store.incr(b"other", 5, initial=10) == 15
    assert store.incr(b"other", 5, initial=10) == 20
    assert store.incr(b"other", 1 << 200) == 20 + (1 << 200)
    store[b"zeros"] = b"-007"
    assert store.incr(b"zeros", True) == -6


@pytest.mark.parametrize(
    "value", [b"", b"-", b"+1", b" 1", b"1\n", b"1_0", b"1.0", b"0x1", b"\xd9\xa1", b"9" * 5000]
)
def test_incr_of_what_is_no_integer_is_a_value_error_naming_the_key(store, value):
    store[b"key"] = value
    with pytest.raises(ValueError, match="the value of key b'key' is no integer"):
        store.incr(b"key")
    assert store[b"key"] == value


def test_incr_to_a_sum_that_python_does_not_write_changes_nothing(store):
    with pytest.raises(ValueError, match="the sum for key b'key' has too many digits"):
        store.incr(b"key", 10**5000)
    assert b"key" not in store


def test_incr_takes_only_integers(store):
    for call in (
        lambda: store.incr(b"key", 1.5),
        lambda: store.incr(b"key", b"1"),
        lambda: store.incr(b"key", initial="1"),
    ):
        with pytest.raises(TypeError, match="integer"):
            call()
    assert len(store) == 0


# To delete, and ...


@pytest.mark.parametrize("size", SIZES)
def test_pop_removes_the_pair_and_returns_its_value(store, size):
    store[b"key"] = some_bytes(size)
    assert store.pop(b"key") == some_bytes(size)
    assert b"key" not in store
    assert len(store) == 0


def test_pop_of_a_missing_key_is_a_key_error_or_the_default(store):
    with pytest.raises(KeyError) as caught:
        store.pop(bytearray(b"key"))
    assert type(caught.value) is errors.NotFound
    assert caught.value.args == (b"key",)
    assert store.pop(b"key", None) is None
    assert store.pop(b"key", 7) == 7


def test_popitem_empties_a_store(store):
    pairs = some_pairs(300) | {b"large": some_bytes(100_000)}
    store.put_many(pairs)
    popped = dict(store.popitem() for _ in range(200))
    store[b"late"] = pairs[b"late"] = b"value"
    popped |= dict(store.popitem() for _ in range(102))
    assert popped == pairs
    assert len(store) == 0
    for _ in range(2):
        with pytest.raises(errors.NotFound, match="no such pair"):
            store.popitem()
    store[b"key"] = b"value"
    assert store.popitem() == (b"key", b"value")


def test_delete_many_tells_how_many_there_were(store):
    store.put_many(some_pairs(100))
    keys = [b"key 1", b"none", bytearray(b"key 2"), b"key 1"]
    assert store.delete_many(keys) == 2
    assert store.delete_many(b"key %d" % number for number in range(50)) == 48
    assert store.delete_many([]) == 0
    assert len(store) == 50


def test_delete_many_that_fails_tells_how_far_it_came(store):
    store.put_many(some_pairs(10))
    with pytest.raises(TypeError, match="is bytes, not int") as caught:
        store.delete_many([b"key 1", b"key 2", 3])
    assert caught.value.__notes__ == ["pairs of this delete_many that are deleted: 2"]
    assert len(store) == 8


# To get, but not as bytes


@pytest.mark.parametrize("size", SIZES)
def test_get_into_copies_to_the_start_of_a_buffer(store, size):
    store[b"key"] = some_bytes(size)
    buffer = bytearray(b"?" * (size + 3))
    assert store.get_into(b"key", buffer) == size
    assert buffer == some_bytes(size) + b"???"
    exact = bytearray(size)
    assert store.get_into(bytearray(b"key"), exact) == size
    assert exact == some_bytes(size)
    buffer.append(0)  # it is not held on to


def test_get_into_takes_any_memory_that_can_be_written(store):
    store[b"key"] = some_bytes(40)
    words = array("I", [0] * 12)
    assert store.get_into(b"key", memoryview(words)) == 40
    assert words.tobytes() == some_bytes(40) + bytes(8)
    buffer = bytearray(100)
    assert store.get_into(b"key", memoryview(buffer)[50:]) == 40
    assert buffer == bytes(50) + some_bytes(40) + bytes(10)


def test_get_into_of_a_missing_key_leaves_the_buffer_alone(store):
    buffer = bytearray(b"abc")
    assert store.get_into(b"key", buffer) is None
    assert buffer == b"abc"


def test_get_into_a_small_buffer_is_a_value_error_naming_both_sizes(store):
    store[b"key"] = bytes(5000)
    buffer = bytearray(b"?" * 4999)
    with pytest.raises(ValueError, match=r"key b'key' has 5,000 bytes, the buffer 4,999"):
        store.get_into(b"key", buffer)
    assert buffer == b"?" * 4999


@pytest.mark.parametrize("buffer", [b"bytes", "text", 5, None, memoryview(bytearray(9))[::2]])
def test_get_into_what_cannot_be_written_is_a_type_error(store, buffer):
    store[b"key"] = b"v"
    with pytest.raises(TypeError, match="buffer to read into"):
        store.get_into(b"key", buffer)


def test_a_view_owns_its_memory(store):
    store[b"key"] = some_bytes(70_000)
    view = store.get_view(b"key")
    part = view[10:20]
    assert view.readonly
    store[b"key"] = bytes(70_000)
    assert store.get(b"key") == bytes(70_000)
    store.close()
    assert view == some_bytes(70_000)
    assert part == some_bytes(70_000)[10:20]


def test_there_is_no_view_of_a_missing_key(store):
    assert store.get_view(b"key") is None


# All of them


def all_calls(store, key, value=b"value"):
    return [
        lambda: store.add(key, value),
        lambda: store.replace(key, value),
        lambda: store.compare_and_swap(key, b"1", value),
        lambda: store.compare_and_swap(key, None, value),
        lambda: store.compare_and_swap(key, value, None),
        lambda: store.setdefault(key, value),
        lambda: store.incr(key),
        lambda: store.pop(key),
        lambda: store.pop(key, None),
        lambda: store.delete_many([key]),
        lambda: store.get_into(key, bytearray(9)),
        lambda: store.get_view(key),
    ]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_like_object_is_taken(store, kind):
    key, value, other = kind(b"key"), kind(b"value"), kind(b"other")
    assert store.add(key, value)
    assert store.replace(key, other)
    assert store.compare_and_swap(key, other, value)
    assert store.setdefault(key, other) == b"value"
    assert store.get_view(key) == b"value"
    assert store.compare_and_swap(key, value, None)
    assert store.incr(key) == 1
    assert store.pop(key) == b"1"
    words = memoryview(array("I", range(300)))
    assert store.add(words, words)
    assert store.compare_and_swap(words, words, words[1:5])
    assert store.pop(words) == words[1:5].tobytes()


@pytest.mark.parametrize("wrong", ["text", 5, None])
def test_what_is_not_bytes_is_a_type_error(store, wrong):
    calls = all_calls(store, wrong)
    calls += [lambda: store.add(b"key", wrong), lambda: store.setdefault(b"key", wrong)]
    if wrong is not None:
        calls += [
            lambda: store.compare_and_swap(b"key", wrong, b"value"),
            lambda: store.compare_and_swap(b"key", b"value", wrong),
        ]
    for call in calls:
        with pytest.raises(TypeError, match="is bytes, not"):
            call()
    assert len(store) == 0


@pytest.mark.parametrize("key", [b"", b"k" * 65_536], ids=["empty", "too long"])
def test_a_key_of_a_wrong_size_is_a_value_error_naming_the_size(store, key):
    for call in all_calls(store, key):
        with pytest.raises(ValueError, match=rf"1 to 65,535 bytes, this one {len(key):,}"):
            call()


def test_every_use_after_close_raises_closed(store):
    store[b"key"] = b"1"
    store.close()
    for call in [*all_calls(store, b"key"), store.popitem]:
        with pytest.raises(errors.Closed):
            call()


def test_a_store_open_for_reading_can_be_read_only(tmp_path):
    path = tmp_path / "data.cubby"
    with cubbydb.open(path, "n", size="1M") as store:
        store[b"key"] = b"1"
    with cubbydb.open(path) as store:
        buffer = bytearray(9)
        for call in [*all_calls(store, b"key")[:5], lambda: store.pop(b"key"), store.popitem]:
            with pytest.raises(errors.ReadOnly):
                call()
        assert store.setdefault(b"key", b"2") == b"1"
        assert store.get_into(b"key", buffer) == 1
        assert store.get_view(b"key") == b"1"


def test_a_forked_child_is_told_to_open_the_store_anew(store):
    store[b"key"] = b"1"
    pid = os.fork()
    if pid == 0:
        failed = 0
        for call in [*all_calls(store, b"key"), store.popitem]:
            try:
                call()
            except errors.Forked:
                failed += 1
        os._exit(0 if failed == 13 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert dict(store) == {b"key": b"1"}


def test_a_condition_that_fails_counts_nothing_and_writes_nothing(store):
    store.put_many({b"key": b"value", b"large": some_bytes(100_000)})
    before = store.stats()
    for key in (b"key", b"large"):
        for value in (b"new", some_bytes(100_000, 1)):
            assert not store.add(key, value)
            assert not store.replace(key + b"?", value)
            assert not store.compare_and_swap(key, value, value)
            assert not store.compare_and_swap(key, value, None)
    after = store.stats()
    for name in ("puts", "deletes", "gets", "blocks_written", "used_bytes", "quarantined_bytes"):
        assert after[name] == before[name], name


def test_the_conditions_are_those_of_the_c_side():
    assert lib.CUBBY_EXISTS == -15
    assert lib.CUBBY_DIFFERS == -16


# Threads


def test_increments_of_many_threads_are_all_counted(store):
    def work():
        for _ in range(200):
            store.incr(b"key")

    run_threads(work)
    assert store[b"key"] == b"%d" % (THREADS * 200)


def test_of_many_threads_one_adds_each_key(store):
    added = []

    def work():
        for number in range(200):
            if store.add(b"%d" % number, some_bytes(number * 20)):
                added.append(number)

    run_threads(work)
    assert sorted(added) == list(range(200))
    assert store.stats()["puts"] == 200


def test_of_many_threads_each_pair_is_popped_by_one(store):
    pairs = some_pairs(300)
    store.put_many(pairs)
    popped = []

    def work():
        for number in range(0, 300, 2):
            value = store.pop(b"key %d" % number, None)
            if value is not None:
                popped.append((b"key %d" % number, value))
        try:
            while True:
                popped.append(store.popitem())
        except errors.NotFound:
            pass

    run_threads(work)
    assert max(Counter(key for key, _ in popped).values()) == 1
    assert dict(popped) == pairs
    assert len(store) == 0


def test_all_threads_get_one_default(store):
    found = []

    def work():
        name = b"%d" % threading.get_ident()
        for number in range(100):
            found.append((number, store.setdefault(b"key %d" % number, name)))

    run_threads(work)
    assert len(set(found)) == 100


# Against a dict

KEYS = st.sampled_from([b"a", b"b", b"long" * 1000])
VALUES = st.sampled_from([b"", b"1", b"-7", b"text", bytes(1100), some_bytes(70_000)])
CALLS = st.tuples(
    st.sampled_from(
        ["put", "add", "replace", "swap", "swap if it is", "setdefault", "incr", "pop", "delete"]
    ),
    KEYS,
    VALUES | st.none(),
    VALUES | st.none(),
)


def incremented(value: bytes | None) -> bytes | None:
    """What incr makes of a value; None where it is no integer."""
    try:
        return b"%d" % (int(value or b"?") + 1) if value is not None else b"1"
    except ValueError:
        return None


def call_both(store, model, name, key, one, two):
    """Do one call to the store and to a dict."""
    old = model.get(key)
    value = one or b""
    if name == "put":
        store[key] = model[key] = value
    elif name == "add":
        assert store.add(key, value) is (old is None)
        model.setdefault(key, value)
    elif name == "replace":
        assert store.replace(key, value) is (old is not None)
        model.update({key: value} if old is not None else {})
    elif name.startswith("swap"):
        expected = old if name == "swap if it is" else two
        swapped = store.compare_and_swap(key, expected, one)
        assert swapped is (expected == old)
        model.update({key: one} if swapped else {})
        if model.get(key, b"") is None:
            del model[key]
    elif name == "setdefault":
        assert store.setdefault(key, value) == model.setdefault(key, value)
    elif name == "incr" and incremented(old) is not None:
        model[key] = incremented(old)
        assert store.incr(key) == int(model[key])
    elif name == "incr":
        with pytest.raises(ValueError, match="no integer"):
            store.incr(key)
    elif name == "pop":
        assert store.pop(key, None) == model.pop(key, None)
    else:
        assert store.delete_many([key]) == (model.pop(key, None) is not None)


@settings(max_examples=60, deadline=None)
@given(st.lists(CALLS, max_size=40))
def test_a_store_does_what_a_dict_does(calls):
    model: dict[bytes, bytes] = {}
    with cubbydb.open("mem:64M", "n", size="8M") as store:
        for call in calls:
            call_both(store, model, *call)
            assert store.get(call[1]) == model.get(call[1])
        assert dict(store) == model
        assert store.check() == []
