"""cubby load and dump in every format, and the real tools of LMDB and Berkeley DB."""

import random
import subprocess
from shutil import which

import pytest
from cubby_command import cubby, failed, succeeded

import cubbydb
from cubbydb.cli.formats import OUTPUT_FORMATS

BINARY = ["--key-encoding", "escape", "--value-encoding", "base64"]


def sample_pairs(count: int, key_bytes_max: int = 60) -> dict[bytes, bytes]:
    numbers = random.Random(11)
    pairs = {
        numbers.randbytes(numbers.randrange(1, key_bytes_max)): numbers.randbytes(
            numbers.choice([0, 10, 300, 2100, 9000])
        )
        for _ in range(count)
    }
    return pairs | {b"text": 'größe,\r\n"quoted"\t\\'.encode(), b"\\": b"\\\\", b" ": b" "}


def store_of(path, pairs):
    with cubbydb.open(path, "n", size="16M") as store:
        store.put_many(pairs)
    return path


def options_of(name: str) -> list[str]:
    return ["--format", name, *(BINARY if name in ("csv", "tsv") else [])]


@pytest.mark.parametrize("name", OUTPUT_FORMATS)
def test_dump_load_dump_gives_the_same_records_and_sorted_the_same_bytes(tmp_path, name):
    pairs = sample_pairs(700)
    first = store_of(tmp_path / "first", pairs)
    second = store_of(tmp_path / "second", {})
    dump = cubby("dump", first, *options_of(name))
    assert (dump.exit_code, dump.stderr) == (0, "")
    assert succeeded(cubby("load", second, "-", *options_of(name), stdin=dump.stdout_bytes))
    with cubbydb.open(second) as store:
        assert dict(store.items()) == pairs
    in_order = cubby("dump", first, "--sort", *options_of(name)).stdout_bytes
    assert cubby("dump", second, "--sort", *options_of(name)).stdout_bytes == in_order
    assert succeeded(cubby("dump", first, "--sort", *options_of(name), "--output", tmp_path / "x"))
    assert (tmp_path / "x").read_bytes() == in_order
    if name in ("jsonl", "mdb"):
        third = store_of(tmp_path / "third", {})
        assert succeeded(cubby("load", third, "-", *options_of(name), stdin=in_order))
        with cubbydb.open(third) as store:
            assert dict(store.items()) == pairs


def test_sort_is_by_the_bytes_of_the_keys(tmp_path):
    path = store_of(tmp_path / "store", {b"b": b"", b"a": b"", b"\xff": b"", b"ab": b"", b"B": b""})
    result = cubby("dump", path, "--sort", "--format", "csv", *BINARY)
    assert result.stdout.splitlines()[1:] == ["B,", "a,", "ab,", "b,", r"\xff,"]


def test_an_empty_store_is_dumped_and_loaded_in_every_format(tmp_path):
    path = store_of(tmp_path / "store", {})
    for name in OUTPUT_FORMATS:
        dump = cubby("dump", path, "--format", name)
        assert dump.exit_code == 0
        assert succeeded(cubby("load", path, "-", "--format", name, stdin=dump.stdout_bytes))
        assert succeeded(cubby("load", path, "-", "--format", name, stdin=b""))


def test_what_a_table_cannot_say_ends_the_dump_with_how_much_is_written(tmp_path):
    path = store_of(tmp_path / "store", {b"a": b"1", b"b": b"\xff"})
    result = cubby("dump", path, "--sort", "--format", "csv")
    assert result.exit_code == 2
    assert result.stdout == "key,value\na,1\n"
    assert "--value-encoding escape" in result.stderr
    assert result.stderr.endswith("; 1 record before it written\n")


def test_keys_too_long_for_lmdb_are_written_and_told(tmp_path):
    path = store_of(tmp_path / "store", {b"k" * 511: b"", b"k" * 512: b"", b"k" * 65_535: b""})
    result = cubby("dump", path, "--format", "mdb")
    assert result.exit_code == 0
    assert result.stdout.count("\n ") == 6
    assert result.stderr.startswith("cubby: 2 keys have more than 511 bytes: they are written, but")
    other = store_of(tmp_path / "other", {})
    assert succeeded(cubby("load", other, "-", "--format", "mdb", stdin=result.stdout_bytes))
    with cubbydb.open(other) as store:
        assert len(store) == 3


# The real tools ----------------------------------------------------------------------------------


def tool(name: str, package: str) -> str:
    found = which(name)
    if found is None:
        pytest.skip(f"there is no {name} here (Debian package: {package})")
    return found


def output_of(*words: object, stdin: bytes = b"") -> bytes:
    run = subprocess.run(
        [str(word) for word in words], input=stdin, capture_output=True, timeout=60, check=False
    )
    assert (run.returncode, run.stderr) == (0, b"")
    return run.stdout


