"""BlockDevice: what every kind promises, errors, threads, forks, and reading in batches."""

import mmap
import os
import random
import sys
import threading
from array import array
from pathlib import Path

import pytest
from cubby_command import python

from cubbydb import blockdev, errors
from cubbydb._native import ffi, lib
from cubbydb.blockdev import BLOCK_BYTES, BlockDevice, DeviceStat, Usage, stored_bytes
from cubbydb.blockdev.batch_reader import BATCH_BLOCKS, BatchReader
from cubbydb.blockdev.sizes import size_in_bytes

KINDS = ("mem", "file", "csd")
BLOCKS = 2048  # of every device here


def content(blocks: int, seed: int = 1) -> bytes:
    """Blocks that compress, but not away."""
    numbers = random.Random(seed)
    return b"".join(numbers.randbytes(1000).ljust(BLOCK_BYTES, b"-") for _ in range(blocks))


def make(kind: str, folder: Path) -> BlockDevice:
    """A new, empty device of BLOCKS blocks."""
    if kind == "mem":
        return BlockDevice.open("mem:8M")
    if kind == "csd":
        return BlockDevice.create(f"csd:{folder}/drive.csd", physical="8M", logical="8M")
    device = BlockDevice.open(folder / "blocks", create=True)
    device.resize(BLOCKS)
    return device


@pytest.fixture(params=KINDS)
def device(request, tmp_path):
    with make(request.param, tmp_path) as device:
        yield device


# What every kind promises ------------------------------------------------------------------------


def test_what_was_written_is_read(device):
    data = content(10)
    device.write(7, data)
    assert device.read(7, 10) == data
    assert device.read(9) == data[2 * BLOCK_BYTES : 3 * BLOCK_BYTES]
    assert device.read(6, 1) == bytes(BLOCK_BYTES)
    assert device.read(17, 2) == bytes(2 * BLOCK_BYTES)
    device.write(8, bytes(BLOCK_BYTES))
    assert device.read(7, 3) == data[:BLOCK_BYTES] + bytes(BLOCK_BYTES) + data[8192 : 8192 + 4096]
    device.flush()


def test_more_than_a_piece_of_unaligned_memory_goes_through(device):
    data = content(700)
    for shift in (0, 1, 1000):
        device.write(100, memoryview(bytes(shift) + data)[shift:])
        assert device.read(100, 700) == data
        back = bytearray(shift + len(data))
        device.read_into(100, memoryview(back)[shift:])
        assert back[shift:] == data


def test_aligned_memory_is_used_in_place(device):
    data = content(3)
    with mmap.mmap(-1, len(data)) as memory:
        memory[:] = data
        device.write(5, memory)
        memory[:] = bytes(len(data))
        device.read_into(5, memory)
        assert memory[:] == data


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: array("I", data)])
def test_any_buffer_may_be_written(device, kind):
    data = content(2)
    device.write(0, kind(data))
    assert device.read(0, 2) == data


def test_buffers_that_are_no_blocks_are_refused(device):
    for size in (0, 1, BLOCK_BYTES - 1, BLOCK_BYTES + 1):
        with pytest.raises(ValueError, match=f"4,096 bytes each; {size:,} bytes"):
            device.write(0, bytes(size))
        with pytest.raises(ValueError, match="4,096"):
            device.read_into(0, bytearray(size))
    with pytest.raises(TypeError):
        device.write(0, "x" * BLOCK_BYTES)
    with pytest.raises(BufferError):
        device.read_into(0, bytes(BLOCK_BYTES))
    assert device.read(0) == bytes(BLOCK_BYTES)


