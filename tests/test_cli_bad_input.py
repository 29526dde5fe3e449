"""What the command cubby does with bad input: an exit code, a sentence, and never a traceback."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from click.testing import Result
from cubby_command import command, cubby

import cubbydb
from cubbydb.blockdev import BlockDevice

PAIRS = {b"key": b"value", b"\xff": b"\xfe"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store with one pair, and some files that are none."""
    folder = tmp_path_factory.mktemp("bad input")
    with cubbydb.open(folder / "store", "c", size="4M") as store:
        store.put_many(PAIRS)
    (folder / "letter").write_bytes(b"Dear reader,\n" * 1000)
    (folder / "empty").write_bytes(b"")
    (folder / "folder").mkdir()
    BlockDevice.create(f"csd:{folder}/drive", physical="4M", logical="8M").close()
    return folder


# Arguments, with STORE and so on for the files above; the exit code; words of the sentence.
BAD_WORDS = [
    ([], 2, ""),
    (["none"], 2, "No such command 'none'"),
    (["--none"], 2, "No such option"),
    (["get"], 2, "Missing argument 'PATH'"),
    (["get", "STORE"], 2, "Missing argument 'KEY'"),
    (["get", "STORE", "a", "b"], 2, "unexpected extra argument"),
    (["get", "STORE", ""], 2, "a key has 1 to 65,535 bytes, this one 0"),
    (["get", "STORE", "k" * 65_536], 2, "this one 65,536"),
    (["get", "STORE", "absent"], 1, "no pair has the key b'absent'"),
    (["get", "STORE", "\udcff"], 2, "--key-encoding hex"),
    (["get", "STORE", "xy", "--key-encoding", "hex"], 2, "'xy' is not hexadecimal"),
    (["get", "STORE", "YQ", "--key-encoding", "base64"], 2, "'YQ' is not base64"),
    (["get", "STORE", "\\q", "--key-encoding", "escape"], 2, "begins no escape"),
    (["get", "STORE", "\\x1", "--key-encoding", "escape"], 2, "begins no escape"),
    (["get", "STORE", "k", "--key-encoding", "rot13"], 2, "'rot13' is not one of"),
    (["get", "STORE", "k", "--value-encoding", "rot13"], 2, "'rot13' is not one of"),
    (["get", "", "k"], 2, "not a path"),
    (["get", "NONE", "k"], 3, "none does not exist; cubby create makes a store"),
    (["get", "FOLDER", "k"], 2, "folder"),
    (["get", "LETTER", "k"], 7, "letter"),
    (["get", "EMPTY", "k"], 7, "empty"),
    (["get", "DRIVE", "k"], 7, "drive"),
    (["get", "mem:x", "k"], 2, "mem:x"),
    (["get", "fault:read=1:STORE", "key"], 3, "store"),
    (["get", "fault:nonsense:STORE", "key"], 2, "nonsense"),
    (["put", "STORE", "k", "zz", "--value-encoding", "hex"], 2, "Invalid value for VALUE"),
    (["put", "STORE", "", "v"], 2, "this one 0"),
    (["put", "STORE", "k", "v", "--ttl", "0"], 2, "a time to live is above 0"),
    (["put", "STORE", "k", "v", "--ttl", "0.0h"], 2, "a time to live is above 0"),
    (["put", "STORE", "k", "v", "--ttl", "-1"], 2, "'-1' is no time"),
    (["put", "STORE", "k", "v", "--ttl", "5w"], 2, "'5w' is no time: 90, 15m, 12h or 7d"),
    (["put", "STORE", "k", "v", "--ttl", "nan"], 2, "'nan' is no time"),
    (["put", "STORE", "k", "v", "--ttl", "9" * 30 + "d"], 2, "a ttl is above 0 and at most"),
    (["load", "STORE", "LETTER", "--ttl", "soon"], 2, "'soon' is no time"),
    (["compact"], 2, "Missing argument 'PATH'"),
    (["compact", "NONE"], 3, "cubby create makes a store"),
    (["compact", "LETTER"], 7, "letter"),
    (["put", "NONE", "k", "v"], 3, "cubby create makes a store"),
    (["delete", "STORE", "absent"], 1, "no pair has the key"),
    (["scan", "STORE", "--limit", "0"], 2, "--limit"),
    (["scan", "STORE", "--limit", "many"], 2, "--limit"),
    (["scan", "STORE", "--cursor", "xyz"], 2, "'xyz' is not hexadecimal"),
    (["scan", "STORE", "--cursor", "00"], 2, "a cursor has 24 bytes"),
    (["scan", "STORE", "--prefix", "x", "--key-encoding", "hex"], 2, "--prefix"),
    (["create", "NONE/new"], 3, "cannot be created; its directory does not exist"),
    (["create", "NEW", "--size", "1"], 2, "the smallest size is 1M"),
    (["create", "NEW", "--size", "-5M"], 2, "--size"),
    (["create", "NEW", "--fill", "2"], 2, "--fill"),
    (["create", "STORE"], 2, "there is a store already"),
    (["create", "LETTER"], 2, "--force overwrites"),
    (["create", "DRIVE"], 2, "it looks like an emulated drive of CubbyDB"),
    (["create", "NONE/store"], 3, "its directory does not exist"),
    (["load", "STORE"], 2, "Missing argument 'FILE'"),
    (["load", "STORE", "NONE"], 3, "none: No such file or directory"),
    (["load", "STORE", "FOLDER"], 3, "Is a directory"),
    (["load", "STORE", "-", "--format", "xml"], 2, "'xml' is not one of"),
    (["load", "STORE", "LETTER"], 2, "letter:1: not JSON"),
    (["load", "STORE", "LETTER", "--format", "csv"], 2, "letter:1: the header is not 'key,value'"),
    (["load", "STORE", "LETTER", "--format", "tsv"], 2, "letter:1: the header is not"),
    (["load", "STORE", "LETTER", "--format", "mdb"], 2, "letter:1: not a header"),
    (["load", "STORE", "LETTER", "--format", "deb822"], 2, "letter:1: neither a field"),
    (["load", "STORE", "-", "--key-encoding", "hex"], 2, "are for csv and tsv"),
    (["dump", "STORE", "--format", "deb822"], 2, "'deb822' is not one of"),
    (["dump", "STORE", "--value-encoding", "hex"], 2, "are for csv and tsv"),
    (["dump", "STORE", "--output", "STORE"], 2, "this is the store itself"),
    (["dump", "file:STORE", "--output", "STORE"], 2, "this is the store itself"),
    (["dump", "csd:DRIVE", "--output", "DRIVE"], 2, "this is the store itself"),
    (["dump", "fault:read=9:file:STORE", "--output", "STORE"], 2, "this is the store itself"),
    (["dump", "STORE", "--output", "FOLDER"], 3, "Is a directory"),
    (["dump", "STORE", "--output", "NONE/x"], 3, "No such file or directory"),
    (["stat", "STORE", "--watch", "0"], 2, "--watch"),
    (["stat", "STORE", "--watch", "nan"], 2, "--watch"),
    (["stat", "STORE", "--watch", "inf"], 2, "--watch"),
    (["stat", "STORE", "--watch", "1e30"], 2, "--watch"),
    (["dump", "STORE", "--output", "/dev/full"], 3, "/dev/full: No space left on device"),
    (["stat", "NONE", "--watch", "1"], 3, "none"),
    (["check", "LETTER"], 7, "letter"),
    (["check", "STORE", "--yaml"], 2, "No such option"),
    (["inspect", "STORE"], 2, "Missing argument 'key|lba|segment'"),
    (["inspect", "STORE", "page", "1"], 2, "'page' is not one of"),
    (["inspect", "STORE", "key"], 2, "Missing argument 'KEY|NUMBER'"),
    (["inspect", "STORE", "key", ""], 2, "this one 0"),
    (["inspect", "STORE", "key", "zz", "--key-encoding", "hex"], 2, "is not hexadecimal"),
    (["inspect", "STORE", "lba", "4096"], 2, "LBA 4096 is outside the store: its blocks are 0 to"),
    (["inspect", "STORE", "lba", "9" * 30], 2, "below 2 to the 64"),
    (["inspect", "STORE", "lba", "one"], 2, "a number is digits alone, not 'one'"),
    (["inspect", "STORE", "lba", "0x10"], 2, "a number is digits alone, not '0x10'"),
    (["inspect", "STORE", "segment", "1"], 2, "there is no segment 1"),
    (["inspect", "LETTER", "lba", "0"], 7, "letter"),
    (["inspect", "DRIVE", "lba", "0"], 7, "drive"),
    (["inspect", "NONE", "lba", "0"], 3, "cubby create makes a store"),
    (["inspect", "fault:read=4:STORE", "lba", "5"], 3, "failed"),
    (["resize", "STORE", "--size", "1M"], 2, "does not shrink"),
    (["resize", "STORE", "--size", "1"], 2, "the smallest size is 1M"),
    (["resize", "STORE", "--size", "2000T"], 2, "1 MiB to 1 PiB"),
    (["resize", "STORE", "--size", "99999999999T"], 2, "at most 1 PiB"),
    (["resize", "STORE", "--size", "1000T"], 2, "in steps of 16 times"),
    (["resize", "LETTER", "--size", "8M"], 7, "letter"),
    (["resize", "EMPTY"], 7, "empty"),
    (["resize", "NONE"], 3, "cubby create makes a store"),
    (["resize", "mem:1M"], 7, "mem:1M"),
    (["destroy", "NONE", "--yes"], 3, "none: No such file or directory"),
    (["destroy", "LETTER", "--yes"], 7, "letter holds no CubbyDB store"),
    (["destroy", "EMPTY", "--yes"], 7, "empty holds no CubbyDB store"),
    (["destroy", "FOLDER", "--yes"], 2, "folder"),
    (["destroy", "csd:STORE", "--yes"], 7, "store holds no emulated drive"),
    (["destroy", "mem:1M", "--yes"], 2, "give a file, a block device"),
    (["destroy", "STORE"], 2, "say --yes as well"),
    (["version", "x"], 2, "unexpected extra argument"),
    (["completion", "tcsh"], 2, "'tcsh' is not one of"),
    (["device", "info", "NONE"], 3, "cubby device create makes an emulated drive"),
    (["device", "discard", "DRIVE"], 2, "give either --lba and --count, or --all"),
]


