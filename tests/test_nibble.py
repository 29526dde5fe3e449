"""Nibble in Python: a mapping in memory, its errors, views and versions, and many threads."""

import gc
import os
import subprocess
import sys
import threading
from collections.abc import ItemsView, KeysView, MutableMapping, ValuesView
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

import cubbydb
from cubbydb import errors

MIB = 1 << 20


@pytest.fixture
def nibble():
    with cubbydb.Nibble(16 * MIB) as nibble:
        yield nibble


def test_it_is_a_mutable_mapping_of_bytes(nibble):
    assert isinstance(nibble, MutableMapping)
    nibble[b"a"] = b"1"
    nibble.update({b"b": bytearray(b"2"), b"c": memoryview(b"3")})
    assert dict(nibble) == {b"a": b"1", b"b": b"2", b"c": b"3"}
    assert nibble == {b"a": b"1", b"b": b"2", b"c": b"3"}
    assert len(nibble) == 3
    assert b"a" in nibble
    assert b"d" not in nibble
    assert nibble.get(b"d", b"none") == b"none"
    assert nibble.pop(b"a") == b"1"
    assert nibble.setdefault(b"a", b"4") == b"4"
    assert nibble.get(bytearray(b"a")) == b"4"
    assert isinstance(nibble.keys(), KeysView)
    assert isinstance(nibble.values(), ValuesView)
    assert isinstance(nibble.items(), ItemsView)
    assert sorted(nibble.values()) == [b"2", b"3", b"4"]
    assert sorted(nibble.items()) == [(b"a", b"4"), (b"b", b"2"), (b"c", b"3")]
    del nibble[b"a"]
    with pytest.raises(errors.NotFound):
        del nibble[b"a"]
    with pytest.raises(KeyError):
        nibble[b"a"]
    nibble.clear()
    assert len(nibble) == 0
    with pytest.raises(TypeError, match="unhashable"):
        hash(nibble)


def test_many_pairs_at_once(nibble):
    pairs = {b"%d" % number: b"x" * (number % 700) for number in range(5000)}
    assert nibble.put_many(pairs) == 5000
    assert nibble.put_many([(b"0", b"zero"), (b"0", b"null")]) == 2
    assert nibble.get_many([b"0", b"none", *pairs])[:2] == [b"null", None]
    assert nibble.get_many(list(pairs)[1:]) == list(pairs.values())[1:]
    assert nibble.get_many([]) == []
    assert nibble.put_many({}) == 0
    assert len(nibble) == 5000


def test_scans_have_prefixes_and_limits(nibble):
    nibble.put_many({b"a%d" % number: b"" for number in range(10)} | {b"b": b"v"})
    assert list(nibble.scan(b"b")) == [(b"b", b"v")]
    assert sorted(nibble.scan(b"a", keys_only=True)) == [b"a%d" % number for number in range(10)]
    assert len(list(nibble.scan(limit=3))) == 3
    assert list(nibble.scan(limit=0)) == []
    with pytest.raises(ValueError, match="0 or more"):
        nibble.scan(limit=-1)
    with pytest.raises(TypeError, match="not str"):
        nibble.scan(limit="3")


def test_conditions_and_versions(nibble):
    assert nibble.add(b"key", b"1")
    assert not nibble.add(b"key", b"2")
    assert nibble.replace(b"key", b"3")
    assert not nibble.replace(b"none", b"3")
    value, version = nibble.get_versioned(b"key")
    assert value == b"3"
    assert nibble.put_if_version(b"key", b"4", version)
    assert not nibble.put_if_version(b"key", b"5", version)
    absent, version = nibble.get_versioned(b"new")
    assert absent is None
    assert nibble.put_if_version(b"new", b"6", version)
    assert (nibble[b"key"], nibble[b"new"]) == (b"4", b"6")
    with pytest.raises(TypeError, match="version"):
        nibble.put_if_version(b"key", b"", "1")
    with pytest.raises(ValueError, match="version"):
        nibble.put_if_version(b"key", b"", -1)


def test_a_view_is_of_what_was_there(nibble):
    nibble[b"key"] = b"before" * 10
    with nibble.view(b"key") as view:
        nibble[b"key"] = b"after!" * 10
        assert view == b"before" * 10
        assert view.readonly
        assert bytes(view[:6]) == b"before"
    with pytest.raises(ValueError, match="released"):
        bytes(view)
    with pytest.raises(errors.NotFound), nibble.view(b"none"):
        pass
    with pytest.raises(BufferError, match="copy them"), nibble.view(b"key") as view:
        kept = view[:5]
    nibble.put_many((b"%d" % (number % 50), b"x" * 900) for number in range(5000))
    assert kept == b"after"


