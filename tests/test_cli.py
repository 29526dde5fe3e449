"""The command cubby: what it prints, where, and its exit codes."""

import base64
import json
import os
import pty
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from cubby_command import command, cubby, failed, misused, succeeded

import cubbydb
from cubbydb import errors
from cubbydb.cli.main import main
from cubbydb.cli.report import EXIT_CODES, InputError, exit_code, sentence
from cubbydb.cli.transfer import BATCH_RECORDS

PAIRS = {b"key %d" % number: b"value %d" % number for number in range(100)}


def run(*words: str | Path, **options) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process of its own, away from the checkout."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": "/"} | options
    return subprocess.run(command(*words), timeout=120, **options)


@pytest.fixture
def path(tmp_path):
    """A store with a hundred pairs."""
    path = tmp_path / "data.cubby"
    with cubbydb.open(path, "c", size="16M") as store:
        store.put_many(PAIRS)
    return path


# create ------------------------------------------------------------------------------------------


def test_create_makes_an_empty_store_without_a_word(tmp_path):
    path = tmp_path / "data.cubby"
    result = cubby("create", path, "--size", "8M", "--fill", "0.3")
    assert (result.exit_code, result.output) == (0, "")
    with cubbydb.open(path) as store:
        assert len(store) == 0
        assert store.stats()["fill_percent"] == 30


def test_create_leaves_a_store_alone_unless_it_is_to_be_new(path):
    assert failed(cubby("create", path), 2, str(path), "--new")
    assert failed(cubby("create", path, "--force"), 2, str(path), "--new")
    with cubbydb.open(path) as store:
        assert len(store) == 100
    assert cubby("create", path, "--new", "--size", "4M").exit_code == 0
    with cubbydb.open(path) as store:
        assert len(store) == 0


@pytest.mark.parametrize("options", [[], ["--new"]])
def test_create_leaves_a_damaged_store_alone_unless_forced(tmp_path, options):
    path = tmp_path / "data.cubby"
    assert cubby("create", path, "--size", "4M").exit_code == 0
    with path.open("r+b") as file:
        for superblock in range(2):
            file.seek(superblock * 4096 + 100)
            file.write(b"damage")
    before = path.read_bytes()
    assert failed(cubby("create", path, *options), 4, "both superblocks are damaged", "--force")
    assert path.read_bytes() == before
    assert cubby("create", path, *options, "--force").exit_code == 0


def test_create_leaves_foreign_data_alone_unless_forced(tmp_path):
    path = tmp_path / "letter.txt"
    path.write_bytes(b"Dear reader,\n" * 1000)
    assert failed(cubby("create", path), 2, "letter.txt", "--force")
    assert failed(cubby("create", path, "--new"), 2, "letter.txt", "--force")
    assert path.read_bytes() == b"Dear reader,\n" * 1000
    assert cubby("create", path, "--force", "--size", "4M").exit_code == 0
    with cubbydb.open(path) as store:
        assert len(store) == 0


@pytest.mark.parametrize(
    "options", [["--size", "1K"], ["--size", "big"], ["--size", ""], ["--fill", "0.9"]]
)
def test_create_with_a_wrong_option_is_a_usage_error(tmp_path, options):
    result = cubby("create", tmp_path / "data.cubby", *options)
    assert result.exit_code == 2
    assert f"Invalid value for '{options[0]}'" in result.stderr
    assert not (tmp_path / "data.cubby").exists()


# get, put, delete --------------------------------------------------------------------------------


def test_get_writes_the_bytes_of_the_value_and_nothing_else(path):
    with cubbydb.open(path, "w") as store:
        store[b"binary"] = bytes(range(256))
    result = cubby("get", path, "binary")
    assert (result.exit_code, result.stdout_bytes, result.stderr) == (0, bytes(range(256)), "")


def test_get_of_a_missing_key_is_exit_code_1(path):
    assert failed(cubby("get", path, "none"), 1, "no pair has the key b'none'")


def test_put_takes_the_value_from_the_command_line_or_from_standard_input(path):
    binary = random.Random(1).randbytes(100_000)
    assert cubby("put", path, "größe", "größe").output == ""
    assert cubby("put", path, "empty", "").exit_code == 0
    assert cubby("put", path, "piped", stdin=binary).exit_code == 0
    assert cubby("put", path, "dash", "-", stdin=b"\r\n").exit_code == 0
    with cubbydb.open(path) as store:
        wanted = ["größe".encode(), b"empty", b"piped", b"dash"]
        assert store.get_many(wanted) == ["größe".encode(), b"", binary, b"\r\n"]


