"""MappedRegion: devices that fail, system calls, forked children, and what C alone has."""

import errno
import io
import os
import random
import signal

import pytest
from cubby_command import python
from mapped_files import CACHE, PAGE, make_file, needs_views

from cubbydb import errors
from cubbydb._native import ffi, lib
from cubbydb.blockdev import BlockDevice
from cubbydb.mmapio import MappedRegion

# Errors of the device ----------------------------------------------------------------------------


def test_a_page_that_cannot_be_read_is_an_error_of_copies_and_pins():
    with MappedRegion.open("fault:read=1:mem:1M") as region:
        calls = [
            lambda: region.read(3 * PAGE + 5, 9000),
            lambda: region.write(3 * PAGE + 5, bytes(9000)),
            region.pin(3 * PAGE + 5, 9000).__enter__,
            region.prefault(3 * PAGE + 5, 9000, write=True).__enter__,
        ]
        for call in calls:
            with pytest.raises(OSError, match="LBA 3: Input/output error") as caught:
                call()
            assert isinstance(caught.value, errors.DeviceError)
            assert caught.value.errno == 5
        with pytest.raises(OSError, match="reading ahead"):
            region.advise("willneed")
        assert region.stats().pinned_pages == region.stats().resident_pages == 0


def test_a_damaged_block_is_named(tmp_path):
    file = tmp_path / "drive.csd"
    numbers = random.Random(1)
    data = [numbers.randbytes(2000).ljust(PAGE, b"\0") for _ in range(100)]
    with BlockDevice.create(f"csd:{file}", physical="8M") as device:
        device.write(40, b"".join(data))
    stored = file.read_bytes()
    place = stored.index(data[37][500:1500])  # what zstd leaves as it is
    file.write_bytes(stored[:place] + b"damage" + stored[place + 6 :])
    with MappedRegion.open(f"csd:{file}", offset=40 * PAGE) as region:
        for page, count in ((37, 1), (0, 100), (37, 20), (30, 8)):
            with pytest.raises(errors.Corrupt, match=r"LBA 77 of csd:.*drive\.csd is damaged"):
                region.read(page * PAGE, count * PAGE)
        assert region.read(0, 37 * PAGE) == b"".join(data[:37])


@needs_views
@pytest.mark.parametrize("trace", [False, True])
def test_a_page_that_a_view_cannot_read_ends_the_process(tmp_path, trace):
    run = python(
        f"""
        import faulthandler
        from cubbydb.mmapio import MappedRegion
        if {trace}:
            faulthandler.enable()
        with MappedRegion.open("fault:read=2:mem:1M") as region:
            memory = region.view().memory
            print(memory[0], flush=True)
            print(memory[100 * 4096], flush=True)
        """,
        cwd=tmp_path,
    )
    assert run.returncode == -signal.SIGBUS
    assert run.stdout == "0\n"
    assert ("Fatal Python error: Bus error" in run.stderr) == trace


def test_what_cannot_be_written_stays_in_memory(tmp_path):
    with MappedRegion.open("fault:write=1,once:mem:1M") as region:
        region.write(7 * PAGE, b"kept")
        with pytest.raises(errors.DeviceError, match="Input/output error"):
            region.sync()
        stats = region.stats()
        assert (stats.is_read_only, stats.write_error, stats.write_error_lba) == (True, 5, 7)
        assert region.read(7 * PAGE, 4) == b"kept"
        with pytest.raises(errors.Degraded, match=r"LBA 7 back has failed \(Input/output error\)"):
            region.write(0, b"no")
        region.sync()
        stats = region.stats()
        assert (stats.is_read_only, stats.write_error, stats.write_error_lba) == (False, 0, 0)
        region.write(0, b"yes")


def test_a_region_that_cannot_be_written_back_stays_open():
    region = MappedRegion.open("fault:write=1:mem:1M")
    region.write(0, b"lost")
    for _ in range(2):
        with pytest.raises(errors.DeviceError, match="writing back"):
            region.close()
        assert region.read(0, 4) == b"lost"
    region.abandon()
    assert region.closed