def test_a_full_one_says_so_and_keeps_what_it_has(nibble):
    with pytest.raises(errors.Full, match="16777216 bytes"):
        nibble.put_many((b"%d" % number, b"x" * 1000) for number in count())
    stored = len(nibble)
    assert stored > 12_000
    assert nibble.stats()["used_bytes"] <= 16 * MIB
    with pytest.raises(errors.Full, match="that are stored: 0"):
        nibble.put_many({b"more": b"x" * 100_000})
    with pytest.raises(errors.Full):
        nibble[b"large"] = bytes(20 * MIB)
    for number in range(0, stored, 2):
        del nibble[b"%d" % number]
    nibble[b"large"] = bytes(4 * MIB)
    assert nibble[b"large"] == bytes(4 * MIB)
    assert nibble[b"1"] == b"x" * 1000


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"memory": MIB}, ValueError, "16 MiB"),
        ({"memory": -1}, ValueError, "16 MiB"),
        ({"memory": "much"}, ValueError, "as in 256M"),
        ({"memory": 1.5}, TypeError, "size"),
        ({"memory": "16M", "cleaners": 17}, ValueError, "0 to 16"),
        ({"memory": "16M", "cleaners": "1"}, TypeError, "not str"),
        ({"memory": 1 << 62}, ValueError, "8 TiB"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        cubbydb.Nibble(**arguments)


def test_wrong_keys_and_values_are_named(nibble):
    for key in (b"", bytes(65536)):
        with pytest.raises(ValueError, match="1 to 65,535 bytes"):
            nibble[key] = b""
        with pytest.raises(ValueError, match="1 to 65,535 bytes"):
            nibble.get(key)
        with pytest.raises(ValueError, match="1 to 65,535 bytes"):
            nibble.get_many([b"fine", key])
        with pytest.raises(ValueError, match="1 to 65,535 bytes"):
            nibble.put_many({b"fine": b"", key: b""})
        with pytest.raises(ValueError, match="1 to 65,535 bytes"), nibble.view(key):
            pass
    with pytest.raises(TypeError, match="encode"):
        nibble["text"] = b""
    with pytest.raises(TypeError, match="bytes, not int"):
        nibble[b"key"] = 7
    assert bytes(65535) not in nibble


def test_after_close_every_call_says_so():
    nibble = cubbydb.Nibble("16M")
    nibble[b"key"] = b"value"
    scan = iter(nibble)
    nibble.close()
    nibble.close()
    assert nibble.closed
    assert "closed" in repr(nibble)
    for call in (
        lambda: nibble[b"key"],
        lambda: nibble.put(b"key", b""),
        lambda: nibble.get_many([b"key"]),
        lambda: len(nibble),
        nibble.stats,
        lambda: nibble.delete(b"key"),
        nibble.scan,
    ):
        with pytest.raises(errors.Closed):
            call()
    assert list(scan) == [b"key"]  # it had begun before
    with pytest.raises(TypeError, match="pickled"):
        nibble.__reduce__()


def test_a_forked_child_is_told():
    code = (
        "import os, sys, warnings, cubbydb\n"
        "warnings.simplefilter('ignore')\n"
        "nibble = cubbydb.Nibble('16M')\n"
        "nibble[b'key'] = b'value'\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    try:\n"
        "        nibble[b'key']\n"
        "    except cubbydb.errors.Forked:\n"
        "        nibble.close()\n"
        "        os._exit(7)\n"
        "    os._exit(8)\n"
        "_, status = os.waitpid(child, 0)\n"
        "assert nibble[b'key'] == b'value'\n"
        "sys.exit(os.waitstatus_to_exitcode(status))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 7


def test_memory_is_given_back():
    def resident() -> int:
        with open("/proc/self/statm") as file:  # noqa: PTH123 - no file of ours
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    before = resident()
    for _ in range(20):
        with cubbydb.Nibble("64M") as nibble:
            nibble.put_many((b"%d" % number, bytes(1000)) for number in range(20_000))
    del nibble
    gc.collect()
    assert resident() - before < 40 * MIB


def test_threads_share_one(nibble):
    failures = []

    def work(self: int) -> None:
        try:
            for number in range(3000):
                key = b"%d %d" % (self, number % 100)
                nibble[key] = key * (number % 30 + 1)
                assert nibble[key] == key * (number % 30 + 1)
                assert nibble.get_many([key, b"shared"])[0] == key * (number % 30 + 1)
                value, version = nibble.get_versioned(b"shared")
                while not nibble.put_if_version(b"shared", b"%d" % (int(value or 0) + 1), version):
                    value, version = nibble.get_versioned(b"shared")
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert nibble[b"shared"] == b"12000"
    assert len(nibble) == 401


KEYS = st.one_of(
    st.binary(min_size=1, max_size=20), st.integers(1, 65535).map(lambda size: b"k" * size)
)
VALUES = st.one_of(
    st.binary(max_size=100),
    st.integers(0, 200_000).map(lambda size: bytes(size % 251 for _ in "x") * size),
)


class NibbleMachine(RuleBasedStateMachine):
    """What a dict does, a Nibble does."""

    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.nibble = cubbydb.Nibble(16 * MIB, cleaners=0)
        self.model: dict[bytes, bytes] = {}

    @rule(target=keys, key=KEYS, value=VALUES)
    def put(self, key, value):
        self.nibble[key] = value
        self.model[key] = value
        return key

    @rule(key=keys, value=VALUES)
    def put_again(self, key, value):
        self.nibble[key] = value
        self.model[key] = value

    @rule(pairs=st.dictionaries(KEYS, VALUES, max_size=5))
    def put_many(self, pairs):
        assert self.nibble.put_many(pairs) == len(pairs)
        self.model |= pairs

    @rule(key=consumes(keys))
    def delete(self, key):
        assert self.nibble.delete(key) == (key in self.model)
        self.model.pop(key, None)

    @rule(key=keys, value=VALUES)
    def add_or_replace(self, key, value):
        was_there = key in self.model
        assert self.nibble.add(key, value) is not was_there
        assert self.nibble.replace(key, value)
        self.model[key] = value

    @rule(keys=st.lists(KEYS, max_size=5), key=keys)
    def get_many(self, keys, key):
        wanted = [key, *keys]
        assert self.nibble.get_many(wanted) == [self.model.get(each) for each in wanted]
        assert (key in self.nibble) == (key in self.model)

    @rule()
    def scan(self):
        assert dict(self.nibble.scan()) == self.model

    @invariant()
    def it_has_as_many(self):
        assert len(self.nibble) == len(self.model)
        assert self.nibble.stats()["used_bytes"] <= 16 * MIB

    def teardown(self):
        assert dict(self.nibble) == self.model
        self.nibble.close()


TestNibbleMachine = NibbleMachine.TestCase
TestNibbleMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
