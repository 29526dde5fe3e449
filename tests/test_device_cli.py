"""cubby device create, info, discard, and how serve refuses; test_nbd.py has what it serves."""

import json
import random
import re
import shutil
import socket
from pathlib import Path

import pytest
from cubby_command import cubby, failed, misused, run, succeeded

import cubbydb
from cubbydb.blockdev import BLOCK_BYTES, BlockDevice, DeviceStat
from cubbydb.cli import device as commands


def noise(blocks: int) -> bytes:
    return random.Random(1).randbytes(blocks * BLOCK_BYTES)


@pytest.fixture
def drive(tmp_path):
    """The name of a drive that holds ten blocks."""
    name = f"csd:{tmp_path}/drive.csd"
    with BlockDevice.create(name, physical="8M") as device:
        device.write(0, noise(10))
    return name


# create ------------------------------------------------------------------------------------------


def test_create_makes_a_drive_without_a_word(tmp_path):
    name = f"csd:{tmp_path}/drive.csd"
    options = ["--physical", "8M", "--logical", "16M", "--unit", "128", "--level", "3"]
    assert succeeded(cubby("device", "create", name, *options, "--no-throttle"))
    with BlockDevice.open(name) as device:
        stat = device.stat()
    assert stat["block_count"] == (16 << 20) // BLOCK_BYTES
    assert (stat["capacity_bytes"], stat["unit_bytes"], stat["level"]) == (8 << 20, 128, 3)


def test_create_leaves_what_is_there_alone_unless_forced(tmp_path, drive):
    assert failed(cubby("device", "create", drive, "--physical", "8M"), 2, "drive.csd", "--force")
    letter = tmp_path / "letter.txt"
    letter.write_bytes(b"Dear reader,\n" * 1000)
    assert failed(cubby("device", "create", f"csd:{letter}"), 2, "letter.txt", "--force")
    assert letter.read_bytes() == b"Dear reader,\n" * 1000
    with BlockDevice.open(drive) as device:
        assert device.usage().logical_bytes == 10 * BLOCK_BYTES
    assert succeeded(cubby("device", "create", drive, "--physical", "8M", "--force"))
    with BlockDevice.open(drive) as device:
        assert device.usage().logical_bytes == 0


def test_create_wants_the_name_of_a_drive(tmp_path):
    path = tmp_path / "file"
    assert misused(cubby("device", "create", path), f"write csd:{path}")
    assert not path.exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--physical", "1M"], "physical"),
        (["--physical", "big"], "'--physical'"),
        (["--physical", "0"], "physical"),
        (["--logical", "5"], "logical"),
        (["--unit", "100"], "unit"),
        (["--unit", "8"], "'--unit'"),
        (["--level", "99"], "level"),
        (["--level", "best"], "'--level'"),
    ],
)
def test_create_with_a_wrong_option_is_a_usage_error_that_names_it(tmp_path, options, text):
    assert misused(cubby("device", "create", f"csd:{tmp_path}/drive.csd", *options), text)


def test_create_where_nothing_can_be_is_an_io_error(tmp_path):
    name = f"csd:{tmp_path}/none/drive.csd"
    assert failed(cubby("device", "create", name), 3, "none/drive.csd", "directory")


# info --------------------------------------------------------------------------------------------


def test_info_as_json_is_one_object_with_every_figure(drive):
    result = cubby("device", "info", drive, "--json")
    assert (result.exit_code, result.stderr, result.stdout.count("\n")) == (0, "", 1)
    figures = json.loads(result.stdout)
    assert list(figures) == ["name", *DeviceStat.__annotations__, "ratio"]
    assert (figures["name"], figures["kind"], figures["source"]) == (drive, "csd", "csd")
    assert (figures["logical_bytes"], figures["host_writes"]) == (10 * BLOCK_BYTES, 10)
    assert 0.9 < figures["ratio"] < 1
    assert 1 < figures["media_write_amplification"] < 3


