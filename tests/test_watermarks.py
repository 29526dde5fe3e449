"""Physical space from Python: its options, its figures, and what the command says of it.

What the marks do is tested in tests/c/test_store_watermarks.c, on a device that tells any usage.
"""

import json
import re
from typing import cast

import pytest
from click.testing import CliRunner, Result

import cubbydb
from cubbydb.cli.main import main
from cubbydb.cli.report import warn_of_space

GIB = 1 << 30


@pytest.fixture
def path(tmp_path):
    with cubbydb.open(tmp_path / "data.cubby", "c", size="1M") as store:
        store[b"key"] = b"value" * 1000
    return tmp_path / "data.cubby"


def cubby(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"warn_percent": 0}, "warn_percent is 1 to 100, or 101 for never, not 0"),
        ({"warn_percent": -1}, "warn_percent is 1 to 100"),
        ({"read_delete_percent": 102}, "read_delete_percent is 1 to 100"),
        ({"warn_percent": 93}, "no_growth_percent is 92, below the mark before it, 93"),
        ({"no_growth_percent": 80}, "no_growth_percent is 80, below the mark before it, 85"),
        ({"read_delete_percent": 91}, "read_delete_percent is 91, below"),
        ({"no_growth_percent": 99, "read_delete_percent": 98}, "is 98, below"),
    ],
)
def test_marks_that_cannot_be_are_value_errors(tmp_path, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        cubbydb.open(tmp_path / "data.cubby", "c", **options)
    assert not (tmp_path / "data.cubby").exists()


def test_marks_of_a_wrong_type_are_type_errors():
    for wrong in (92.0, "92", True):
        with pytest.raises(TypeError, match="no_growth_percent is an int"):
            cubbydb.StoreOptions(no_growth_percent=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("percents", [(1, 1, 1), (50, 60, 100), (101, 101, 101), (85, 101, 101)])
def test_marks_reach_the_store(path, percents):
    warn, no_growth, read_delete = percents
    with cubbydb.open(
        path,
        "w",
        warn_percent=warn,
        no_growth_percent=no_growth,
        read_delete_percent=read_delete,
    ) as store:
        store[b"more"] = b"value"


def test_a_file_tells_its_blocks_and_has_no_marks(path):
    with cubbydb.open(path, "w", warn_percent=1, no_growth_percent=1, read_delete_percent=1) as it:
        it[b"more"] = b"value" * 100_000
        stat = it.stats()
    assert stat["device_source"] == "st_blocks"
    assert stat["device_logical_bytes"] == 0
    assert 500_000 < stat["device_physical_bytes"] < stat["device_capacity_bytes"]
    assert (stat["device_compresses"], stat["space_mark"]) == (0, 0)


def test_memory_tells_what_is_written():
    with cubbydb.open("mem:16M", "c") as store:
        store[b"key"] = b"value" * 1000
        stat = store.stats()
    assert (stat["device_source"], stat["space_mark"]) == ("memory", 0)
    assert stat["device_logical_bytes"] == stat["device_physical_bytes"] > 5000
    assert stat["device_capacity_bytes"] == 16 << 20


def test_stat_for_people_shows_the_device(path, monkeypatch):
    result = cubby("stat", path)
    assert result.stderr == ""
    assert "before compression" in result.stdout
    assert re.search(r"told by +st_blocks", result.stdout)
    assert "ratio" not in result.stdout
    with cubbydb.open(path) as store:
        figures = store.stats()
    figures.update(
        device_logical_bytes=3 * GIB,
        device_physical_bytes=GIB,
        device_capacity_bytes=2 * GIB,
        device_source="zram",
    )
    monkeypatch.setattr(cubbydb.Store, "stats", lambda _: figures)
    lines = [line.split() for line in cubby("stat", path).stdout.splitlines()]
    assert ["before", "compression", "3.0", "GiB"] in lines
    assert ["physically", "used", "1.0", "GiB"] in lines
    assert ["physical", "capacity", "2.0", "GiB"] in lines
    assert ["ratio", "3.00"] in lines
    assert ["told", "by", "zram"] in lines


def test_a_device_that_gets_full_is_one_line_on_standard_error(path, tmp_path, monkeypatch):
    with cubbydb.open(path) as store:
        figures = store.stats()
    figures.update(device_physical_bytes=93, device_capacity_bytes=100, space_mark=2)
    figures["device_source"] = "csd"
    monkeypatch.setattr(cubbydb.Store, "stats", lambda _: figures)
    (tmp_path / "one.jsonl").write_text('{"k": "a", "v": "b"}\n')
    for words in (
        ["create", tmp_path / "other.cubby", "--size", "1M"],
        ["load", path, tmp_path / "one.jsonl"],
        ["put", path, "key", "value"],
        ["stat", path, "--json"],
    ):
        result = cubby(*words)
        assert result.exit_code == 0
        assert result.stderr == (
            f"cubby: {words[1]}: 93.0 % of the device's physical space are used (csd):"
            " no pair may be added or grow\n"
        )
    assert json.loads(result.stdout)["space_mark"] == 2


def test_a_device_with_room_is_not_mentioned(capsys):
    warn_of_space("data.cubby", cast(cubbydb.StoreStat, {"space_mark": 0}))
    assert capsys.readouterr().err == ""
