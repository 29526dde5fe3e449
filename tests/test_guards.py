"""What has ended says so: every public call after close, and in a forked child, of every object."""

import copy
import pickle
import re
import textwrap
from pathlib import Path

import pytest
from guarded_calls import PAIRS, all_guarded, ends_of_calls, public_names

import cubbydb
from cubbydb import dbm, errors
from cubbydb.blockdev import BlockDevice

pytest.importorskip("prometheus_client")

from cubby_command import python


@pytest.fixture
def store(tmp_path):
    with cubbydb.open(tmp_path / "data.cubby", "c", size="16M") as store:
        yield store


@pytest.fixture
def device(tmp_path):
    with BlockDevice.open(tmp_path / "device", create=True) as device:
        device.resize(10)
        yield device


def test_the_tables_have_every_public_name(store, device):
    with all_guarded(store, device) as guarded:
        named = {name: {*calls} | quiet for name, (_, calls, quiet) in guarded.items()}
        public = {name: public_names(type(thing)) for name, (thing, _, _) in guarded.items()}
    assert named == public


def test_every_call_of_the_tables_works_before(store, device):
    with all_guarded(store, device) as guarded:
        for thing, calls, _ in guarded.values():
            for call in calls.values():
                store.put_many(PAIRS)
                guarded["space"].thing.put_many(PAIRS)
                call(thing)


def test_every_call_after_close_raises_closed(store, device):
    with all_guarded(store, device) as guarded:
        store.close()
        device.close()
        ends = ends_of_calls(guarded)
    assert ends.pop("collector.collect") is None  # it has no samples then, see test_prometheus.py
    assert [name for name, end in ends.items() if type(end) is not errors.Closed] == []
    assert [str(end) for end in ends.values() if not re.search(r" closed\b", str(end))] == []


# A thread holds the locks of the store and of the device again and again while the child is made.
FORK = """
    import os, sys, threading, warnings, cubbydb
    from cubbydb import errors
    from cubbydb.blockdev import BlockDevice
    sys.path.append(sys.argv[1])
    from guarded_calls import all_guarded, ends_of_calls

    def work():
        while not done.is_set():
            store[b"thread"] = bytes(2000)
            device.write(5, bytes(4096))

    store = cubbydb.open(sys.argv[2], "w")
    device = BlockDevice.open(sys.argv[3])
    done = threading.Event()
    thread = threading.Thread(target=work)
    with all_guarded(store, device) as guarded:
        thread.start()
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads
        child = os.fork()
        if child == 0:
            ends = ends_of_calls(guarded)
            wrong = [name for name, end in ends.items() if type(end) is not errors.Forked]
            print(len(ends), wrong, flush=True)
            assert all("open" in str(end) and "parent" in str(end) for end in ends.values())
            store.close()
            device.close()
    if child == 0:
        sys.exit(7)  # as any program ends, with all its finalizers
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    done.set()
    thread.join()
    assert store[b"1"] == b"1"
    store[b"after"] = b"value"
    assert store.check() == []
    assert device.read(5) == bytes(4096)
    store.close()
    device.close()
    print("good")
"""


def test_every_call_in_a_forked_child_raises_forked_and_the_parent_goes_on(store, device):
    with all_guarded(store, device) as guarded:
        count = sum(len(calls) for _, calls, _ in guarded.values())
    store.close()
    device.close()
    tests = Path(__file__).parent
    run = python(textwrap.dedent(FORK), tests, store.path, device.name, cwd=tests)
    assert (run.stderr, run.stdout) == ("", f"{count} []\ngood\n")
    with cubbydb.open(store.path) as again:
        assert again.check() == []
        assert again[b"after"] == b"value"


def test_what_closes_itself_can_be_neither_copied_nor_pickled(store, device):
    store[b"key"] = b"value"
    with store.scan() as scan, store.scan(keys_only=True) as keys, store.batch() as batch:
        for thing in (store, device, scan, keys, batch, dbm.Database(store)):
            for call in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match="neither copied nor pickled"):
                    call(thing)
    with pytest.raises(TypeError, match="neither copied nor pickled"):
        copy.deepcopy(store.space(b"name"))
    assert copy.copy(store.space(b"name")).prefix == store.space(b"name").prefix
