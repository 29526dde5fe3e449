"""Keys and values that are not bytes: what is taken, what is refused, and what is copied."""

import mmap
import threading
import tracemalloc
from array import array

import pytest

import cubbydb
from cubbydb import errors

LARGE = 8 << 20


@pytest.fixture
def store():
    with cubbydb.open("mem:64M", "c") as store:
        yield store


def anonymous_mmap(content: bytes) -> mmap.mmap:
    pages = mmap.mmap(-1, len(content))
    pages[:] = content
    return pages


KINDS = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "memoryview with a begin and an end": lambda content: memoryview(b"<" + content + b">")[1:-1],
    "memoryview of two dimensions": lambda content: memoryview(content).cast("B", [2, 4]),
    "array of bytes": lambda content: array("b", content),
    "array of words": lambda content: array("I", content),
    "memoryview of doubles": lambda content: memoryview(content).cast("d"),
    "mmap": anonymous_mmap,
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_call_takes_keys_and_values_of_any_kind(store, kind):
    key, value, other = kind(b"the key."), kind(b"a value."), kind(b"another.")
    space = store.space(b"name")
    for mapping in (store, space):
        mapping[key] = value
        assert mapping[key] == mapping.get(key) == b"a value."
        assert key in mapping
        assert mapping.get_many([key, b"none", key]) == [b"a value.", None, b"a value."]
        assert mapping.put_many([(key, other), (b"the key.", value)]) == 2
        assert list(mapping.scan(prefix=key)) == [(b"the key.", b"a value.")]
        assert mapping.delete(key)
    assert store.add(key, value)
    assert store.replace(key, other)
    assert store.compare_and_swap(key, other, value)
    assert store.setdefault(key, other) == b"a value."
    assert store.get_view(key) == b"a value."
    assert store.get_into(key, bytearray(8)) == 8
    assert store.pop(key) == b"a value."
    assert store.incr(key) == 1
    assert store.delete_many([key]) == 1
    assert len(store) == 0


GAPS = [memoryview(b"0123456789")[::2], memoryview(b"0123456789")[::-1]]


@pytest.mark.parametrize("wrong", [*GAPS, "text", 5], ids=["gaps", "reversed", "str", "int"])
def test_what_is_not_bytes_end_to_end_is_a_type_error_that_says_what_to_do(store, wrong):
    by_key = [
        lambda: store[wrong],
        lambda: store.get(wrong),
        lambda: store.put(wrong, b""),
        lambda: store.delete(wrong),
        lambda: wrong in store,
        lambda: store.get_many([b"key", wrong]),
        lambda: store.put_many([(wrong, b"")]),
        lambda: store.scan(prefix=wrong),
        lambda: store.space(wrong),
        lambda: store.space(b"name").get(wrong),
        lambda: store.get_view(wrong),
        lambda: store.get_into(wrong, bytearray(9)),
        lambda: store.add(wrong, b""),
        lambda: store.pop(wrong),
        lambda: store.incr(wrong),
        lambda: store.compare_and_swap(wrong, b"", b""),
    ]
    by_value = [
        lambda: store.put(b"key", wrong),
        lambda: store.put_many([(b"key", wrong)]),
        lambda: store.add(b"key", wrong),
        lambda: store.replace(b"key", wrong),
        lambda: store.compare_and_swap(b"key", wrong, b""),
        lambda: store.compare_and_swap(b"key", b"", wrong),
        lambda: store.compare_and_swap(b"key", wrong, None),
        lambda: store.setdefault(b"key", wrong),
    ]
    advice = {str: r"encode it first: 'text'\.encode\(\)", memoryview: r"copy it with bytes\(\)"}
    for what, calls in (("key", by_key), ("value", by_value)):
        for call in calls:
            with pytest.raises(TypeError, match=f"a {what} is .*{advice.get(type(wrong), '')}"):
                call()
    assert len(store) == 0