def placed(word: str, folder: Path) -> str:
    return re.sub(
        r"STORE|LETTER|EMPTY|FOLDER|DRIVE|NONE|NEW", lambda m: f"{folder}/{m[0].lower()}", word
    )


def files_of(folder: Path) -> dict[str, bytes | None]:
    """What there is; the contents of what nothing may be written to."""
    own = {"store", "drive"}
    return {
        path.name: path.read_bytes() if path.is_file() and path.name not in own else None
        for path in folder.iterdir()
    }


def one_sentence(result: Result, words: str) -> bool:
    """One line of ours, or click's usage with one line at its end."""
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    if result.stderr.startswith("cubby: "):
        assert result.stderr.count("\n") == 1
    else:
        assert result.stderr.startswith("Usage: ")
        assert last.startswith("Error: ")
        assert result.stderr.count("Error: ") == 1
    assert words in last
    return True


@pytest.mark.parametrize(
    ("words", "code", "text"), BAD_WORDS, ids=[str(w)[:60] for w, *_ in BAD_WORDS]
)
def test_bad_input_is_an_exit_code_and_a_sentence(folder, words, code, text):
    before = files_of(folder)
    result = cubby(*[placed(word, folder) for word in words])
    assert result.exit_code == code, result.output
    if words:
        assert result.stdout == ""
        assert one_sentence(result, text)
    assert files_of(folder) == before
    with cubbydb.open(folder / "store") as store:
        assert dict(store.items()) == PAIRS