def test_outside_the_device_is_a_value_error_that_says_so(device):
    block = content(1)
    assert device.block_count == BLOCKS
    for lba, count in ((BLOCKS, 1), (BLOCKS - 1, 2), (BLOCKS + 5, 1), (0, BLOCKS + 1)):
        for call in (
            lambda lba=lba, count=count: device.read(lba, count),
            lambda lba=lba, count=count: device.write(lba, block * count),
            lambda lba=lba, count=count: device.discard(lba, count),
        ):
            with pytest.raises(ValueError, match=r"has 2048 blocks; (read|writ|discard)ing LBAs? "):
                call()
    for lba in (-1, 1 << 52, 1 << 64):
        with pytest.raises(ValueError, match="lba is 0 or more"):
            device.read(lba)
    for call in (lambda: device.read(0, 0), lambda: device.discard(0, 0)):
        with pytest.raises(ValueError, match="at least one block"):
            call()
    with pytest.raises(TypeError):
        device.read(1.5)
    device.write(BLOCKS - 1, block)
    assert device.read(BLOCKS - 1) == block


def test_discarded_blocks_may_be_written_again(device):
    data = content(20)
    device.write(0, data)
    device.discard(5, 10)
    assert device.read(0, 5) == data[: 5 * BLOCK_BYTES]
    assert device.read(15, 5) == data[15 * BLOCK_BYTES :]
    device.write(5, data[: 10 * BLOCK_BYTES])
    assert device.read(5, 10) == data[: 10 * BLOCK_BYTES]


def test_single_blocks_are_read_in_the_order_asked_for(device):
    data = content(300)
    device.write(0, data)
    lbas = random.Random(3).choices(range(300), k=500)
    expected = [data[lba * BLOCK_BYTES : (lba + 1) * BLOCK_BYTES] for lba in lbas]
    assert device.read_many(lbas) == expected
    assert device.read_many(iter(lbas[:2])) == expected[:2]
    assert device.read_many([]) == []
    with pytest.raises(ValueError, match="is outside"):
        device.read_many([0, BLOCKS])


def test_stat_has_every_figure(device):
    stat = device.stat()
    assert list(stat) == list(DeviceStat.__annotations__)
    assert stat["kind"] == device.kind
    assert stat["block_count"] == BLOCKS
    assert stat["space_state"] == "normal"
    assert stat["media_write_amplification"] is None


def test_usage_follows_what_is_written(device):
    before = device.usage()
    device.write(0, content(200))
    device.flush()
    after = device.usage()
    assert after.physical_bytes > before.physical_bytes
    assert after.source == {"memory": "memory", "file": "st_blocks", "csd": "csd"}[device.kind]
    if device.kind == "csd":
        assert after.logical_bytes == 200 * BLOCK_BYTES
        assert after.capacity_bytes == 8 << 20
        assert 3 < after.ratio < 4.1
    if device.kind == "file":
        assert (after.logical_bytes, after.ratio) == (0, None)


def test_a_closed_device_says_so(device):
    device.write(0, content(1))
    assert "read-write" in repr(device)
    device.close()
    device.close()
    assert device.closed
    assert "closed" in repr(device)
    for call in (
        lambda: device.read(0),
        lambda: device.read_into(0, bytearray(BLOCK_BYTES)),
        lambda: device.read_many([0]),
        lambda: device.write(0, bytes(BLOCK_BYTES)),
        lambda: device.discard(0, 1),
        lambda: device.flush(),
        lambda: device.resize(1),
        lambda: device.usage(),
        lambda: device.stat(),
        lambda: device.block_count,
        lambda: device.kind,
    ):
        with pytest.raises(errors.Closed, match="has been closed"):
            call()


def test_threads_share_a_device_until_it_is_closed_under_them(device):
    failures: list[BaseException] = []
    done = [0] * 4

    def work(number: int) -> None:
        data = content(8, seed=number)
        try:
            while True:
                device.write(number * 8, data)
                assert device.read(number * 8, 8) == data
                done[number] += 1
        except errors.Closed:
            pass
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    while min(done) < 20 and not failures:
        pass
    device.close()
    for thread in threads:
        thread.join(60)
    assert failures == []


