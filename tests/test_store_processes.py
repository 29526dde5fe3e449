"""One store and several processes: locks, kill -9, fork, and threads that come and go."""

import signal
import subprocess
import sys
import textwrap

import pytest
from cubby_command import python
from store_samples import some_pairs

import cubbydb
from cubbydb import errors


@pytest.fixture
def path(tmp_path):
    """A store with ten pairs."""
    path = tmp_path / "data.cubby"
    with cubbydb.open(path, "c", size="16M") as store:
        store.put_many(some_pairs(10))
    return path


HOLD = """
    import sys, cubbydb
    store = cubbydb.open(sys.argv[1], sys.argv[2])
    print("open", flush=True)
    sys.stdin.read()
    store.close()
"""


@pytest.mark.parametrize(("theirs", "ours"), [("w", "w"), ("w", "r"), ("r", "w"), ("w", "n")])
def test_a_store_that_another_process_has_is_locked_and_its_pid_named(path, theirs, ours):
    command = [sys.executable, "-c", textwrap.dedent(HOLD), path, theirs]
    with subprocess.Popen(
        command, cwd=path.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(errors.Locked) as caught:
            cubbydb.open(path, ours)
        assert str(path) in str(caught.value)
        if theirs == "w":
            assert str(holder.pid) in str(caught.value)
        holder.communicate("")
    assert holder.returncode == 0
    with cubbydb.open(path, "w") as store:
        assert len(store) == 10


def test_processes_may_read_one_store_together(path):
    with cubbydb.open(path) as store:
        run = python(
            "import sys, cubbydb; print(len(cubbydb.open(sys.argv[1])))", path, cwd=path.parent
        )
        assert run.stdout == "10\n"
        assert len(store) == 10


def test_a_second_handle_of_one_process_is_locked_too(path):
    with (
        cubbydb.open(path, "w"),
        pytest.raises(errors.Locked, match=r"data\.cubby"),
    ):
        cubbydb.open(path)


def test_what_was_put_survives_kill_9(path):
    run = python(
        """
        import os, signal, sys, cubbydb
        store = cubbydb.open(sys.argv[1], "w")
        store.put_many((b"many %d" % number, bytes(number)) for number in range(2000))
        for number in range(500):
            store[b"one %d" % number] = b"value %d" % number
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        path,
        cwd=path.parent,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    expected = some_pairs(10)
    expected |= {b"many %d" % number: bytes(number) for number in range(2000)}
    expected |= {b"one %d" % number: b"value %d" % number for number in range(500)}
    for flag in "rw":
        with cubbydb.open(path, flag) as store:
            assert dict(store.items()) == expected
            assert store.check() == []


def test_a_forked_child_is_refused_and_may_open_anew(path):
    run = python(
        """
        import os, sys, cubbydb
        from cubbydb import errors
        store = cubbydb.open(sys.argv[1], "w")
        store[b"key"] = b"value"
        scan = store.scan()
        next(scan)
        child = os.fork()
        if child == 0:
            calls = [lambda: store[b"key"], lambda: store.put(b"key", b""), lambda: len(store),
                     lambda: next(scan), lambda: store.scan(), lambda: store.get_many([b"key"])]
            for call in calls:
                try:
                    call()
                except errors.Forked:
                    continue
                os._exit(2)
            scan.close()
            store.close()
            store.close()
            try:
                cubbydb.open(sys.argv[1], "w")
            except errors.Locked:
                os._exit(0)
            os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store[b"key"] == b"value"
        store[b"after"] = b"value"
        assert len(list(store)) == 12
        store.close()
        with cubbydb.open(sys.argv[1], "w") as store:
            assert len(store) == 12
            assert store.stats()["recovered"] == 0
        print("good")
        """,
        path,
        cwd=path.parent,
    )
    assert (run.stdout, run.stderr) == ("good\n", "")


def test_a_forked_child_that_ends_normally_leaves_the_store_alone(path):
    run = python(
        """
        import os, sys, cubbydb
        store = cubbydb.open(sys.argv[1], "w")
        store[b"key"] = b"value"
        if os.fork() == 0:
            sys.exit()
        os.wait()
        store[b"key"] = b"other"
        assert store[b"key"] == b"other"
        store.close()
        print("good")
        """,
        path,
        cwd=path.parent,
    )
    assert (run.stdout, run.stderr) == ("good\n", "")


def test_threads_end_and_give_their_sessions_back(path):
    run = python(
        """
        import os, sys, threading, cubbydb
        def resident_bytes():
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        with cubbydb.open(sys.argv[1], "w") as store:
            for number in range(600):
                thread = threading.Thread(target=lambda: store.put(b"key", bytes(100_000)))
                thread.start()
                thread.join()
                if number == 100:
                    before = resident_bytes()
            print(resident_bytes() - before < 20 << 20, len(os.listdir("/proc/self/fd")) < 30)
        """,
        path,
        cwd=path.parent,
    )
    assert (run.stdout, run.stderr) == ("True True\n", "")