def test_who_creates_a_store_is_not_told_to_create_one(folder):
    result = cubby("create", folder / "none" / "new")
    assert result.stderr.endswith("new cannot be created; its directory does not exist\n")


def test_the_table_is_long_enough():
    assert len(BAD_WORDS) >= 40
    assert {code for _, code, _ in BAD_WORDS} == {1, 2, 3, 7}


# Content, its format, the line that the sentence names, its words, and the pairs stored before.
BAD_CONTENTS = [
    (b"key,value\na,1\nb\n", "csv", 3, "a row of 1 fields, not two", 1),
    (b"key,value\na,1\nb,2,3\n", "csv", 3, "a row of 3 fields, not two", 1),
    (b'key,value\na,1\nb,"2"3\n', "csv", 3, "not a table", 1),
    (b'key,value\na,1\nb,"2\n', "csv", 3, "not a table: unexpected end of data", 1),
    (b"key,value\na,1\n\xff,2\n", "csv", 3, "not UTF-8 at byte 1 of the line", 1),
    (b"key,value\na,1\n,2\n", "csv", 3, "this one 0", 1),
    (b"key,value\ra,1\r", "csv", 1, "not a table", 0),
    (b"key,value,note\na,1,x\n", "csv", 1, "the header is not 'key,value'", 0),
    (b"key,key\n", "csv", 1, "the header is not", 0),
    (b"key,value\na,1\n", "tsv", 1, "the header is not", 0),
    (b"key\tvalue\na\t1\nb\n", "tsv", 3, "a row of 1 fields", 1),
    (b"format=print\n", "mdb", 1, "does not begin with VERSION=3", 0),
    (b"VERSION=2\n", "mdb", 1, "VERSION is 3, not '2'", 0),
    (b"VERSION=3\nformat=text\n", "mdb", 2, "format is bytevalue or print", 0),
    (b"VERSION=3\ntype=recno\n", "mdb", 2, "type is btree or hash", 0),
    (b"VERSION=3\n", "mdb", 1, "ends without HEADER=END", 0),
    (b"VERSION=3\nHEADER=END\n 61\n 31\n62\n 32\nDATA=END\n", "mdb", 5, "neither a space", 1),
    (b"VERSION=3\nHEADER=END\n 61\n 31\n 6\n 32\nDATA=END\n", "mdb", 5, "not hexadecimal", 1),
    (b"VERSION=3\nHEADER=END\n 61\n 31\n 6 2\n 3\nDATA=END\n", "mdb", 5, "not hexadecimal", 1),
    (b"VERSION=3\nHEADER=END\n 61\n 31\n 62\nDATA=END\n", "mdb", 6, "a key without a value", 1),
    (b"VERSION=3\nHEADER=END\n 61\n 31\n 62\n", "mdb", 5, "a key without a value", 1),
    (b"VERSION=3\nHEADER=END\n 61\n 31\n", "mdb", 4, "ends without DATA=END", 1),
    (b"VERSION=3\nHEADER=END\n 61\n 31\nDATA=END\nVERSION=3\n", "mdb", 6, "one database", 1),
    (b"VERSION=3\ndupsort=1\nHEADER=END\n 61\n 31\n 61\n 32\n", "mdb", 7, "a second value", 1),
    (b"VERSION=3\nformat=print\nHEADER=END\n a\n 1\n b\\q\n 2\n", "mdb", 6, "no escape", 1),
    (b'{"k": "a", "v": "1"}\n{"k": "b"}\n', "jsonl", 2, "not an object of two fields", 1),
    (b'{"k": "a", "expires_ms": 5}\n', "jsonl", 1, "not an object of two fields", 0),
    (b'{"k": "a", "v": "1", "x": 5}\n', "jsonl", 1, "not an object of two fields", 0),
    (b'{"k": "a", "v": "", "expires_ms": 0}\n', "jsonl", 1, "milliseconds since 1970", 0),
    (b'{"k": "a", "v": "", "expires_ms": 1.5}\n', "jsonl", 1, "milliseconds since 1970", 0),
    (b'{"k": "a", "v": "", "expires_ms": true}\n', "jsonl", 1, "milliseconds since 1970", 0),
    (b'{"k": "a", "v": "", "expires_ms": "1"}\n', "jsonl", 1, "milliseconds since 1970", 0),
    (b'{"k": "a", "v": "", "expires_ms": 18446744073709551615}\n', "jsonl", 1, "since 1970", 0),
    (b'{"k": "a", "v": "", "expires_ms": 5, "expires_ms": 5}\n', "jsonl", 1, "two fields", 0),
    (b"Package: a\n\nVersion: 1\n", "deb822", 3, "without a Package field", 1),
]