def test_delete_removes_a_pair_once(path):
    assert cubby("delete", path, "key 7").output == ""
    assert failed(cubby("delete", path, "key 7"), 1, "b'key 7'")
    with cubbydb.open(path) as store:
        assert len(store) == 99


@pytest.mark.parametrize(
    ("encoding", "text"), [("hex", "ff00"), ("base64", "/wA="), ("escape", r"\xff\x00")]
)
def test_binary_keys_are_given_as_text(path, encoding, text):
    option = ["--key-encoding", encoding]
    assert cubby("put", path, text, "value", *option).exit_code == 0
    assert cubby("get", path, text, *option).stdout == "value"
    with cubbydb.open(path) as store:
        assert store[b"\xff\x00"] == b"value"
    assert cubby("scan", path, "--prefix", text, "--keys-only", *option).stdout == f"{text}\n"
    assert cubby("delete", path, text, *option).exit_code == 0


def test_a_key_that_cannot_be_read_is_a_usage_error(path):
    for words in (["zz", "--key-encoding", "hex"], ["YQ", "--key-encoding", "base64"], ["\udcff"]):
        result = cubby("get", path, *words)
        assert result.exit_code == 2
        assert "Invalid value for KEY" in result.stderr
    assert failed(cubby("get", path, ""), 2, "a key has 1 to 65,535 bytes, this one 0")


# scan and dump -----------------------------------------------------------------------------------


def read_back(text: str) -> dict[bytes, bytes]:
    lines = [json.loads(line) for line in text.splitlines()]
    return {line["k"].encode(): line["v"].encode() for line in lines}


def test_scan_and_dump_write_every_pair_as_json(path):
    for name in ("scan", "dump"):
        result = cubby(name, path)
        assert (result.exit_code, result.stderr) == (0, "")
        assert read_back(result.stdout) == PAIRS


def test_scan_of_a_prefix_writes_its_pairs_alone(path):
    result = cubby("scan", path, "--prefix", "key 1")
    assert read_back(result.stdout) == {k: v for k, v in PAIRS.items() if k.startswith(b"key 1")}
    assert cubby("scan", path, "--prefix", "none").output == ""


def test_scan_in_pieces_tells_the_cursor_until_there_is_no_more(path):
    found: list[str] = []
    options: list[str] = []
    for _ in range(10):
        result = cubby("scan", path, "--keys-only", "--limit", "10", *options)
        assert result.exit_code == 0
        found += result.stdout.splitlines()
        options = result.stderr.removeprefix("more: ").split()
    assert options == []
    assert sorted(found) == sorted(key.decode() for key in PAIRS)


def test_a_limit_may_be_any_number(path):
    result = cubby("scan", path, "--keys-only", "--limit", "9" * 30)
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == len(PAIRS)


@pytest.mark.parametrize("cursor", ["xyz", "00ff", "ff" * 24])
def test_scan_with_a_wrong_cursor_is_a_usage_error(path, cursor):
    result = cubby("scan", path, "--cursor", cursor)
    assert result.exit_code == 2
    assert "cursor" in result.stderr
    assert result.stdout == ""


def test_dump_to_a_file_is_silent(path, tmp_path):
    result = cubby("dump", path, "--output", tmp_path / "dump.jsonl")
    assert (result.exit_code, result.output) == (0, "")
    assert read_back((tmp_path / "dump.jsonl").read_text()) == PAIRS


def test_dump_into_the_store_itself_is_refused(path, tmp_path):
    (tmp_path / "link").symlink_to(path)
    for output in (path, tmp_path / "link"):
        result = cubby("dump", path, "--output", output)
        assert result.exit_code == 2
        assert "this is the store itself" in result.stderr
    with cubbydb.open(path) as store:
        assert len(store) == 100


# load --------------------------------------------------------------------------------------------


def test_dump_and_load_give_back_every_pair_byte_for_byte(path, tmp_path):
    numbers = random.Random(5)
    pairs = {
        numbers.randbytes(numbers.randrange(1, 40)): numbers.randbytes(numbers.randrange(3000))
        for _ in range(500)
    }
    pairs |= {
        b"\n\r\t\x00\x7f": "\u2028 \U0001f600".encode(),
        b"empty": b"",
        b"big": bytes(300_000),
    }
    with cubbydb.open(path, "w") as store:
        store.put_many(pairs)
    dump = cubby("dump", path).stdout_bytes
    copy = tmp_path / "copy.cubby"
    assert cubby("create", copy, "--size", "16M").exit_code == 0
    result = cubby("load", copy, "-", stdin=dump)
    assert (result.exit_code, result.output) == (0, "")
    with cubbydb.open(copy) as store:
        assert dict(store.items()) == PAIRS | pairs
    again = cubby("dump", copy).stdout_bytes
    assert sorted(again.splitlines()) == sorted(dump.splitlines())