def test_info_for_people_has_the_main_figures(drive):
    result = cubby("device", "info", drive)
    assert (result.exit_code, result.stderr) == (0, "")
    assert drive in result.stdout.replace("\n", "")
    for row in (
        r"kind +csd",
        r"holds +40\.0 KiB",
        r"of +8\.0 MiB",
        r"ratio +0\.98",
        r"state +normal",
    ):
        assert re.search(row, result.stdout)
    assert re.search(r"blocks written +10\b", result.stdout)
    assert re.search(r"written to the medium per byte +[0-9.]+", result.stdout)
    assert "\x1b" not in result.stdout


def test_info_of_a_file_says_what_is_not_known(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * BLOCK_BYTES))
    result = cubby("device", "info", path)
    assert result.exit_code == 0
    for row in (r"kind +file", r"blocks of 4 KiB +3\b", r"holds +unknown", r"ratio +unknown"):
        assert re.search(row, result.stdout)
    assert "Drive" not in result.stdout


def test_info_writes_nothing(drive):
    path = Path(drive.removeprefix("csd:"))
    before = path.read_bytes()
    assert cubby("device", "info", drive).exit_code == 0
    assert path.read_bytes() == before


def test_a_device_that_cannot_be_opened_is_one_sentence(tmp_path, drive):
    for words in (["info"], ["discard", "--all"]):
        none = tmp_path / "none"
        result = cubby("device", words[0], none, *words[1:])
        assert failed(result, 3, f"{none}: No such file", "cubby device create")
        assert failed(cubby("device", words[0], tmp_path, *words[1:]), 2, "directory")
        with BlockDevice.open(drive):
            assert failed(cubby("device", words[0], drive, *words[1:]), 5, "in use by")
    (tmp_path / "letter").write_bytes(b"Dear reader,\n" * 1000)
    assert failed(cubby("device", "info", f"csd:{tmp_path}/letter"), 2, "letter")


# discard -----------------------------------------------------------------------------------------


def test_discard_of_a_range(drive):
    words = ["device", "discard", drive, "--lba", "2", "--count", "3"]
    assert misused(cubby(*words), "40.0 KiB", "--yes")
    assert succeeded(cubby(*words, "--yes"))
    with BlockDevice.open(drive) as device:
        assert device.read(0, 10) == noise(10)[:8192] + bytes(12288) + noise(10)[20480:]


def test_discard_of_all_wants_a_yes_if_something_is_lost(tmp_path, drive):
    assert misused(cubby("device", "discard", drive, "--all"), "40.0 KiB", "--yes")
    file = tmp_path / "file"
    file.write_bytes(noise(2))
    assert misused(cubby("device", "discard", file, "--all"), "whatever it holds", "--yes")
    assert file.read_bytes() == noise(2)
    assert succeeded(cubby("device", "discard", drive, "--all", "--yes"))
    assert succeeded(cubby("device", "discard", drive, "--all"))
    with BlockDevice.open(drive) as device:
        assert device.usage().logical_bytes == 0
        assert device.read(0, 10) == bytes(10 * BLOCK_BYTES)


def test_discard_in_pieces_reaches_the_last_block(drive, monkeypatch):
    monkeypatch.setattr(commands, "DISCARD_PIECE_BLOCKS", 3)
    assert succeeded(cubby("device", "discard", drive, "--lba", "1", "--count", "8", "--yes"))
    with BlockDevice.open(drive) as device:
        assert device.read(0) + device.read(9) == noise(10)[:4096] + noise(10)[-4096:]
        assert device.read(1, 8) == bytes(8 * BLOCK_BYTES)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--lba", "1"],
        ["--count", "1"],
        ["--lba", "1", "--count", "1", "--all"],
        ["--lba", "-1", "--count", "1"],
        ["--lba", "1", "--count", "0"],
    ],
)
def test_discard_with_a_wrong_range_is_a_usage_error(drive, options):
    assert misused(cubby("device", "discard", drive, *options))


def test_discard_outside_the_device_is_one_sentence(drive):
    for count in ("1", "9999999"):
        result = cubby("device", "discard", drive, "--lba", "8192", "--count", count, "--yes")
        assert misused(result, "has 8192 blocks")
    with BlockDevice.open(drive) as device:
        assert device.read(0, 10) == noise(10)


# serve, before it serves -------------------------------------------------------------------------