@pytest.mark.parametrize(("content", "name", "line", "text", "stored"), BAD_CONTENTS)
def test_a_bad_line_is_named_and_what_came_before_is_stored(
    tmp_path, content, name, line, text, stored
):
    path = tmp_path / "store"
    cubbydb.open(path, "c", size="4M").close()
    result = cubby("load", path, "-", "--format", name, stdin=content)
    assert (result.exit_code, result.stdout) == (2, "")
    assert one_sentence(result, text)
    assert result.stderr.startswith(f"cubby: standard input:{line}: ")
    records = "1 record" if stored == 1 else f"{stored} records"
    assert result.stderr.endswith(f"; {records} before it stored\n")
    with cubbydb.open(path) as store:
        assert len(store) == stored


# Streams -----------------------------------------------------------------------------------------


def with_closed(numbers: str, *words: str | Path) -> tuple[int, str]:
    """Run the command with standard streams closed, as a shell does with >&-."""
    line = '"$0" "$@"' + "".join(f" {number}" for number in numbers.split())
    run = subprocess.run(
        ["sh", "-c", line, *command(*words)], capture_output=True, cwd="/", timeout=60, check=False
    )
    return run.returncode, run.stderr.decode()


def test_a_closed_standard_stream_is_an_io_error_and_the_store_stays_whole(folder):
    store = folder / "store"
    before = store.read_bytes()
    bad = "cubby: input or output: Bad file descriptor\n"
    assert with_closed(">&-", "get", store, "key") == (3, bad)
    assert with_closed(">&-", "dump", store) == (3, bad.replace("input or", "standard"))
    assert with_closed(">&- 2>&-", "get", store, "key") == (3, "")
    assert with_closed("<&-", "put", store, "key") == (3, bad)
    assert with_closed("<&-", "load", store, "-") == (3, bad.replace("input or out", "standard in"))
    assert with_closed("<&-", "get", store, "key") == (0, "")
    assert with_closed("2>&-", "get", store, "absent") == (1, "")
    assert with_closed("<&- >&- 2>&-", "get", store, "absent") == (1, "")
    assert store.read_bytes() == before