def test_after_a_flush_that_failed_no_sync_succeeds():
    with MappedRegion.open("fault:flush=1,once:mem:1M") as region:
        region.write(0, b"written")
        for _ in range(2):
            with pytest.raises(errors.DeviceError, match="failed syncing LBAs 0 to 255"):
                region.sync()
        with pytest.raises(errors.Degraded):
            region.write(0, b"no")
        assert region.read(0, 7) == b"written"


def test_a_full_device_is_physically_full(tmp_path):
    name = f"csd:{tmp_path}/drive.csd"
    numbers = random.Random(3)
    BlockDevice.create(name, physical="4M", logical="16M", throttle=False).close()
    region = MappedRegion.open(name, cache_bytes="12M")
    region.write(0, numbers.randbytes(8 << 20))
    with pytest.raises(errors.PhysicalFull, match=r"drive\.csd is physically full"):
        region.sync()
    region.abandon()


# System calls ------------------------------------------------------------------------------------


@needs_views
def test_a_system_call_needs_a_prefault(tmp_path):
    name = make_file(tmp_path)
    with (
        MappedRegion.open(name, cache_bytes=CACHE) as region,
        region.view(5 * PAGE, 2 * PAGE) as view,
        io.FileIO(tmp_path / "other", "w+") as file,
    ):
        region.write(5 * PAGE, b"content")
        region.sync()
        region.advise("dontneed")
        with pytest.raises(OSError, match="Bad address"):
            os.write(file.fileno(), view)
        with region.prefault(5 * PAGE, 2 * PAGE):
            assert os.write(file.fileno(), view) == 2 * PAGE
        file.seek(0)
        assert file.read(8) == b"content\0"
        file.seek(0)
        with region.view(50 * PAGE, PAGE) as to:
            with region.prefault(50 * PAGE, PAGE), pytest.raises(OSError, match="Bad address"):
                file.readinto(to)
            file.seek(0)
            with region.prefault(50 * PAGE, PAGE, write=True):
                assert file.readinto(to) == PAGE
        assert region.read(50 * PAGE, 8) == b"content\0"


def test_a_pin_needs_none(tmp_path):
    with MappedRegion.open("mem:1M") as region, io.FileIO(tmp_path / "file", "w+") as file:
        with region.pin(100, PAGE, write=True) as memory:
            memory[:4] = b"pins"
            assert file.write(memory) == PAGE
            file.seek(0)
            assert file.readinto(memory[4:]) == PAGE - 4
        assert region.read(100, 9) == b"pinspins\0"


# A forked child ----------------------------------------------------------------------------------


def test_a_forked_child_is_refused_and_leaves_the_region_alone(tmp_path):
    run = python(
        """
        import os, sys
        from cubbydb import errors
        from cubbydb._native import ffi, lib
        from cubbydb.mmapio import MappedRegion
        region = MappedRegion.open(sys.argv[1])
        region.write(0, b"parent's")
        pin = region.pin(0, 8, write=True)
        memory = pin.__enter__()
        child = os.fork()
        if child == 0:
            calls = [lambda: region.read(0, 1), lambda: region.write(0, b"x"), region.sync,
                     region.stats, lambda: region.pin(0, 1).__enter__(), region.view,
                     lambda: region.advise("random")]
            handle = region._handle
            for call in calls:
                try:
                    call()
                except errors.Forked as error:
                    assert "open it anew" in str(error)
                    continue
                os._exit(2)
            byte = ffi.new("uint8_t[4096]")
            out = ffi.new("uint8_t **")
            stat = ffi.new("struct cubby_region_stat *")
            statuses = {
                lib.cubby_region_load(handle, 0, 1, byte, ffi.NULL, 0),
                lib.cubby_region_store(handle, 0, 1, byte, ffi.NULL, 0),
                lib.cubby_region_read(handle, 0, 4096, byte, ffi.NULL, 0),
                lib.cubby_region_write(handle, 0, 4096, byte, ffi.NULL, 0),
                lib.cubby_region_pin(handle, 0, 1, 0, out, ffi.NULL, 0),
                lib.cubby_region_pin_many(handle, 0, ffi.new("uint64_t[1]"), 0, out, ffi.NULL, 0),
                lib.cubby_region_sync(handle, 0, 1, ffi.NULL, 0),
                lib.cubby_region_advise(handle, 0, 1, 0, ffi.NULL, 0),
                lib.cubby_region_close(handle, ffi.NULL, 0),
                lib.cubby_region_stat(handle, stat),
            }
            lib.cubby_region_abandon(handle)
            pin.__exit__(None, None, None)
            region.close()
            os._exit(0 if statuses == {lib.CUBBY_FORKED} else 3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        child = os.fork()
        if child == 0:
            os._exit(memory[0])  # it is not there
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        memory[:8] = b"Parent's"
        pin.__exit__(None, None, None)
        region.close()
        with MappedRegion.open(sys.argv[1]) as region:
            print(region.read(0, 8))
        """,
        make_file(tmp_path),
        cwd=tmp_path,
    )
    assert (run.stdout, run.stderr) == (f'{-signal.SIGSEGV}\nb"Parent\'s"\n', "")


