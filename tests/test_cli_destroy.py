"""cubby destroy, what create says that it found, and cubby version, completion, stat --watch."""

import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path
from shutil import which

import pytest
from cubby_command import command, cubby, failed, misused, succeeded
from spare_devices import zram_device

import cubbydb
from cubbydb.blockdev import BlockDevice
from cubbydb.cli import destroy as destroy_module
from cubbydb.cli.destroy import wipe
from cubbydb.cli.signatures import SIGNATURES, found_on, recognise


@pytest.fixture
def path(tmp_path):
    """A store with three pairs."""
    path = tmp_path / "data.cubby"
    with cubbydb.open(path, "c", size="4M") as store:
        store.put_many({b"a": b"1", b"b": b"2", b"\xff": b"\xfe"})
    return path


@pytest.fixture
def drive(tmp_path):
    """The file of an emulated drive."""
    path = tmp_path / "drive.csd"
    BlockDevice.create(f"csd:{path}", physical="4M", logical="16M").close()
    return path


# destroy -----------------------------------------------------------------------------------------


def test_destroy_deletes_a_store(path):
    assert misused(cubby("destroy", path), "all that is in it", "--yes")
    assert path.exists()
    assert succeeded(cubby("destroy", path, "--yes"))
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("prefix", ["", "csd:", "file:"])
def test_destroy_deletes_an_emulated_drive(drive, prefix):
    if prefix == "csd:":
        assert succeeded(cubby("create", f"csd:{drive}", "--size", "1M"))
    assert succeeded(cubby("destroy", f"{prefix}{drive}", "--yes"))
    assert list(drive.parent.iterdir()) == []


def test_destroy_leaves_alone_what_is_none_of_ours(tmp_path, path):
    letter = tmp_path / "letter"
    for content in (b"", b"CUBBYDB\n" * 1000, bytes(8192), bytes(8) + b"CUBBYDB\n"):
        letter.write_bytes(content)
        if content[8:16] == b"CUBBYDB\n" and len(content) >= 4096:
            continue  # as near as a foreign file can come
        assert failed(cubby("destroy", letter, "--yes"), 7, "letter", "left as it is")
        assert letter.read_bytes() == content
    assert failed(cubby("destroy", f"csd:{path}", "--yes"), 7, "no emulated drive")
    assert path.exists()


def test_destroy_of_a_store_in_use_is_refused(path):
    for flag in "rw":
        with cubbydb.open(path, flag):
            assert failed(cubby("destroy", path, "--yes"), 5, str(path))
    assert path.exists()


def test_destroy_takes_a_store_whose_first_superblock_is_damaged(path):
    with path.open("r+b") as file:
        file.write(bytes(4096))
    assert succeeded(cubby("destroy", path, "--yes"))
    assert not path.exists()


def test_destroy_follows_a_link_and_leaves_nothing_to_other_names(tmp_path, path):
    link, other = tmp_path / "link", tmp_path / "other"
    link.symlink_to(path)
    other.hardlink_to(path)
    assert succeeded(cubby("destroy", link, "--yes"))
    assert [each.name for each in tmp_path.iterdir()] == ["other"]
    assert other.read_bytes() == b""


def wiped(device: BlockDevice) -> bool:
    """Whether the superblocks are zeros, and what the other blocks held is gone."""
    rest = [device.read(lba) for lba in range(2, device.block_count)]
    return device.read(0, 2) == bytes(8192) and b"x" * 4096 not in rest


def test_a_wiped_device_holds_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(destroy_module, "DISCARD_PIECE_BLOCKS", 7)
    with BlockDevice.open("mem:256K") as device:
        for lba in range(device.block_count):
            device.write(lba, b"x" * 4096)
        wipe(device)
        assert wiped(device)


def test_a_device_that_takes_no_discards_is_told(monkeypatch, capsys):
    def refuse(*_: object) -> None:
        raise cubbydb.errors.DeviceError(95, "not supported")

    monkeypatch.setattr(BlockDevice, "discard", refuse)
    with BlockDevice.open("mem:256K") as device:
        for lba in range(device.block_count):
            device.write(lba, b"x" * 4096)
        wipe(device)
        assert device.read(0, 2) == bytes(8192)
        assert device.read(2) == b"x" * 4096
    assert "takes no discards" in capsys.readouterr().err