def peak_of(call) -> int:
    """Bytes that Python's allocators have given out during a call, at most, at one time."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, anonymous_mmap])
def test_calls_for_one_pair_do_not_copy_the_value(store, kind):
    value, other = kind(bytes(LARGE)), kind(b"1" * LARGE)
    store[b"key"] = b""
    assert peak_of(lambda: store.put(b"key", value)) < LARGE / 10
    assert peak_of(lambda: store.replace(b"key", other)) < LARGE / 10
    assert peak_of(lambda: store.compare_and_swap(b"key", other, value)) < LARGE / 10
    assert peak_of(lambda: store.compare_and_swap(b"key", value, None)) < LARGE / 10
    assert peak_of(lambda: store.add(b"key", value)) < LARGE / 10
    assert peak_of(lambda: store.get_into(b"key", bytearray(LARGE))) < LARGE * 1.1
    assert store[b"key"] == bytes(LARGE)


def test_put_many_takes_one_buffer_again_and_again(store):
    buffer = bytearray(8)

    def pairs():
        for number in range(3000):
            buffer[:] = b"%08d" % number
            yield buffer, buffer
            buffer.append(0)  # nobody holds on to it
            del buffer[8:]

    assert store.put_many(pairs()) == 3000
    assert all(key == value for key, value in store.items())
    assert len(store) == 3000


@pytest.mark.parametrize("call", ["put", "add", "compare_and_swap"])
def test_a_bytearray_cannot_be_resized_during_a_call_of_another_thread(call):
    with cubbydb.open("fault:delay=5000:mem:16M", "c") as store:  # 5 ms before each operation
        store[b"key"] = b"before"
        value = bytearray(b"x" * 500)
        arguments = {
            "put": [b"key", value],
            "add": [b"other", value],
            "compare_and_swap": [b"key", b"before", value],
        }[call]
        thread = threading.Thread(target=getattr(store, call), args=arguments)
        refused = 0
        thread.start()
        while thread.is_alive():
            try:
                value.append(0)
                del value[500:]
            except BufferError:
                refused += 1
        thread.join()
        assert refused > 0
        value.append(0)  # it is let go of
        assert store[arguments[0]].rstrip(b"\0") == b"x" * 500


def test_a_call_that_fails_lets_go_of_its_buffers(store):
    value, expected = bytearray(b"value"), bytearray(b"expected")
    too_long = b"k" * 65_536
    calls = [
        lambda: store.put(too_long, value),
        lambda: store.add(too_long, value),
        lambda: store.compare_and_swap(too_long, expected, value),
        lambda: store.compare_and_swap(too_long, expected, None),
    ]
    kept = []
    for call in calls:
        with pytest.raises(ValueError, match="65,535") as caught:
            call()
        kept.append(caught.value)  # and all that the frames in its traceback hold
    store.close()
    for call in calls:
        with pytest.raises(errors.Closed) as caught:
            call()
        kept.append(caught.value)
    value.append(0)
    expected.append(0)


def test_what_was_got_outlives_the_store(tmp_path):
    small, large = b"s" * 100, b"l" * 100_000
    with cubbydb.open(tmp_path / "data.cubby", "c", size="4M") as store:
        store.put_many({b"small": small, b"large": large})
        buffer = bytearray(len(large))
        store.get_into(b"large", buffer)
        views = [store.get_view(b"small"), store.get_view(b"large")]
        parts = [view[10:20] for view in views]
        got = [store[b"small"], *store.get_many([b"large"])]
        scanned = dict(store.scan())
        store.clear()
        store.put_many((b"%d" % number, bytes(2000)) for number in range(500))
    del store
    assert views == got == [small, large]
    assert all(view.readonly for view in views)
    assert [bytes(part) for part in parts] == [b"s" * 10, b"l" * 10]
    assert buffer == large
    assert scanned == {b"small": small, b"large": large}