# The C side --------------------------------------------------------------------------------------


def test_pages_pass_the_cache(tmp_path):
    content = random.Random(4).randbytes(300 * PAGE)
    data, back = ffi.new("uint8_t[]", content), ffi.new("uint8_t[]", len(content))
    message = ffi.new("char[]", lib.CUBBY_MESSAGE_BYTES)
    with MappedRegion.open(make_file(tmp_path), cache_bytes=CACHE) as region:
        handle = region._handle
        place = (10 * PAGE, 300 * PAGE)
        assert lib.cubby_region_write(handle, *place, data, message, len(message)) == 0
        assert region.stats().dirty_pages == 0
        assert (tmp_path / "pages").read_bytes()[10 * PAGE :][: len(content)] == content
        assert region.read(*place) == content
        assert lib.cubby_region_read(handle, *place, back, message, len(message)) == 0
        assert bytes(ffi.buffer(back, len(content))) == content
        for call in (lib.cubby_region_read, lib.cubby_region_write):
            for part in ((1, PAGE), (0, 100)):
                status = call(handle, *part, back, message, len(message))
                assert status == lib.CUBBY_BAD_ARGUMENT
                assert b"takes whole pages of 4096 bytes" in ffi.string(message)


def test_many_pages_are_pinned_at_once():
    message = ffi.new("char[]", lib.CUBBY_MESSAGE_BYTES)
    addresses = ffi.new("uint8_t *[2000]")
    offsets = ffi.new("uint64_t[]", [5 * PAGE + 3, 100 * PAGE, 7])
    with MappedRegion.open("mem:1M", cache_bytes=CACHE) as region:
        handle = region._handle

        def pin(count: int, access: int = lib.CUBBY_REGION_WRITE) -> int:
            return lib.cubby_region_pin_many(
                handle, count, offsets, access, addresses, message, len(message)
            )

        region.write(100 * PAGE, b"x")
        assert pin(3) == 0
        assert region.stats().pinned_pages == 3
        assert addresses[1][0] == ord("x")
        addresses[0][0] = ord("y")
        assert addresses[2] == lib.cubby_region_base(handle) + 7
        assert lib.cubby_region_close(handle, message, len(message)) == errno.EBUSY
        assert b"pages that are pinned" in ffi.string(message)
        for offset in offsets:
            lib.cubby_region_unpin(handle, offset, 1, lib.CUBBY_REGION_WRITE)
        assert region.read(5 * PAGE + 3, 1) == b"y"
        assert pin(1025) == lib.CUBBY_BAD_ARGUMENT
        assert pin(3, 2) == lib.CUBBY_BAD_ARGUMENT
        offsets[1] = 1 << 20
        assert pin(3) == lib.CUBBY_BAD_ARGUMENT
        assert b"outside" in ffi.string(message)
        assert region.stats().pinned_pages == 0


def test_pins_leave_half_of_the_cache():
    with MappedRegion.open("mem:1M", cache_bytes=CACHE) as region, region.prefault(0, 20 * PAGE):
        with pytest.raises(OSError, match=r"no room to pin 13 pages beside 20: .* half") as caught:
            region.prefault(0, 13 * PAGE).__enter__()
        assert caught.value.errno == errno.ENOBUFS
        with region.prefault(0, 12 * PAGE, write=True):
            region.write(0, bytes(1 << 20))