# Kinds apart -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["file", "csd"])
def test_what_was_written_is_there_after_reopening(tmp_path, kind):
    data = content(50)
    with make(kind, tmp_path) as device:
        name = device.name
        device.write(11, data)
    with BlockDevice.open(name, read_only=True) as device:
        assert device.read_only
        assert device.read(11, 50) == data
        for call in (
            lambda: device.write(0, bytes(BLOCK_BYTES)),
            lambda: device.discard(0, 1),
        ):
            with pytest.raises(errors.ReadOnly, match=f"{name} is open for reading only"):
                call()
    if kind == "file":
        with BlockDevice.open(name, read_only=True) as device, pytest.raises(errors.ReadOnly):
            device.resize(1)
        with BlockDevice.open(f"file:{name}") as device:
            assert device.read_many([11]) == [data[:BLOCK_BYTES]]


def test_only_a_file_is_resized(tmp_path):
    with make("file", tmp_path) as device:
        device.write(0, content(2))
        device.resize(1)
        assert device.block_count == 1
        device.resize(3)
        assert device.read(0, 3) == content(2)[:BLOCK_BYTES] + bytes(2 * BLOCK_BYTES)
    for kind in ("mem", "csd"):
        with (
            make(kind, tmp_path) as device,
            pytest.raises(ValueError, match="only the size of a file can be changed"),
        ):
            device.resize(1)


def test_a_device_is_made_on_request_only(tmp_path):
    for name in (f"{tmp_path}/none", f"csd:{tmp_path}/none"):
        with pytest.raises(errors.DeviceError, match="none") as caught:
            BlockDevice.open(name)
        assert caught.value.errno == 2
    assert list(tmp_path.iterdir()) == []
    with BlockDevice.open(tmp_path / "new", create=True) as device:
        assert (device.block_count, device.kind) == (0, "file")
    with BlockDevice.open(f"csd:{tmp_path}/new.csd", create=True) as device:
        stat = device.stat()
        assert (device.kind, stat["unit_bytes"], stat["level"]) == ("csd", 64, 1)
        assert stat["block_count"] > 4 * BLOCKS


