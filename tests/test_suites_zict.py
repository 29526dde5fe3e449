"""zict's own test of mappings, and zict's mappings with a store behind them."""

from collections.abc import Iterator, MutableMapping

import pytest

import cubbydb

zict = pytest.importorskip("zict")
utils_test = pytest.importorskip("zict.tests.utils_test")


class TextKeys(MutableMapping[str, bytes]):
    """The test has str keys, and asks for things that are none; all else is the store's."""

    def __init__(self, pairs: MutableMapping[bytes, bytes]) -> None:
        self.pairs = pairs

    def __getitem__(self, key: str) -> bytes:
        if not isinstance(key, str):
            raise KeyError(key)
        return self.pairs[key.encode()]

    def __setitem__(self, key: str, value: bytes) -> None:
        self.pairs[key.encode()] = value

    def __delitem__(self, key: str) -> None:
        del self.pairs[key.encode()]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.encode() in self.pairs

    def __iter__(self) -> Iterator[str]:
        return (key.decode() for key in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def clear(self) -> None:
        self.pairs.clear()


@pytest.fixture
def store(tmp_path):
    with cubbydb.open(tmp_path / "data.cubby", "n", size="4M") as store:
        yield store


def test_check_mapping_on_a_store(store):
    utils_test.check_mapping(TextKeys(store))
    assert store.check() == []


def test_check_mapping_on_a_space(store):
    utils_test.check_mapping(TextKeys(store.space(b"name")))


@pytest.mark.parametrize("name", ["check_different_keys_threadsafe", "check_same_key_threadsafe"])
def test_threads_as_zict_tests_them(store, name):
    getattr(utils_test, name)(TextKeys(store))


def test_a_buffer_spills_to_a_store(store):
    buffer = zict.Buffer({}, store, n=10, weight=lambda key, value: 1)
    pairs = {b"%d" % number: b"v" * number for number in range(100)}
    buffer.update(pairs)
    assert len(store) == 90
    assert dict(buffer) == pairs
    del buffer[b"5"]
    assert len(buffer) == 99


def test_a_func_stores_what_it_makes_of_the_values(store):
    numbers = zict.Func(lambda number: b"%d" % number, int, store)
    numbers[b"key"] = 7
    numbers.update({b"other": 8})
    assert store[b"key"] == b"7"
    assert dict(numbers) == {b"key": 7, b"other": 8}
    assert sorted(numbers.values()) == [7, 8]