def test_lmdb_reads_what_is_dumped_and_what_it_writes_is_loaded(tmp_path):
    mdb_load, mdb_dump = tool("mdb_load", "lmdb-utils"), tool("mdb_dump", "lmdb-utils")
    pairs = sample_pairs(3000, key_bytes_max=511)
    path = store_of(tmp_path / "store", pairs)
    dump = cubby("dump", path, "--format", "mdb").stdout_bytes
    assert sum(map(len, pairs.values())) > 4 << 20  # more than LMDB makes room for by itself
    output_of(mdb_load, "-n", tmp_path / "lmdb", stdin=dump)
    theirs = output_of(mdb_dump, "-n", tmp_path / "lmdb")
    copy = store_of(tmp_path / "copy", {})
    assert succeeded(cubby("load", copy, "-", "--format", "mdb", stdin=theirs))
    with cubbydb.open(copy) as store:
        assert dict(store.items()) == pairs
    ours = cubby("dump", path, "--format", "mdb", "--sort").stdout_bytes
    assert data_of(ours) == data_of(output_of(mdb_dump, "-n", tmp_path / "lmdb"))


def test_what_lmdb_prints_is_loaded_unless_backslashes_make_it_unclear(tmp_path):
    mdb_load, mdb_dump = tool("mdb_load", "lmdb-utils"), tool("mdb_dump", "lmdb-utils")
    pairs = {k: v for k, v in sample_pairs(500).items() if b"\\" not in k + v}
    path = store_of(tmp_path / "store", pairs)
    dump = cubby("dump", path, "--format", "mdb").stdout_bytes
    output_of(mdb_load, "-n", tmp_path / "lmdb", stdin=dump)
    theirs = output_of(mdb_dump, "-n", "-p", tmp_path / "lmdb")
    copy = store_of(tmp_path / "copy", {})
    assert succeeded(cubby("load", copy, "-", "--format", "mdb", stdin=theirs))
    with cubbydb.open(copy) as store:
        assert dict(store.items()) == pairs
    unclear = b"VERSION=3\nformat=print\nHEADER=END\n a\n \\x\nDATA=END\n"
    assert failed(cubby("load", copy, "-", "--format", "mdb", stdin=unclear), 2, "without -p")


def data_of(dump: bytes) -> bytes:
    return dump.partition(b"HEADER=END\n")[2]


def test_lmdb_stops_at_a_key_that_is_too_long_for_it(tmp_path):
    mdb_load = tool("mdb_load", "lmdb-utils")
    path = store_of(tmp_path / "store", {b"k" * 512: b""})
    dump = cubby("dump", path, "--format", "mdb").stdout_bytes
    run = subprocess.run(
        [mdb_load, "-n", tmp_path / "lmdb"], input=dump, capture_output=True, check=False
    )
    assert run.returncode != 0


def test_several_databases_or_values_of_lmdb_are_refused(tmp_path):
    mdb_load, mdb_dump = tool("mdb_load", "lmdb-utils"), tool("mdb_dump", "lmdb-utils")
    twice = b"VERSION=3\ntype=btree\ndupsort=1\nHEADER=END\n 61\n 31\n 61\n 32\nDATA=END\n"
    output_of(mdb_load, "-n", "-s", "one", tmp_path / "lmdb", stdin=twice)
    other = b"VERSION=3\ntype=btree\nHEADER=END\n 62\n 31\nDATA=END\n"
    output_of(mdb_load, "-n", "-s", "two", tmp_path / "lmdb", stdin=other)
    path = store_of(tmp_path / "store", {})
    for words, text in ((["-s", "one"], "a second value"), (["-a"], "")):
        theirs = output_of(mdb_dump, "-n", *words, tmp_path / "lmdb")
        assert failed(cubby("load", path, "-", "--format", "mdb", stdin=theirs), 2, text)
    theirs = output_of(mdb_dump, "-n", "-s", "two", tmp_path / "lmdb")
    assert succeeded(cubby("load", path, "-", "--format", "mdb", stdin=theirs))
    with cubbydb.open(path) as store:
        assert store[b"b"] == b"1"


@pytest.mark.parametrize("kind", ["btree", "hash"])
def test_berkeley_db_writes_what_is_loaded_and_reads_what_is_dumped(tmp_path, kind):
    db_load, db_dump = tool("db5.3_load", "db5.3-util"), tool("db5.3_dump", "db5.3-util")
    pairs = sample_pairs(300)
    path = store_of(tmp_path / "store", pairs)
    # It knows no mapsize, and says so by refusing.
    dump = cubby("dump", path, "--format", "mdb").stdout_bytes
    lines = [line for line in dump.splitlines(True) if not line.startswith(b"mapsize=")]
    output_of(db_load, "-t", kind, tmp_path / "bdb", stdin=b"".join(lines))
    for form in ([], ["-p"]):
        theirs = output_of(db_dump, *form, tmp_path / "bdb")
        copy = store_of(tmp_path / "copy", {})
        assert succeeded(cubby("load", copy, "-", "--format", "mdb", stdin=theirs))
        with cubbydb.open(copy) as store:
            assert dict(store.items()) == pairs