def test_a_drive_is_made_as_wanted(tmp_path):
    name = f"csd:{tmp_path}/drive.csd"
    with BlockDevice.create(
        name, physical=16 << 20, logical="32M", unit=512, level=3, throttle=False
    ) as device:
        stat = device.stat()
        assert stat["capacity_bytes"] == 16 << 20
        assert stat["block_count"] == (32 << 20) // BLOCK_BYTES
        assert (stat["unit_bytes"], stat["level"], stat["compresses"]) == (512, 3, 1)
        device.write(0, content(1))
        assert device.usage().physical_bytes % 512 == 0
    with pytest.raises(errors.Exists, match=r"drive\.csd"):
        BlockDevice.create(name)
    with BlockDevice.open(name) as device:
        assert device.read(0) == content(1)
    with BlockDevice.create(name, physical="8M", force=True) as device:
        assert device.usage().logical_bytes == 0
        assert device.block_count == 4 * BLOCKS


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"physical": "1M"}, "physical"),
        ({"physical": 0}, "physical"),
        ({"physical": "much"}, "much"),
        ({"logical": -1}, "logical"),
        ({"unit": 100}, "unit"),
        ({"unit": 0}, "unit"),
        ({"unit": 8192}, "unit"),
        ({"level": 99}, "level"),
    ],
)
def test_a_drive_that_cannot_be_made_names_the_option(tmp_path, settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        BlockDevice.create(f"csd:{tmp_path}/drive.csd", **settings)
    assert [path for path in tmp_path.iterdir() if path.stat().st_size] == []


@pytest.mark.parametrize(
    "name", ["", "a\0b", "mem:", "mem:5", "fault:read=x:mem:1M", "/tmp", "csd:"]
)
def test_a_name_that_means_nothing_is_a_value_error(name):
    with pytest.raises(ValueError, match=r"\w"):
        BlockDevice.open(name)


def test_create_is_for_drives(tmp_path):
    for name in (tmp_path / "file", "mem:8M"):
        with pytest.raises(ValueError, match="csd:"):
            BlockDevice.create(name)


def test_counters_of_a_drive_count(tmp_path):
    with make("csd", tmp_path) as device:
        device.write(0, content(10))
        device.write(20, bytes(3 * BLOCK_BYTES))
        device.write(30, random.Random(1).randbytes(2 * BLOCK_BYTES))
        device.read(0, 4)
        device.discard(0, 5)
        device.flush()
        stat = device.stat()
    assert (stat["host_writes"], stat["zero_writes"], stat["raw_writes"]) == (15, 3, 2)
    assert (stat["host_reads"], stat["host_discards"]) == (4, 5)
    assert stat["logical_bytes"] == 7 * BLOCK_BYTES
    assert stat["media_write_amplification"] == stat["media_writes"] / (15 * BLOCK_BYTES)


def test_a_drive_that_is_full_refuses_and_takes_again_after_a_discard(tmp_path):
    numbers = random.Random(1)
    name = f"csd:{tmp_path}/drive.csd"
    with BlockDevice.create(name, physical="4M", logical="16M", throttle=False) as device:
        blocks = [numbers.randbytes(BLOCK_BYTES) for _ in range(1024)]
        with pytest.raises(errors.PhysicalFull, match=r"drive\.csd is physically full: .* LBA"):
            device.write(0, b"".join(blocks))
        usage = device.usage()
        assert usage.state == "rejecting"
        assert usage.physical_bytes <= usage.capacity_bytes == 4 << 20
        device.discard(0, 512)
        device.write(0, blocks[0])
        assert device.usage().state != "rejecting"


# Errors ------------------------------------------------------------------------------------------


def test_a_device_that_fails_is_an_error_that_names_place_and_reason():
    with BlockDevice.open("fault:read=1:mem:1M") as device:
        with pytest.raises(errors.DeviceError, match="reading LBAs 3 to 6: Input/output") as caught:
            device.read(3, 4)
        assert caught.value.errno == 5
    with (
        BlockDevice.open("fault:write=1:mem:1M") as device,
        pytest.raises(errors.DeviceError, match="writing LBA 3: Input/output error"),
    ):
        device.write(3, bytes(BLOCK_BYTES))
    with (
        BlockDevice.open("fault:flush=1:mem:1M") as device,
        pytest.raises(errors.DeviceError, match="flushing: Input/output error"),
    ):
        device.flush()


def test_a_damaged_block_is_named(tmp_path):
    file = tmp_path / "drive.csd"
    numbers = random.Random(1)
    data = [numbers.randbytes(2000).ljust(BLOCK_BYTES, b"\0") for _ in range(100)]
    with BlockDevice.create(f"csd:{file}", physical="8M") as device:
        device.write(40, b"".join(data))
    stored = file.read_bytes()
    place = stored.index(data[37][500:1500])  # what zstd leaves as it is
    file.write_bytes(stored[:place] + b"damage" + stored[place + 6 :])
    with BlockDevice.open(f"csd:{file}") as device:
        for lba, count in ((77, 1), (40, 100), (77, 20), (70, 8)):
            with pytest.raises(errors.Corrupt, match=r"LBA 77 of csd:.*drive\.csd is damaged"):
                device.read(lba, count)
        assert device.read(40, 37) == b"".join(data[:37])
        assert device.read(78, 62) == b"".join(data[38:])
        device.write(77, data[37])
        assert device.read(40, 100) == b"".join(data)


def test_a_device_is_locked_as_a_store_is(tmp_path):
    with make("csd", tmp_path) as device:
        name = device.name
        for read_only in (False, True):
            with pytest.raises(errors.Locked, match=r"drive\.csd is in use by this process"):
                BlockDevice.open(name, read_only=read_only)
        run = python(
            """
            import sys
            from cubbydb.blockdev import BlockDevice
            from cubbydb.errors import Locked
            try:
                BlockDevice.open(sys.argv[1])
            except Locked as error:
                print(error)
            """,
            name,
            cwd=tmp_path,
        )
        assert run.stdout == f"{tmp_path}/drive.csd is in use by process {os.getpid()}\n"
    with BlockDevice.open(name, read_only=True), BlockDevice.open(name, read_only=True):
        pass


def test_a_forked_child_is_refused_and_leaves_the_device_alone(tmp_path):
    run = python(
        """
        import os, sys
        from cubbydb import errors
        from cubbydb.blockdev import BlockDevice
        name = "csd:" + sys.argv[1]
        device = BlockDevice.create(name, physical="8M")
        block = b"x" * 4096
        device.write(0, block)
        child = os.fork()
        if child == 0:
            calls = [lambda: device.read(0), lambda: device.write(0, block), device.flush,
                     device.stat, lambda: device.discard(0, 1), lambda: device.read_many([0])]
            for call in calls:
                try:
                    call()
                except errors.Forked:
                    continue
                os._exit(2)
            device.close()
            device.close()
            try:
                BlockDevice.open(name)
            except errors.Locked:
                os._exit(0)
            os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        if os.fork() == 0:
            sys.exit()
        os.wait()
        device.write(1, block)
        device.close()
        with BlockDevice.open(name) as device:
            assert device.read(0, 2) == 2 * block
        print("good")
        """,
        tmp_path / "drive.csd",
        cwd=tmp_path,
    )
    assert (run.stdout, run.stderr) == ("good\n", "")


def test_the_c_side_refuses_a_forked_child_too(tmp_path):
    with make("mem", tmp_path) as device:
        child = os.fork()
        if child == 0:
            message = ffi.new("char[]", lib.CUBBY_MESSAGE_BYTES)
            block = ffi.new("uint8_t[]", BLOCK_BYTES)
            stat = ffi.new("struct cubby_device_stat *")
            handle = device._handle
            answers = {
                lib.cubby_device_read(handle, 0, 1, block, message, len(message)),
                lib.cubby_device_flush(handle, message, len(message)),
                lib.cubby_device_resize(handle, 1, message, len(message)),
                lib.cubby_device_stat(handle, stat),
            }
            lib.cubby_device_close(handle)
            os._exit(0 if answers == {lib.CUBBY_FORKED} else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert device.read(0) == bytes(BLOCK_BYTES)


def test_an_unclosed_device_is_warned_of(tmp_path):
    device = make("csd", tmp_path)
    name = device.name
    with pytest.warns(ResourceWarning, match="unclosed device csd:"):
        del device
    BlockDevice.open(name).close()


# Reading in batches ------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "blocks"
    path.write_bytes(content(3 * BATCH_BLOCKS) + b"a tail that is no block")
    return path


def has_libaio() -> bool:
    with BatchReader(__file__) as reader:
        return reader.in_batches


@pytest.mark.parametrize("batches", [True, False])
def test_a_batch_reader_reads_blocks_in_order(file, batches):
    if batches and not has_libaio():
        pytest.skip("the package libaio, or the library libaio.so.1, is not installed")
    data = file.read_bytes()
    lbas = random.Random(7).choices(range(3 * BATCH_BLOCKS), k=2 * BATCH_BLOCKS + 5)
    with BatchReader(file, batches=batches) as reader:
        assert reader.block_count == 3 * BATCH_BLOCKS
        blocks = reader.read_many(lbas)
        assert reader.in_batches == batches
    assert blocks == [data[lba * BLOCK_BYTES : (lba + 1) * BLOCK_BYTES] for lba in lbas]


@pytest.mark.parametrize("batches", [True, False])
def test_a_batch_reader_names_the_block_that_is_not_there(file, batches):
    lba = 3 * BATCH_BLOCKS
    with (
        BatchReader(file, batches=batches) as reader,
        pytest.raises(errors.DeviceError, match=f"blocks failed reading LBA {lba}"),
    ):
        reader.read_many([0, lba, 1])


def test_a_batch_reader_does_without_the_package(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "libaio", None)
    with BatchReader(file) as reader:
        assert not reader.in_batches
        assert reader.read_many([5])[0] == content(6)[5 * BLOCK_BYTES :]


def test_a_batch_reader_does_without_the_kernels_queue(file):
    class Refusing:
        closed = False

        def submit(self, _):
            raise OSError(11, "no queue left")

        def close(self):
            self.closed = True

    with BatchReader(file) as reader:
        reader._close_context()
        reader._context = refusing = Refusing()
        reader._requests = reader._requests or [type("Request", (), {})() for _ in range(9)]
        assert reader.read_many([5])[0] == content(6)[5 * BLOCK_BYTES :]
        assert refusing.closed
        assert not reader.in_batches


@pytest.mark.parametrize("room", [1, 7, BATCH_BLOCKS])
def test_a_batch_reader_waits_where_the_kernel_takes_few_at_a_time(file, room):
    with BatchReader(file) as reader:
        if not reader.in_batches:
            pytest.skip("the package libaio, or the library libaio.so.1, is not installed")
        submit = reader._context.submit
        reader._context.submit = lambda requests: submit(requests[:room])
        lbas = random.Random(8).choices(range(3 * BATCH_BLOCKS), k=BATCH_BLOCKS + 50)
        data = file.read_bytes()
        expected = [data[lba * BLOCK_BYTES : (lba + 1) * BLOCK_BYTES] for lba in lbas]
        assert reader.read_many(lbas) == expected
        assert reader.in_batches


def test_a_batch_reader_reads_files_and_devices_only(tmp_path):
    with pytest.raises(errors.DeviceError, match="neither a file nor a block device"):
        BatchReader(tmp_path)
    with pytest.raises(FileNotFoundError):
        BatchReader(tmp_path / "none")


# What blocks take --------------------------------------------------------------------------------


def test_stored_bytes_are_those_of_a_drive(tmp_path):
    numbers = random.Random(1)
    blocks = [numbers.randbytes(size).ljust(BLOCK_BYTES, b"\0") for size in range(0, 4097, 512)]
    for unit, level in ((64, 1), (16, 3), (512, 1), (4096, 1)):
        name = f"csd:{tmp_path}/drive.csd"
        options = {"unit": unit, "level": level, "force": True, "physical": "8M"}
        with BlockDevice.create(name, **options) as device:
            for block in blocks:
                before = device.usage().physical_bytes
                device.write(device.stat()["host_writes"], block)
                grown = device.usage().physical_bytes - before
                assert stored_bytes(block, unit=unit, level=level) == grown
    assert stored_bytes(bytes(BLOCK_BYTES)) == 0
    assert stored_bytes(blocks[-1]) == 4160  # and a header, in units of 64
    assert stored_bytes(blocks[-1], unit=1) == BLOCK_BYTES
    assert 0 < stored_bytes(b"x" * BLOCK_BYTES, unit=1) < 64
    for size in (0, 4095, 8192):
        with pytest.raises(ValueError, match=f"4,096 bytes, this one {size:,}"):
            stored_bytes(bytes(size))
    for unit in (0, 3, 8192):
        with pytest.raises(ValueError, match="unit"):
            stored_bytes(blocks[0], unit=unit)


# The package -------------------------------------------------------------------------------------


def test_usage_has_a_ratio_where_it_is_known():
    assert Usage("csd", 4096, 1024, 1 << 20, "normal").ratio == 4
    assert Usage("st_blocks", 0, 1024, 0, "normal").ratio is None
    assert Usage("csd", 0, 0, 1 << 20, "normal").ratio is None


def test_the_package_exports_what_it_says():
    assert [name for name in blockdev.__all__ if not hasattr(blockdev, name)] == []
    native = [name for name, _ in ffi.typeof("struct cubby_device_stat").fields]
    assert list(DeviceStat.__annotations__) == [*native, "media_write_amplification"]


def test_sizes_are_numbers_with_a_suffix():
    expected = {"1": 1, "64K": 65536, "256M": 256 << 20, " 1 GiB ": 1 << 30, "2t": 2 << 40}
    assert {text: size_in_bytes(text) for text in expected} == expected
    assert size_in_bytes(4096) == 4096
    for text in ("", "M", "1X", "-1", "1.5G"):
        with pytest.raises(ValueError, match="a size is a number"):
            size_in_bytes(text)