def package_index(count: int) -> bytes:
    stanza = b"Package: sample-%d\nVersion: 1.%d\nDescription: x\n y %s\n .\n z\xff\n"
    return b"\n".join(stanza % (number, number, b"y" * (number % 900)) for number in range(count))


def test_a_package_index_comes_back_byte_for_byte(path, tmp_path):
    index = tmp_path / "Packages"
    index.write_bytes(package_index(3000))
    result = cubby("load", path, index, "--format", "deb822", "--verbose")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("loaded 3,000 records, ")
    assert result.stderr.endswith(" records/s\n")
    fields = [json.loads(line) for line in cubby("dump", path).stdout.splitlines()]
    records = {field["k"]: base64.b64decode(field["v_b64"]) for field in fields if "v_b64" in field}
    assert len(records) == 3000
    in_order = [records[f"sample-{number}"] for number in range(3000)]
    assert b"\n".join(in_order) == index.read_bytes()


def test_the_debian_index_comes_back_byte_for_byte(tmp_path):
    try:
        index = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=False).stdout
    except FileNotFoundError:
        index = b""
    if not index:
        pytest.skip("this machine has no Debian package index")
    path = tmp_path / "data.cubby"
    assert cubby("create", path, "--size", "256M").exit_code == 0
    assert cubby("load", path, "-", "--format", "deb822", stdin=index).exit_code == 0
    dump = cubby("dump", path).stdout
    fields = [json.loads(line) for line in dump.splitlines()]
    values = [
        field["v"].encode() if "v" in field else base64.b64decode(field["v_b64"])
        for field in fields
    ]
    stanzas = [stanza.strip(b"\n") + b"\n" for stanza in index.split(b"\n\n") if stanza.strip()]
    assert sorted(values) == sorted(stanzas)
    assert cubby("check", path).output == ""


def test_load_replaces_and_adds(path):
    lines = b'{"k": "key 1", "v": "new"}\n{"k": "more", "v": "new"}\n'
    assert cubby("load", path, "-", stdin=lines).exit_code == 0
    with cubbydb.open(path) as store:
        assert dict(store.items()) == PAIRS | {b"key 1": b"new", b"more": b"new"}


def test_bad_input_is_named_with_its_line_and_what_came_before_is_stored(path, tmp_path):
    good = [b'{"k": "new %d", "v": ""}\n' % number for number in range(BATCH_RECORDS + 5)]
    file = tmp_path / "input.jsonl"
    file.write_bytes(b"".join(good) + b'{"k": "half"\n{"k": "after", "v": ""}\n')
    result = cubby("load", path, file)
    assert failed(result, 2, f"{file}:{len(good) + 1}: not JSON", "1,029 records before it stored")
    with cubbydb.open(path) as store:
        assert len(store) == 100 + len(good)
        assert b"after" not in store


def test_a_store_that_gets_full_ends_the_load_with_exit_code_6(tmp_path):
    path = tmp_path / "small.cubby"
    assert cubby("create", path, "--size", "1M").exit_code == 0
    numbers = random.Random(3)
    lines = [
        b'{"k": "%d", "v_b64": "%s"}\n' % (n, base64.b64encode(numbers.randbytes(900)))
        for n in range(30_000)
    ]
    result = cubby("load", path, "-", stdin=b"".join(lines))
    assert failed(result, 6, "records before it stored")
    assert cubby("check", path).exit_code == 0


def test_load_of_a_file_that_is_not_there_is_an_io_error(path, tmp_path):
    assert failed(cubby("load", path, tmp_path / "none"), 3, "none: No such file or directory")
    assert failed(cubby("load", path, tmp_path), 3, "Is a directory")


# stat and check ----------------------------------------------------------------------------------