def test_serve_without_nbdkit_or_its_plugin_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert failed(cubby("device", "serve", "mem:1M"), 3, "apt-get install nbdkit")
    monkeypatch.setattr(commands, "PLUGIN", "none.so")
    assert failed(
        cubby("device", "serve", "mem:1M"), 3, "nbdkit nbdkit-plugin-dev", "install CubbyDB again"
    )


@pytest.fixture
def ready_to_serve(monkeypatch, tmp_path):
    """As if nbdkit and the plugin were there; returns what would be executed."""
    executed: list[list[str]] = []
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/nbdkit")
    monkeypatch.setattr(commands, "PLUGIN", tmp_path / "plugin.so")
    monkeypatch.setattr(commands.os, "execv", lambda _, words: executed.append(words))
    (tmp_path / "plugin.so").touch()
    return executed


def test_serve_hands_over_to_nbdkit(ready_to_serve, tmp_path):
    assert succeeded(cubby("device", "serve", "mem:1M", "--port", "10999"))
    assert succeeded(cubby("device", "serve", "mem:1M", "--socket", tmp_path / "a b.sock"))
    assert succeeded(cubby("device", "serve", "mem:1M"))
    port, path, default = ready_to_serve
    plugin = str(tmp_path / "plugin.so")
    device = [plugin, "device=mem:1M", "readonly=false"]
    listening = ["--ipaddr=127.0.0.1", "--port=10999"]
    assert port[3:] == [*listening, *device, "ready=nbd://127.0.0.1:10999"]
    socket_path = f"{tmp_path}/a b.sock"
    uri = f"nbd+unix:///?socket={tmp_path}/a%20b.sock"
    assert path[3:] == [f"--unix={socket_path}", *device, f"ready={uri}", f"remove={socket_path}"]
    assert "cubby-" in default[3]


def test_serve_says_what_is_wrong_before_it_begins(ready_to_serve, tmp_path, drive):
    assert failed(cubby("device", "serve", tmp_path / "none"), 3, "none: No such file")
    with BlockDevice.open(drive):
        assert failed(cubby("device", "serve", drive), 5, "in use by")
    assert misused(cubby("device", "serve", drive, "--port", "0"), "'--port'")
    both = ["--port", "1", "--socket", "x"]
    assert misused(cubby("device", "serve", drive, *both), "not both")
    (tmp_path / "letter").touch()
    result = cubby("device", "serve", drive, "--socket", tmp_path / "letter")
    assert misused(result, "is no socket")
    result = cubby("device", "serve", drive, "--socket", tmp_path / ("x" * 120))
    assert misused(result, "at most 107 bytes")
    assert ready_to_serve == []


def test_serve_takes_the_place_of_a_dead_server_only(ready_to_serve, drive, tmp_path):
    path = tmp_path / "nbd.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        result = cubby("device", "serve", drive, "--socket", path)
        assert failed(result, 5, "another server")
    assert path.exists()
    assert succeeded(cubby("device", "serve", drive, "--socket", path))
    assert not path.exists()


# The group ---------------------------------------------------------------------------------------


def test_the_group_has_help_for_every_command():
    assert cubby("device", "--help").exit_code == 0
    assert sorted(commands.device.commands) == ["create", "discard", "estimate", "info", "serve"]
    for name in commands.device.commands:
        assert cubby("device", name, "--help").exit_code == 0


def test_the_commands_work_in_processes_of_their_own(tmp_path):
    name = f"csd:{tmp_path}/drive.csd"
    created = run("device", "create", name, "--physical", "8M")
    assert (created.returncode, created.stdout, created.stderr) == (0, "", "")
    shown = run("device", "info", name)
    assert (shown.returncode, shown.stderr) == (0, "")
    missing = run("device", "info", f"csd:{tmp_path}/none")
    assert (missing.returncode, missing.stdout, missing.stderr.count("\n")) == (3, "", 1)


def test_a_store_lives_on_a_drive(drive):
    with cubbydb.open(drive, "c", force=True) as store:
        store.put_many((b"%d" % number, bytes(400)) for number in range(1000))
    figures = json.loads(cubby("device", "info", drive, "--json").stdout)
    assert figures["ratio"] > 10
    with cubbydb.open(drive) as store:
        assert len(store) == 1000
        assert store.check() == []
