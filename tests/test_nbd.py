"""cubby device serve: the nbdkit plugin, with a client of our own, nbdinfo, and fio."""

import errno
import json
import random
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from cubby_command import command, cubby

from cubbydb import _native, errors
from cubbydb.blockdev import BLOCK_BYTES, BlockDevice

PLUGIN = Path(_native.__file__).parent / "blockdev" / "nbdkit-cubby-plugin.so"
READ, WRITE, DISCONNECT, FLUSH, TRIM, ZERO = 0, 1, 2, 3, 4, 6
FUA, NO_HOLE = 1, 2
IS_READ_ONLY = 2

if shutil.which("nbdkit") is None:
    pytest.skip("nbdkit is not installed (Debian package: nbdkit)", allow_module_level=True)
if not PLUGIN.exists():
    text = "built without the nbdkit plugin (Debian package: nbdkit-plugin-dev)"
    pytest.skip(text, allow_module_level=True)


def tool(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (Debian package: {package})")
    return path


class Client:
    """An NBD client that asks for whatever it likes, in whole blocks or not."""

    def __init__(self, address: str | tuple[str, int]) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self._socket = socket.socket(family)
        self._socket.settimeout(60)
        self._socket.connect(address)
        magic, options, _ = struct.unpack(">8s8sH", self._receive(18))
        assert (magic, options) == (b"NBDMAGIC", b"IHAVEOPT")
        # The export without a name, and no zeros after the answer.
        self._socket.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 1, 0))
        self.size, self.flags = struct.unpack(">QH", self._receive(10))

    def _receive(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            piece = self._socket.recv(size - len(received))
            assert piece, "the server has hung up"
            received += piece
        return received

    def ask(self, kind: int, offset: int, size: int, data: bytes = b"", flags: int = 0) -> int:
        """One request; returns its error, 0 for none.  What was read is in data."""
        request = struct.pack(">IHHQQI", 0x25609513, flags, kind, 7, offset, size)
        self._socket.sendall(request + data)
        magic, error, cookie = struct.unpack(">IIQ", self._receive(16))
        assert (magic, cookie) == (0x67446698, 7)
        self.data = self._receive(size) if kind == READ and not error else b""
        return error

    def read(self, offset: int, size: int) -> bytes:
        assert self.ask(READ, offset, size) == 0
        return self.data

    def write(self, offset: int, data: bytes, flags: int = 0) -> None:
        assert self.ask(WRITE, offset, len(data), data, flags) == 0

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        with self._socket, suppress(OSError):  # the server may be gone
            self._socket.sendall(struct.pack(">IHHQQI", 0x25609513, 0, DISCONNECT, 0, 0, 0))


@contextmanager
def served(name: str, *words: str | Path, ends: int = 0) -> Iterator[tuple[str, subprocess.Popen]]:
    """A device being served: its URI, and the process, which is told to end at last."""
    with subprocess.Popen(
        command("device", "serve", name, *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
    ) as process:
        try:
            uri = process.stdout.readline().strip()
            assert uri, process.stderr.read()
            yield uri, process
        finally:
            process.terminate()
            process.said = process.stderr.read()
    assert process.returncode == ends, process.said


@pytest.fixture
def drive(tmp_path):
    name = f"csd:{tmp_path}/drive.csd"
    BlockDevice.create(name, physical="32M", logical="64M").close()
    return name


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "nbd.sock")


# What it serves ----------------------------------------------------------------------------------


def test_clients_are_told_what_it_is(drive, path):
    nbdinfo = tool("nbdinfo", "libnbd-bin")
    with served(drive, "--socket", path) as (uri, _):
        assert uri == f"nbd+unix:///?socket={path}"
        told = subprocess.run([nbdinfo, "--json", uri], capture_output=True, check=True).stdout
    export = json.loads(told)["exports"][0]
    assert export["export-size"] == 64 << 20
    assert export["block_size_minimum"] == export["block_size_preferred"] == BLOCK_BYTES
    for what in ("can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero"):
        assert export[what] is True
    assert (export["is_read_only"], export["is_rotational"]) == (False, False)


def test_fio_finds_what_it_wrote_and_the_drive_reopens_in_order(drive, path, tmp_path):
    fio = tool("fio", "fio")
    with served(drive, "--socket", path) as (uri, process):
        job = f"""
            [global]
            ioengine=nbd
            uri={uri}
            bs=4k
            size=32M
            verify_state_save=0
            [verified]
            rw=randrw
            verify=crc32c
            do_verify=1
            iodepth=16
            buffer_compress_percentage=50
            buffer_compress_chunk=4k
            refill_buffers=1
            """
        (tmp_path / "job").write_text("\n".join(line.strip() for line in job.splitlines()))
        run = subprocess.run(
            [fio, "--output-format=json", tmp_path / "job"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        if "engine nbd not loadable" in run.stdout + run.stderr:
            pytest.skip("this fio has no NBD engine")
        figures = json.loads(run.stdout[run.stdout.index("{") :])["jobs"][0]
        assert figures["error"] == 0
        written = figures["write"]["total_ios"]
        assert written > 1000
    assert process.said == ""
    with BlockDevice.open(drive, read_only=True) as device:
        usage = device.usage()
        assert usage.physical_bytes > 0
        assert usage.ratio > 1.3
        assert device.stat()["host_writes"] == written  # counted up to the last: it closed in order


def test_parts_of_blocks_are_changed_alone(drive, path):
    numbers = random.Random(1)
    expected = bytearray(numbers.randbytes(64 * 1024))
    with served(drive, "--socket", path), Client(path) as client:
        client.write(0, bytes(expected))
        for _ in range(300):
            offset = numbers.randrange(len(expected))
            data = numbers.randbytes(numbers.randrange(1, min(9000, len(expected) - offset + 1)))
            client.write(offset, data, flags=numbers.choice((0, FUA)))
            expected[offset : offset + len(data)] = data
            offset = numbers.randrange(len(expected))
            size = numbers.randrange(1, min(9000, len(expected) - offset + 1))
            assert client.read(offset, size) == expected[offset : offset + size]
    with BlockDevice.open(drive) as device:
        assert device.read(0, 16) == expected


def test_clients_that_change_parts_of_one_block_do_not_undo_each_other(drive, path):
    def work(number: int) -> None:
        with Client(path) as client:
            for round_number in range(100):
                client.write(number * 512, bytes([round_number]) * 512)

    with served(drive, "--socket", path):
        threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with Client(path) as client:
            assert client.read(0, BLOCK_BYTES) == bytes([99]) * BLOCK_BYTES


def test_trim_and_zero(drive, path):
    data = random.Random(1).randbytes(10 * BLOCK_BYTES)
    with served(drive, "--socket", path), Client(path) as client:
        for kind, flags in ((TRIM, 0), (TRIM, FUA), (ZERO, 0), (ZERO, NO_HOLE), (ZERO, FUA)):
            client.write(0, data)
            assert client.ask(kind, BLOCK_BYTES, 2 * BLOCK_BYTES, flags=flags) == 0
            expected = data[:BLOCK_BYTES] + bytes(2 * BLOCK_BYTES) + data[3 * BLOCK_BYTES :]
            assert client.read(0, len(data)) == expected
            client.write(0, data)
            assert client.ask(kind, 100, BLOCK_BYTES, flags=flags) == 0
            expected = data if kind == TRIM else data[:100] + bytes(BLOCK_BYTES) + data[4196:]
            assert client.read(0, len(data)) == expected
        assert client.ask(TRIM, 0, 64 << 20) == 0
        assert client.ask(FLUSH, 0, 0) == 0
    with BlockDevice.open(drive, read_only=True) as device:
        assert device.usage().logical_bytes == 0


def test_zero_of_a_device_that_forgets_what_was_discarded_writes_zeros(path):
    with served("mem:1M", "--socket", path), Client(path) as client:
        client.write(0, b"x" * 8192)
        assert client.ask(ZERO, 0, 8192) == 0
        assert client.read(0, 8192) == bytes(8192)


def test_what_one_client_wrote_another_reads_and_flushes(drive, path):
    with served(drive, "--socket", path), Client(path) as one, Client(path) as other:
        one.write(4096, b"x" * 4096)
        assert other.read(4096, 4096) == b"x" * 4096
        assert other.ask(FLUSH, 0, 0) == 0


def test_read_only_means_it(drive, path):
    with BlockDevice.open(drive) as device:
        device.write(0, b"x" * BLOCK_BYTES)
    with (
        served(drive, "--socket", path, "--read-only"),
        Client(path) as client,
        BlockDevice.open(drive, read_only=True) as device,
    ):
        assert client.flags & IS_READ_ONLY
        assert client.ask(WRITE, 0, BLOCK_BYTES, bytes(BLOCK_BYTES)) == errno.EPERM
        assert client.ask(TRIM, 0, BLOCK_BYTES) == errno.EPERM
        assert client.read(0, BLOCK_BYTES) == b"x" * BLOCK_BYTES == device.read(0)


def test_a_port_is_served_on_this_machine(drive):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with served(drive, "--port", str(port)) as (uri, _):
        assert uri == f"nbd://127.0.0.1:{port}"
        with Client(("127.0.0.1", port)) as client:
            assert client.size == 64 << 20


# Errors ------------------------------------------------------------------------------------------


def test_a_drive_that_is_full_says_so_to_the_client(tmp_path, path):
    name = f"csd:{tmp_path}/small.csd"
    BlockDevice.create(name, physical="4M", throttle=False).close()
    numbers = random.Random(1)
    with served(name, "--socket", path) as (_, process), Client(path) as client:
        answers = [
            client.ask(WRITE, n << 20, 1 << 20, numbers.randbytes(1 << 20)) for n in range(6)
        ]
        assert answers[0] == 0
        assert answers[-1] == errno.ENOSPC
        assert client.read(0, 100) != bytes(100)
    assert "small.csd is physically full" in process.said


def test_a_damaged_block_is_an_io_error_that_names_it(drive, path):
    file = Path(drive.removeprefix("csd:"))
    data = random.Random(1).randbytes(BLOCK_BYTES)
    with BlockDevice.open(drive) as device:
        device.write(33, data)
    stored = file.read_bytes()
    file.write_bytes(stored.replace(data[:8], b"damaged!"))
    with served(drive, "--socket", path) as (_, process), Client(path) as client:
        assert client.ask(READ, 30 * BLOCK_BYTES, 8 * BLOCK_BYTES) == errno.EIO
        assert client.ask(READ, 33 * BLOCK_BYTES + 5, 1) == errno.EIO
        assert client.read(32 * BLOCK_BYTES, BLOCK_BYTES) == bytes(BLOCK_BYTES)
    assert process.said.count("LBA 33 of") == 2


def test_the_plugin_names_what_is_missing_or_unknown(tmp_path):
    for words, complaint in (
        ([], "which device? say device=NAME"),
        (["device=mem:1M", "color=red"], "unknown parameter color"),
        (["device=mem:1M", "readonly=perhaps"], "perhaps"),
        ([f"device={tmp_path}/none"], "none does not exist"),
        ([f"csd:{tmp_path}/none"], "none does not exist"),
    ):
        run = subprocess.run(
            ["nbdkit", "--foreground", "--unix", "-", PLUGIN, *words],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (run.returncode, run.stdout) == (1, "")
        assert complaint in run.stderr


def test_the_plugin_exports_its_entry_alone():
    nm = tool("nm", "binutils")
    lines = subprocess.check_output([nm, "-D", "--defined-only", PLUGIN], text=True)
    assert [line.split()[-1] for line in lines.splitlines()] == ["plugin_init"]


# The end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_closes_the_device_and_removes_its_socket(drive, path, number):
    with served(drive, "--socket", path) as (_, process):
        with Client(path) as client:
            client.write(0, b"x" * BLOCK_BYTES)
        with pytest.raises(errors.Locked, match=f"in use by process {process.pid}"):
            BlockDevice.open(drive)
        process.send_signal(number)
        assert process.wait(60) == 0
        assert not Path(path).exists()
    assert process.said == ""
    with BlockDevice.open(drive, read_only=True) as device:
        assert device.read(0) == b"x" * BLOCK_BYTES
        assert device.stat()["host_writes"] == 1


def test_killed_it_keeps_what_was_flushed_and_its_socket_is_taken_over(drive, path):
    with (
        served(drive, "--socket", path, ends=-signal.SIGKILL) as (_, process),
        Client(path) as client,
    ):
        client.write(0, b"x" * BLOCK_BYTES)
        assert client.ask(FLUSH, 0, 0) == 0
        process.kill()
        process.wait(60)
    assert Path(path).exists()
    with served(drive, "--socket", path), Client(path) as client:
        assert client.read(0, BLOCK_BYTES) == b"x" * BLOCK_BYTES


def test_a_device_that_is_served_is_locked(drive, path, tmp_path):
    with served(drive, "--socket", path) as (_, process):
        result = cubby("device", "serve", drive, "--socket", tmp_path / "other.sock")
        assert result.exit_code == 5
        assert str(process.pid) in result.stderr