def test_stat_as_json_is_one_object_with_every_figure(path):
    result = cubby("stat", path, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    figures = json.loads(result.stdout)
    assert list(figures) == list(cubbydb.StoreStat.__annotations__)
    assert figures["pairs"] == 100
    assert result.stdout.count("\n") == 1


def test_stat_for_people_has_the_main_figures(path):
    result = cubby("stat", path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.search(r"pairs +100\b", result.stdout)
    assert "data.cubby" in result.stdout
    assert "\x1b" not in result.stdout


def test_check_of_a_good_store_says_nothing_in_a_pipe(path):
    result = cubby("check", path)
    assert (result.exit_code, result.output) == (0, "")


def test_check_writes_a_line_per_damage_and_exits_with_4(path, monkeypatch):
    damages = [cubbydb.Damage(17, 3, "wrong checksum"), cubbydb.Damage(40, None, "no owner")]
    monkeypatch.setattr(cubbydb.Store, "check", lambda _: damages)
    result = cubby("check", path)
    assert result.exit_code == 4
    assert result.stdout == "LBA 17, segment 3: wrong checksum\nLBA 40: no owner\n"
    assert result.stderr == ""


def test_a_damaged_store_is_exit_code_4(path):
    value = random.Random(9).randbytes(3000)
    with cubbydb.open(path, "w") as store:
        store[b"damaged"] = value
    content = path.read_bytes()
    path.write_bytes(content.replace(value, bytes(3000)))
    result = cubby("check", path)
    assert result.exit_code == 4
    assert re.fullmatch(r"(LBA [0-9]+(, segment [0-9]+)?: [^\n]+\n)+", result.stdout)
    assert result.stderr == ""
    assert failed(cubby("get", path, "damaged"), 4, "LBA", "b'damaged'")
    dump = cubby("dump", path)
    assert dump.exit_code == 4
    assert "LBA" in dump.stderr


# Durability --------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["power", "process", "none"])
def test_changes_of_the_command_are_there_whatever_they_promised_at_once(path, durability):
    how = ("--durability", durability)
    assert succeeded(cubby("put", path, "a", "1", *how))
    assert succeeded(cubby("put", path, "b", "2", "--ttl", "1h", *how))
    lines = b'{"k": "c", "v": "3"}\n{"k": "d", "v": "4", "expires_ms": 4000000000000}\n'
    assert succeeded(cubby("load", path, "-", *how, stdin=lines))
    assert succeeded(cubby("delete", path, "a", *how))
    assert failed(cubby("delete", path, "a", *how), 1)
    with cubbydb.open(path) as store:
        assert store.stats()["recovered"] == 0
        assert store.get_many([b"a", b"b", b"c", b"d"]) == [None, b"2", b"3", b"4"]


def test_a_durability_that_is_none_is_a_usage_error(path):
    for words in (("put", path, "a", "1"), ("delete", path, "a"), ("load", path, "-")):
        result = cubby(*words, "--durability", "disk")
        assert misused(result, "--durability", "'disk' is not one of", "'power', 'process', 'none'")


# Errors ------------------------------------------------------------------------------------------


def test_every_error_of_the_package_has_its_exit_code():
    codes = {
        errors.NotFound: 1,
        errors.Exists: 2,
        errors.KeyExists: 2,
        errors.ValueDiffers: 2,
        errors.TooLarge: 2,
        errors.ReadOnly: 3,
        errors.Closed: 3,
        errors.Forked: 3,
        errors.DeviceError: 3,
        errors.Poisoned: 3,
        errors.Degraded: 3,
        errors.Corrupt: 4,
        errors.Locked: 5,
        errors.Full: 6,
        errors.PhysicalFull: 6,
        errors.Unplaceable: 6,
        errors.NotAStore: 7,
        errors.FormatVersion: 7,
    }
    assert set(codes) == set(errors.EXCEPTION_OF_STATUS.values()) - {ValueError} | {
        errors.DeviceError
    }
    for exception, code in codes.items():
        assert exit_code(exception(b"text")) == code
    assert exit_code(InputError("text")) == 2
    assert exit_code(KeyboardInterrupt()) == 130
    assert exit_code(OSError(5, "text")) == 3
    assert exit_code(ZeroDivisionError()) == 70


def test_no_base_class_hides_a_subclass_after_it():
    for number, (kind, _) in enumerate(EXIT_CODES):
        assert not any(issubclass(kind, before) for before, _ in EXIT_CODES[:number])


def test_a_sentence_is_one_line():
    error = errors.Full("two\nlines")
    error.add_note("a note")
    assert sentence(error) == "two lines; a note"
    assert sentence(OSError(5, "text")) == "input or output: text"
    assert sentence(MemoryError()) == "out of memory"


@pytest.mark.parametrize(
    "words",
    [
        ["get", "PATH", "key"],
        ["put", "PATH", "key", "value"],
        ["delete", "PATH", "key"],
        ["scan", "PATH"],
        ["dump", "PATH"],
        ["load", "PATH", "-"],
        ["stat", "PATH"],
        ["check", "PATH"],
        ["destroy", "PATH", "--yes"],
    ],
)
def test_a_store_that_cannot_be_opened_is_one_sentence(path, tmp_path, words):
    def words_of(name: Path) -> list[str]:
        return [word.replace("PATH", str(name)) for word in words]

    assert failed(cubby(*words_of(tmp_path / "none")), 3, "none")
    (tmp_path / "letter").write_bytes(b"Dear reader,\n" * 1000)
    assert failed(cubby(*words_of(tmp_path / "letter")), 7, "letter")
    with cubbydb.open(path, "w"):
        assert failed(cubby(*words_of(path)), 5, str(path))


def test_a_device_that_fails_is_exit_code_3(path):
    for fault, words in (("read=1", ["get", "key 1"]), ("write=2", ["put", "key", "value"])):
        result = cubby(words[0], f"fault:{fault}:{path}", *words[1:])
        assert failed(result, 3, str(path))


def test_an_unexpected_exception_is_one_sentence_too(path, monkeypatch):
    monkeypatch.setattr(cubbydb.Store, "stats", lambda _: {}["pairs"])
    assert failed(cubby("stat", path), 70, "internal error: KeyError: 'pairs'", "--debug")
    result = cubby("--debug", "stat", path)
    assert result.exit_code == 70
    assert "Traceback" in result.stderr


def test_usage_errors_are_clicks_own(path):
    for words in ([], ["none"], ["get", path], ["load", path, "-", "--format", "xml"]):
        assert cubby(*words).exit_code == 2


def test_help_and_version_are_there():
    assert "Exit codes:" in cubby("--help").stdout
    assert cubby("--version").stdout == f"cubby, version {cubbydb.__version__}\n"
    for name in main.commands:
        assert cubby(name, "--help").exit_code == 0
    commands = cubby("--help").stdout.partition("Commands:")[2]
    assert "..." not in commands  # how click cuts short what is too long for a line


# Processes, pipes, terminals ---------------------------------------------------------------------


def test_the_command_works_in_a_process_of_its_own(tmp_path):
    path = tmp_path / "data.cubby"
    assert run("create", path, "--size", "8M").returncode == 0
    assert run("put", path, "key", input=b"\x00\xff").returncode == 0
    got = run("get", path, "key")
    assert (got.returncode, got.stdout, got.stderr) == (0, b"\x00\xff", b"")
    missing = run("get", path, "none")
    assert (missing.returncode, missing.stdout) == (1, b"")
    assert missing.stderr == b"cubby: no pair has the key b'none'\n"


def test_a_reader_that_goes_away_ends_the_command_quietly(path):
    with cubbydb.open(path, "w") as store:
        store.put_many((b"%d" % number, bytes(1000)) for number in range(3000))
    for name in ("dump", "scan"):
        with subprocess.Popen(
            command(name, path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/"
        ) as process:
            assert process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 141


def test_an_output_that_is_full_is_an_io_error(path):
    with Path("/dev/full").open("wb") as full:
        for words in (["dump", path], ["get", path, "key 1"], ["stat", path, "--json"]):
            result = run(*words, stdout=full)
            assert result.returncode == 3
            name = b"standard output" if words[0] == "dump" else b"input or output"
            assert result.stderr == b"cubby: " + name + b": No space left on device\n"
        for words in (["--help"], ["--version"], ["dump", "--help"]):
            result = run(*words, stdout=full)
            assert result.returncode == 3
            assert result.stderr == b"cubby: input or output: No space left on device\n"


def interrupted_load(path: Path, lines: int, after: bytes = b"") -> tuple[int, str]:
    """Load lines from a pipe that stays open, send SIGINT when they are stored; what it said."""
    with subprocess.Popen(
        command("load", path, "-"), stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/"
    ) as process:
        for number in range(lines):
            process.stdin.write(b'{"k": "loaded %d", "v": "%s"}\n' % (number, b"v" * 50))
        process.stdin.write(after)
        process.stdin.flush()
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        process.wait(60)
        return process.returncode, process.stderr.read().decode()


@pytest.mark.parametrize("batches", [0, 1, 7])
def test_ctrl_c_in_a_load_says_how_far_it_got_and_leaves_a_good_store(path, batches):
    code, said = interrupted_load(path, batches * BATCH_RECORDS, b'{"k": "not yet", "v": ""}\n')
    stored = batches * BATCH_RECORDS
    assert code == 130
    assert said == (
        f"cubby: interrupted: {stored:,} records stored, up to line {stored:,} of standard input;"
        " the store is good, and loading the same again is safe\n"
    )
    with cubbydb.open(path) as store:
        assert len(store) == 100 + stored
        assert store.stats()["recovered"] == 0
        assert store.check() == []


def test_ctrl_c_at_any_time_of_a_load_counts_what_is_stored(tmp_path):
    file = tmp_path / "input.jsonl"
    lines = (b'{"k": "%d", "v": "%s"}\n' % (n, b"v" * 300) for n in range(200_000))
    file.write_bytes(b"".join(lines))
    path = tmp_path / "data.cubby"
    for delay in (0.3, 0.45, 0.7):
        cubbydb.open(path, "n", size="256M").close()
        process = subprocess.Popen(command("load", path, file), stderr=subprocess.PIPE, cwd="/")
        wait_for_growth(path, process)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1].decode()
        with cubbydb.open(path) as store:
            if process.returncode == 130:
                stored = int(re.search(r"interrupted: ([0-9,]+) records", said)[1].replace(",", ""))
                assert len(store) == stored
            else:
                assert (process.returncode, said, len(store)) == (0, "", 200_000)
            assert store.check() == []


def wait_for_growth(path: Path, process: subprocess.Popen) -> None:
    """Wait until a process has begun to write the store."""
    before = path.stat().st_mtime_ns
    for _ in range(1000):
        if path.stat().st_mtime_ns != before or process.poll() is not None:
            return
        time.sleep(0.005)


def on_a_terminal(*words: str | Path, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    """Run the command with its standard error, and its output if asked, on a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command(*words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=theirs,
        cwd="/",
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    ) as process:
        os.close(theirs)
        out, _ = process.communicate(stdin)
    said = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # how a terminal says that nobody has it any more
            break
        if not piece:
            break
        said += piece
    os.close(ours)
    return process.returncode, out, said


def test_a_terminal_gets_a_progress_bar_and_the_figures(path, tmp_path):
    index = tmp_path / "Packages"
    index.write_bytes(package_index(5000))
    code, out, said = on_a_terminal("load", path, index, "--format", "deb822")
    assert (code, out) == (0, b"")
    assert b"records" in said
    assert b"loaded 5,000 records" in said
    code, out, said = on_a_terminal("load", path, "-", stdin=b'{"k": "a", "v": ""}\n')
    assert (code, out) == (0, b"")
    assert b"loaded 1 record, 1 byte," in said


def test_a_terminal_is_told_what_create_and_check_did(tmp_path):
    path = tmp_path / "data.cubby"
    code, out, said = on_a_terminal("create", path, "--size", "8M")
    assert (code, out) == (0, b"")
    assert b"created" in said
    assert on_a_terminal("check", path)[2] == b"0 pairs, no damage\r\n"


def test_a_terminal_sees_how_far_a_long_check_has_come(path):
    code, out, said = on_a_terminal("check", f"fault:delay=200000:{path}")
    assert (code, out) == (0, b"")
    assert b"check" in said
    assert b"blocks" in said
    assert said.endswith(b"100 pairs, no damage\r\n")


def test_dump_in_a_pipe_with_a_terminal_beside_it_keeps_them_apart(path):
    code, out, said = on_a_terminal("dump", path)
    assert code == 0
    assert read_back(out.decode()) == PAIRS
    assert b'"k"' not in said


INTERRUPTED_WRITES = """
    import signal, sys
    from cubbydb.cli.main import main
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        main(["dump", sys.argv[1], "--sort"])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
"""


def test_a_dump_is_whole_where_output_is_not_buffered_and_writes_are_cut_short(tmp_path):
    path = tmp_path / "data.cubby"
    with cubbydb.open(path, "c", size="16M") as store:
        store.put_many((b"key %d" % number, b"v" * 300_000) for number in range(20))
    expected = cubby("dump", path, "--sort").stdout_bytes
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(INTERRUPTED_WRITES), str(path)],
        stdout=subprocess.PIPE,
        cwd="/",
    )
    chunks = []
    while chunk := os.read(process.stdout.fileno(), 50_000):
        chunks.append(chunk)
        time.sleep(0.002)  # so that the pipe is full when the signals come
    process.stdout.close()
    assert process.wait(60) == 0
    assert b"".join(chunks) == expected