@pytest.mark.parametrize(("words", "code"), [(["get", "STORE", "absent"], 1), (["none"], 2)])
def test_a_standard_error_that_is_full_leaves_the_exit_code(folder, words, code):
    with Path("/dev/full").open("wb") as full:
        run = subprocess.run(
            command(*[placed(word, folder) for word in words]),
            stdout=subprocess.PIPE,
            stderr=full,
            cwd="/",
            timeout=60,
            check=False,
        )
    assert (run.returncode, run.stdout) == (code, b"")


@pytest.mark.parametrize(
    "words",
    [
        ["get", "STORE", "key"],
        ["scan", "STORE"],
        ["dump", "STORE", "--format", "mdb"],
        ["dump", "STORE", "--sort"],
        ["stat", "STORE"],
        ["stat", "STORE", "--json"],
        ["stat", "STORE", "--watch", "0.1"],
        ["stat", "STORE", "--watch", "0.1", "--json"],
        ["check", "STORE", "--json"],
        ["inspect", "STORE", "key", "key"],
        ["inspect", "STORE", "segment", "0", "--json"],
        ["version"],
        ["--version"],
        ["--help"],
        ["dump", "--help"],
        ["completion", "bash"],
        ["device", "info", "STORE"],
    ],
)
def test_a_reader_that_is_gone_already_ends_any_command_quietly(folder, words):
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as pipe:
        run = subprocess.run(
            command(*[placed(word, folder) for word in words]),
            stdout=pipe,
            stderr=subprocess.PIPE,
            cwd="/",
            timeout=60,
            check=False,
        )
    assert (run.returncode, run.stderr) == (141, b"")


@pytest.mark.parametrize("words", [["dump"], ["dump", "--sort"], ["scan"], ["scan", "--keys-only"]])
def test_ctrl_c_is_one_sentence(tmp_path, words):
    path = tmp_path / "store"
    with cubbydb.open(path, "c", size="64M") as store:
        store.put_many((b"%0900d" % number, bytes(50)) for number in range(20_000))
    with subprocess.Popen(
        command(words[0], path, *words[1:]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/"
    ) as process:
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130
    assert re.fullmatch(r"cubby: interrupted(: [0-9,]+ records written)?\n", said)