@pytest.mark.device
def test_destroy_wipes_a_block_device_and_create_names_what_is_there(tmp_path):
    with zram_device() as device:
        assert succeeded(cubby("create", device))
        assert succeeded(cubby("put", device, "a", "1"))
        assert misused(cubby("destroy", device), "--yes")
        assert succeeded(cubby("destroy", device, "--yes"))
        with BlockDevice.open(device, read_only=True) as opened:
            assert opened.read(0, opened.block_count) == bytes(16 << 20)
        for program, text in (("mkfs.ext4", "ext4 file system"), ("mkswap", "swap space")):
            if which(program) is None:
                continue
            subprocess.run([program, device], capture_output=True, check=True)
            assert failed(cubby("create", device), 2, "it looks like", text)
            assert failed(cubby("destroy", device, "--yes"), 7, "left as it is")
            assert succeeded(cubby("create", device, "--force"))
            assert succeeded(cubby("destroy", device, "--yes"))


def answered(answer: bytes, *words: str | Path) -> tuple[int, str]:
    """Run the command on a terminal that answers its question."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command(*words), stdin=theirs, stdout=theirs, stderr=theirs, cwd="/", close_fds=True
    ) as process:
        os.close(theirs)
        said = b""
        os.write(ours, answer)
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # how a terminal says that nobody has it any more
                break
            if not piece:
                break
            said += piece
    os.close(ours)
    return process.returncode, said.decode()


def test_destroy_asks_on_a_terminal(path):
    code, said = answered(b"n\n", "destroy", path)
    assert (code, path.exists()) == (130, True)
    assert "Destroy the store" in said
    assert "[y/N]" in said
    assert "cubby: nothing was destroyed" in said
    code, said = answered(b"\x04", "destroy", path)
    assert (code, path.exists()) == (130, True)
    assert "Traceback" not in said
    code, said = answered(b"y\n", "destroy", path)
    assert (code, path.exists()) == (0, False)
    assert "destroyed" in said


# Signatures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("signature", SIGNATURES, ids=[each.name for each in SIGNATURES])
def test_create_names_what_it_leaves_alone(tmp_path, signature):
    content = bytes(signature.offset) + signature.magic
    content += bytes(-len(content) % 4096 + 65536)
    assert recognise(content) == signature.name
    file = tmp_path / "image"
    file.write_bytes(content)
    result = cubby("create", file)
    if b"CUBBYDB" in signature.magic:
        assert result.exit_code != 0
    else:
        assert failed(result, 2, f"it looks like {signature.name};", "--force overwrites")
    assert file.read_bytes() == content


def test_nothing_is_made_up_about_what_is_not_known(tmp_path):
    assert recognise(b"") is None
    assert recognise(b"Dear reader,\n" * 10_000) is None
    (tmp_path / "letter").write_bytes(b"Dear reader,\n" * 1000)
    assert "looks like" not in cubby("create", tmp_path / "letter").stderr
    assert found_on(str(tmp_path / "none")) is None
    assert found_on(str(tmp_path)) is None


@pytest.mark.parametrize(("program", "text"), [("mkfs.ext4", "ext4"), ("mkswap", "swap space")])
def test_what_the_real_tools_make_is_named(tmp_path, program, text):
    found = which(program)
    if found is None:
        pytest.skip(f"there is no {program} here")
    image = tmp_path / "image"
    image.write_bytes(bytes(8 << 20))
    subprocess.run([found, image], capture_output=True, check=True)
    assert failed(cubby("create", image), 2, "it looks like", text, "--force")
    assert succeeded(cubby("create", image, "--force", "--size", "1M"))


def test_a_gpt_is_named_before_the_mbr_that_guards_it():
    content = bytearray(65536)
    content[510:512] = b"\x55\xaa"
    assert recognise(bytes(content)) == "an MBR partition table or a boot sector"
    content[512:520] = b"EFI PART"
    assert recognise(bytes(content)) == "a GPT partition table"


# For machines ------------------------------------------------------------------------------------


def test_version_says_what_this_is():
    facts = json.loads(cubby("version", "--json").stdout)
    assert facts["cubbydb"] == cubbydb.__version__
    assert facts["format_version"] == 1
    assert facts["io_uring"] in (True, False, None)
    assert set(facts) >= {"zstd", "python", "platform", "module"}
    lines = cubby("version").stdout.splitlines()
    assert len(lines) == len(facts)
    assert lines[0].split() == ["cubbydb", cubbydb.__version__]
    assert lines[1].split() == ["format", "version", "1"]


def test_get_scan_and_check_as_json(path):
    assert json.loads(cubby("get", path, "a", "--json").stdout) == {"k": "a", "v": "1"}
    got = cubby("get", path, "ff", "--key-encoding", "hex", "--json")
    assert json.loads(got.stdout) == {"k_b64": "/w==", "v_b64": "/g=="}
    lines = cubby("scan", path, "--keys-only", "--json").stdout.splitlines()
    assert sorted(lines) == ['{"k": "a"}', '{"k": "b"}', '{"k_b64": "/w=="}']
    assert json.loads(cubby("check", path, "--json").stdout) == {"pairs": 3, "damages": []}


def test_check_as_json_has_every_damage(path, monkeypatch):
    damages = [cubbydb.Damage(17, 3, "wrong checksum"), cubbydb.Damage(40, None, "no owner")]
    monkeypatch.setattr(cubbydb.Store, "check", lambda _: damages)
    result = cubby("check", path, "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["damages"] == [
        {"lba": 17, "segment": 3, "text": "wrong checksum"},
        {"lba": 40, "segment": None, "text": "no owner"},
    ]


def test_values_are_given_and_written_as_text(path):
    for encoding, text in (("hex", "00ff"), ("base64", "AP8="), ("escape", r"\x00\xff")):
        option = ["--value-encoding", encoding]
        assert succeeded(cubby("put", path, "one", text, *option))
        assert succeeded(cubby("put", path, "two", *option, stdin=f"{text}\n"))
        for key in ("one", "two"):
            assert cubby("get", path, key, *option).stdout == text
            assert cubby("get", path, key).stdout_bytes == b"\x00\xff"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_that_the_shell_takes(shell):
    script = cubby("completion", shell).stdout
    assert "_CUBBY_COMPLETE" in script
    if which(shell):
        run = subprocess.run(
            [shell, "-n"], input=script, text=True, capture_output=True, check=True
        )
        assert run.stderr == ""


# stat --watch ------------------------------------------------------------------------------------


def test_watch_as_json_tells_rates_and_who_has_the_store(path):
    with subprocess.Popen(
        command("stat", path, "--watch", "0.1", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
    ) as process:
        first = json.loads(process.stdout.readline())
        assert (first["pairs"], first["per_second"]) == (3, None)
        with open_in_a_gap(path) as store:
            store.put_many((b"new %d" % number, b"") for number in range(1000))
            while "locked" not in (look := json.loads(process.stdout.readline())):
                pass
            assert set(look) == {"time", "locked"}
            assert f"process {os.getpid()}" in look["locked"]
        while "pairs" not in (look := json.loads(process.stdout.readline())):
            pass
        while look["pairs"] == 3:
            look = json.loads(process.stdout.readline())
        assert look["pairs"] == 1003
        assert look["per_second"]["pairs"] > 0
        process.send_signal(signal.SIGINT)
        process.wait(60)
        assert (process.returncode, process.stderr.read()) == (0, b"")


def open_in_a_gap(path: Path) -> cubbydb.Store:
    """Open a store to write between two looks at it."""
    for _ in range(1000):
        try:
            return cubbydb.open(path, "w")
        except cubbydb.errors.Locked:
            time.sleep(0.003)
    raise AssertionError("there was no gap")


def test_watch_for_people_shows_what_was_and_who_has_it(path):
    with subprocess.Popen(
        command("stat", path, "--watch", "0.1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        text=True,
    ) as process:
        shown = [process.stdout.readline() for _ in range(30)]
        with open_in_a_gap(path):
            while "as it was at" not in shown[-1]:
                shown.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert any("pairs" in line and "3" in line for line in shown)
