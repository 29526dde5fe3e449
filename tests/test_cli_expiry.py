"""Pairs that expire on the command line: put and load with --ttl, dump and load, compact."""

import json
import re
import time
from types import SimpleNamespace

import pytest
from cubby_command import cubby, run, succeeded
from test_cli import on_a_terminal

import cubbydb
from cubbydb.cli.formats import OUTPUT_FORMATS

LATER = 4_000_000_000_000  # milliseconds since 1970
PAIRS = {
    b"never": (b"1", None),
    b"later": (b"2", LATER + 123),
    b"\xff": (b"\xfe", 2**64 - 2),
    b"big": (bytes(70_000), LATER),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "store"
    with cubbydb.open(path, "n", size="16M") as store:
        for key, (value, expires_ms) in PAIRS.items():
            store.put_until(key, value, expires_ms)
        store.put_until(b"past", b"3", 1)
    return path


@pytest.fixture
def empty(tmp_path):
    path = tmp_path / "empty"
    cubbydb.open(path, "n", size="16M").close()
    return path


def pairs_of(path) -> dict[bytes, tuple[bytes, int | None]]:
    with cubbydb.open(path) as store, store.scan() as scan:
        return {key: (value, scan.expires_ms) for key, value in scan}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("12h", 43_200), ("7d", 604_800), ("1.5h", 5400)],
)
def test_put_takes_a_time_to_live(empty, text, seconds):
    assert succeeded(cubby("put", empty, "key", "value", "--ttl", text))
    with cubbydb.open(empty) as store:
        assert seconds - 60 < store.ttl(b"key") <= seconds
    assert cubby("get", empty, "key").stdout == "value"
    assert succeeded(cubby("put", empty, "key", "value"))
    with cubbydb.open(empty) as store:
        assert store.ttl(b"key") is None


def test_what_has_expired_is_there_for_no_command(path):
    assert cubby("get", path, "past").exit_code == 1
    assert cubby("delete", path, "past").exit_code == 1
    assert "past" not in cubby("scan", path).stdout
    assert "past" not in cubby("scan", path, "--keys-only").stdout
    assert "past" not in cubby("dump", path).stdout
    assert cubby("check", path).exit_code == 0


def test_scan_and_dump_write_when_a_pair_expires(path):
    lines = cubby("scan", path, "--prefix", "later").stdout
    assert json.loads(lines) == {"k": "later", "v": "2", "expires_ms": LATER + 123}
    dumped = list(map(json.loads, cubby("dump", path).stdout.splitlines()))
    assert {line.get("k"): line.get("expires_ms") for line in dumped} == {
        "never": None,
        "later": LATER + 123,
        "big": LATER,
        None: 2**64 - 2,
    }


@pytest.mark.parametrize("sort", [[], ["--sort"]])
def test_dump_load_dump_keeps_every_expiry(path, empty, sort):
    dump = cubby("dump", path, *sort)
    assert (dump.exit_code, dump.stderr) == (0, "")
    assert succeeded(cubby("load", empty, "-", stdin=dump.stdout_bytes))
    assert pairs_of(empty) == PAIRS
    in_order = cubby("dump", path, "--sort").stdout_bytes
    assert cubby("dump", empty, "--sort").stdout_bytes == in_order


@pytest.mark.parametrize("name", [name for name in OUTPUT_FORMATS if name != "jsonl"])
def test_a_format_without_a_place_for_expiries_says_how_many_it_loses(path, name):
    encodings = [] if name == "mdb" else ["--key-encoding", "hex", "--value-encoding", "hex"]
    result = cubby("dump", path, "--format", name, *encodings)
    assert result.exit_code == 0
    assert result.stderr == (
        "cubby: 3 pairs will not expire where this is loaded:"
        f" {name} has no place for it, jsonl has\n"
    )


def test_a_dump_survives_a_pair_that_expires_meanwhile(path, monkeypatch):
    def without_later(store, keys):
        return [None if key == b"later" else store[key] for key in keys]

    monkeypatch.setattr(cubbydb.Store, "get_many", without_later)
    result = cubby("dump", path, "--sort")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == len(PAIRS) - 1


def test_load_leaves_out_what_has_expired_and_tells_how_many(empty):
    lines = [
        '{"k": "a", "v": "1", "expires_ms": 5}',
        '{"k": "b", "v": "2"}',
        f'{{"expires_ms": {LATER}, "v": "3", "k": "c"}}',
        '{"k": "a", "v": "4"}',
        f'{{"k": "a", "v": "5", "expires_ms": {LATER + 1}}}',
        '{"k": "d", "v": "6", "expires_ms": 1}',
    ]
    result = cubby("load", empty, "-", "-v", stdin="\n".join(lines))
    assert result.exit_code == 0
    said = result.stderr.splitlines()
    assert said[0] == "cubby: 2 records have expired, left out"
    assert said[1].startswith("loaded 4 records, 8 bytes, ")
    assert pairs_of(empty) == {b"a": (b"5", LATER + 1), b"b": (b"2", None), b"c": (b"3", LATER)}
    result = cubby("load", empty, "-", stdin=lines[0])
    assert result.stderr == "cubby: 1 record has expired, left out\n"


def test_load_gives_a_time_to_live_to_what_has_none(empty):
    lines = f'{{"k": "a", "v": "1"}}\n{{"k": "b", "v": "2", "expires_ms": {LATER}}}\n'
    before = time.time()
    assert succeeded(cubby("load", empty, "-", "--ttl", "1h", stdin=lines))
    loaded = pairs_of(empty)
    assert loaded[b"b"] == (b"2", LATER)
    assert before + 3600 <= loaded[b"a"][1] / 1000 + 0.001 <= time.time() + 3601
    table = "key,value\nc,3\n"
    assert succeeded(cubby("load", empty, "-", "--ttl", "7d", "--format", "csv", stdin=table))
    assert pairs_of(empty)[b"c"][1] > loaded[b"a"][1]


# Compaction --------------------------------------------------------------------------------------


def fill_with_remains(path) -> int:
    """Put pairs of which a third has expired by the end; returns the number of segments."""
    with cubbydb.open(path, "w") as store:
        store.put_many({b"%d" % number: bytes(400) for number in range(2000, 6000)})
        for seconds in (1, 4, 16):  # what expires before it is written to its place leaves nothing
            begin = time.time()
            store.put_many({b"%d" % number: bytes(400) for number in range(2000)}, ttl=seconds)
            end = time.time() + seconds
            assert len(store) > 4000  # which has all of them written to their places
            if time.time() < begin + seconds:
                break
        while store.step():  # a split that is owed would add a segment
            pass
        segments = store.stats()["segments"]
    time.sleep(max(end - time.time() + 0.01, 0))
    return segments


def test_compact_does_it_and_says_what(path, monkeypatch):
    segments = fill_with_remains(path)
    kept = pairs_of(path)
    monkeypatch.setattr("cubbydb.engine.session.time", SimpleNamespace(time_ns=lambda: 0))
    with cubbydb.open(path, "w") as store:
        store.put(b"old", bytes(9000), ttl=1)
        pairs = len(store)
    result = cubby("compact", path, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    done = json.loads(result.stdout)
    assert done["segments"] == segments
    assert done["dropped_pairs"] == pairs - len(kept)
    assert 0 < done["rebuilt"] <= segments
    assert done["freed_bytes"] > 2**16
    assert pairs_of(path) == kept
    assert succeeded(cubby("check", path))
    assert json.loads(cubby("compact", path, "--json").stdout) == {
        "segments": segments,
        "rebuilt": 0,
        "dropped_pairs": 0,
        "freed_bytes": 0,
    }
    assert succeeded(cubby("compact", path))


def test_compact_shows_a_person_what_it_has_done(path):
    fill_with_remains(path)
    code, out, err = on_a_terminal("compact", path)
    assert (code, out) == (0, b"")
    done = r"[\d,]+ expired pairs dropped, \d+ of \d+ segments rewritten, [\d.]+ [KM]iB given back"
    assert re.search(done, err.decode()), err.decode()[-200:]


def test_compact_needs_the_store_for_itself(path):
    with cubbydb.open(path, "w"):
        result = run("compact", path)
    assert result.returncode == 5
    assert result.stderr.startswith("cubby: ")


def test_ctrl_c_ends_a_compaction_in_one_sentence(path, monkeypatch):
    def interrupted(_store, progress):
        progress(3, 7)
        raise KeyboardInterrupt

    monkeypatch.setattr(cubbydb.Store, "compact", interrupted)
    result = cubby("compact", path)
    assert result.exit_code == 130
    assert result.stderr == "cubby: interrupted: 3 of 1 segment looked at\n"
