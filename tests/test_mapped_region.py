"""MappedRegion: a device as memory, by views, pins and copies; how it ends; a model."""

import hashlib
import random
import struct
import sys
import threading
import traceback

import pytest
from cubby_command import python
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from mapped_files import CACHE, PAGE, PAGES, VIEWS, make_file, needs_views

from cubbydb import errors, mmapio
from cubbydb._native import ffi
from cubbydb.blockdev import BlockDevice
from cubbydb.mmapio import MappedRegion, RegionStats


@pytest.fixture(params=["file", "csd", "mem"])
def name(request, tmp_path):
    if request.param == "mem":
        return f"mem:{PAGES * PAGE}"
    if request.param == "csd":
        name = f"csd:{tmp_path}/drive.csd"
        BlockDevice.create(name, physical="8M", logical=PAGES * PAGE).close()
        return name
    return make_file(tmp_path)


@pytest.fixture(params=[pytest.param(True, marks=needs_views), False], ids=["views", "pins"])
def region(request, name):
    with MappedRegion.open(name, cache_bytes=CACHE, pointers=request.param) as region:
        yield region


# Bytes in, bytes out -----------------------------------------------------------------------------


def test_what_was_written_is_read_wherever_it_is(region):
    content = random.Random(1).randbytes(20 * PAGE)
    region.write(3 * PAGE - 7, content)
    assert region.read(3 * PAGE - 7, len(content)) == content
    assert region.read(3 * PAGE, 10) == content[7:17]
    assert region.read(0, 3 * PAGE - 7) == bytes(3 * PAGE - 7)
    assert region.read(len(region), 0) == b""
    region.write(len(region), b"")
    region.write(len(region) - 1, b"!")
    assert region.read(len(region) - 2, 2) == b"\0!"


def test_more_than_the_cache_goes_through(region):
    content = random.Random(2).randbytes(PAGES * PAGE)
    region.write(0, content)
    assert region.read(0, len(region)) == content
    stats = region.stats()
    assert stats.resident_pages <= stats.cache_pages == 64
    assert stats.evictions > 0
    assert stats.writes >= PAGES - 64


def test_a_pin_of_several_pages_takes_pointers(region):
    if not region.has_pointers:
        with pytest.raises(ValueError, match="a pin is of one; 20 bytes from 4086 on are of 2"):
            region.pin(PAGE - 10, 20).__enter__()
        return
    with region.pin(5 * PAGE + 10, 2 * PAGE, write=True) as memory:
        assert (len(memory), memory.readonly) == (2 * PAGE, False)
        memory[:3] = b"abc"
        memory[-3:] = b"xyz"
        assert region.stats().pinned_pages == 3
        with region.pin(5 * PAGE, 20) as other:
            assert other.readonly
            assert bytes(other[10:13]) == b"abc"
            assert region.stats().pinned_pages == 4
    assert region.stats().pinned_pages == 0
    assert region.read(7 * PAGE + 6, 5) == b"\0xyz\0"
    with pytest.raises(ValueError, match="released"):
        memory[0]


def test_a_pin_is_memory(region):
    with region.pin(5 * PAGE + 10, 100, write=True) as memory:
        memory[:3] = b"abc"
        with region.pin(5 * PAGE, 20) as other:
            assert other.readonly
            assert bytes(other[10:13]) == b"abc"
    assert region.stats().pinned_pages == 0
    assert region.read(5 * PAGE + 10, 3) == b"abc"


def test_what_was_stored_is_there_when_it_is_opened_again(tmp_path):
    name = make_file(tmp_path)
    for sync in (True, False):
        with MappedRegion.open(name, cache_bytes=CACHE) as region:
            region.write(100, bytes([sync]))
            region.write(len(region) - PAGE, b"end" + bytes([sync]))
            if sync:
                region.sync()
                assert region.stats().dirty_pages == 0
        with MappedRegion.open(name, read_only=True) as region:
            assert region.read(100, 1) == bytes([sync])
            assert region.read(len(region) - PAGE, 4) == b"end" + bytes([sync])


def test_a_region_may_be_a_part_of_a_device(tmp_path):
    name = make_file(tmp_path)
    with MappedRegion.open(name, offset=10 * PAGE, size=5 * PAGE) as region:
        assert len(region) == 5 * PAGE
        region.write(PAGE, b"here")
        with pytest.raises(ValueError, match="20,480 bytes; 2 bytes from 20,479 on are outside"):
            region.write(5 * PAGE - 1, b"xx")
    with MappedRegion.open(name, offset=11 * PAGE) as region:
        assert len(region) == (PAGES - 11) * PAGE
        assert region.read(0, 4) == b"here"


def test_advice_is_followed(region):
    region.advise("willneed", 8 * PAGE, 20 * PAGE)
    stats = region.stats()
    assert stats.resident_pages >= 20
    region.read(8 * PAGE, 20 * PAGE)
    assert region.stats().loads == stats.loads
    region.write(9 * PAGE, b"dirty")
    region.advise("dontneed")
    assert region.stats().resident_pages == 1
    region.advise("random")
    region.advise("normal", PAGE, 1)
    assert region.read(9 * PAGE, 5) == b"dirty"
    with pytest.raises(ValueError, match="normal, random, willneed, dontneed, not 'always'"):
        region.advise("always")


def test_a_sync_may_be_of_some_bytes(region):
    for page in (3, 200, 400):
        region.write(page * PAGE, b"x")
    region.sync(200 * PAGE + 5, 1)
    assert region.stats().dirty_pages == 2
    region.sync()
    assert region.stats().dirty_pages == 0


# Views -------------------------------------------------------------------------------------------


@needs_views
def test_a_view_is_a_buffer(name):
    with MappedRegion.open(name, cache_bytes=CACHE) as region, region.view() as view:
        assert (len(view), view.readonly, view.format) == (len(region), False, "B")
        struct.pack_into("<QQ", view, PAGE - 8, 1, 2)
        assert struct.unpack_from("<QQ", memoryview(view), PAGE - 8) == (1, 2)
        with view.cast("Q") as words:
            words[1000] = 7
            assert list(words[511:513]) == [1, 2]
        assert region.read(8000, 8) == (7).to_bytes(8, "little")
        region.write(300 * PAGE, b"by write")
        assert bytes(view[300 * PAGE :][:8]) == b"by write"
        digest = hashlib.sha256(view).digest()
        assert digest == hashlib.sha256(region.read(0, len(region))).digest()
        assert region.stats().pointer_faults > 0


@needs_views
def test_a_view_of_a_read_only_region_is_read_only(tmp_path):
    with MappedRegion.open(make_file(tmp_path), read_only=True) as region:
        assert region.read_only
        with region.view(0, 10) as view:
            assert view.readonly
            with pytest.raises(TypeError):
                view[0] = 1
        for write in (lambda: region.write(0, b"x"), region.pin(0, 1, write=True).__enter__):
            with pytest.raises(errors.ReadOnly, match="pages is open for reading only"):
                write()
        region.sync()


@needs_views
def test_arrays_are_numpys(tmp_path):
    numpy = pytest.importorskip("numpy")
    with MappedRegion.open("mem:1M", cache_bytes=CACHE) as region:
        numbers = region.view(PAGE).as_array("<u4")
        assert numbers.shape == ((1 << 20) // 4 - 1024,)
        numbers[:] = numpy.arange(len(numbers))
        assert region.read(PAGE + 4000, 4) == (1000).to_bytes(4, "little")
        part = numbers[5::1000]
        del numbers
        with pytest.raises(BufferError):
            region.close()
        assert int(part[-1]) == len(part) * 1000 - 995
        del part
        with pytest.raises(ValueError, match="multiple"):
            region.view(0, 7).as_array("<u4")
    with MappedRegion.open(make_file(tmp_path), read_only=True) as region:
        array = region.view(10, 20).as_array(numpy.uint8)
        assert not array.flags.writeable
        del array


@needs_views
def test_arrays_say_that_they_need_numpy(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)
    with (
        MappedRegion.open("mem:1M") as region,
        pytest.raises(ModuleNotFoundError, match="needs NumPy: pip install numpy"),
    ):
        region.view().as_array("u1")


def test_without_pointers_there_are_pins_alone():
    with MappedRegion.open("mem:1M", cache_bytes=CACHE, pointers=False) as region:
        assert not region.has_pointers
        assert not region.stats().has_pointers
        for use in (region.view, lambda: region.view(5, 6, write=True)):
            with pytest.raises(OSError, match="pins only, no views: it was opened with pointers="):
                use()
        region.write(5, b"all the same")
        with region.pin(9, 8) as memory:
            assert bytes(memory) == b"the same"


def test_where_the_system_refuses_pointers_there_are_pins_alone(tmp_path):
    run = python(
        """
        import resource
        from cubbydb.mmapio import MappedRegion
        MappedRegion.open("mem:1M").close()
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, most))
        with MappedRegion.open("mem:1M") as region:
            region.write(0, b"works")
            print(region.has_pointers, region.read(0, 5))
            try:
                region.view()
            except OSError as error:
                print(error)
        """,
        cwd=tmp_path,
    )
    assert run.stderr == ""
    first, second = run.stdout.splitlines()
    assert first == "False b'works'"
    assert second.startswith("mem:1M has pins only, no views: ")
    assert "plain pointers are not possible, only pins: Too many open files" in second or not VIEWS


@needs_views
def test_threads_share_a_region():
    with MappedRegion.open("mem:4M", cache_bytes=CACHE) as region, region.view() as view:

        def work(thread: int) -> None:
            numbers = random.Random(thread)
            for turn in range(300):
                at = numbers.randrange(1024) * PAGE + thread * 8
                if turn % 3 == 0:
                    view[at : at + 8] = turn.to_bytes(8, "little")
                elif turn % 3 == 1:
                    region.write(at, turn.to_bytes(8, "little"))
                else:
                    with region.pin(at, 8, write=True) as memory:
                        memory[:] = turn.to_bytes(8, "little")
                assert region.read(at, 8) == turn.to_bytes(8, "little")

        failures = []
        threads = [threading.Thread(target=guarded(work, failures), args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


def guarded(work, failures):
    def run(*arguments):
        try:
            work(*arguments)
        except BaseException as error:
            failures.append(error)

    return run


# Ends --------------------------------------------------------------------------------------------


@needs_views
def test_what_is_in_use_keeps_a_region_open():
    region = MappedRegion.open("mem:1M")
    view = region.view(0, 100)
    part = view.memory[10:20]
    with region.pin(0, 1) as memory:
        for end in (region.close, region.abandon):
            with pytest.raises(BufferError, match="mem:1M has views or pins in use, 2 of them"):
                end()
        piece = memory[:]
    view.release()
    with pytest.raises(BufferError, match="in use, 2 of them"):
        region.close()
    part[0] = 7
    part.release()
    with region.prefault(PAGE, 10), pytest.raises(BufferError, match="in use, 2 of them"):
        region.close()
    with pytest.raises(BufferError, match="in use, 1 of them"):
        region.close()
    assert region.stats().pinned_pages == 1
    piece.release()
    assert region.stats().pinned_pages == 0
    assert not region.closed
    region.close()
    region.close()
    assert region.closed
    for call in (region.view, region.sync, region.stats, lambda: region.read(0, 1)):
        with pytest.raises(errors.Closed, match="mem:1M has been closed"):
            call()
    assert "closed" in repr(region)


@needs_views
def test_an_array_prolongs_its_pin():
    numpy = pytest.importorskip("numpy")
    with MappedRegion.open("mem:1M") as region:
        with region.pin(0, 8, write=True) as memory:
            array = numpy.frombuffer(memory, "<u8")
        assert region.stats().pinned_pages == 1
        array[0] = 5
        del array, memory
        assert region.stats().pinned_pages == 0
        assert region.read(0, 1) == b"\5"


@needs_views
def test_an_error_in_a_with_block_is_not_hidden_by_views():
    def use() -> None:
        with MappedRegion.open("mem:1M") as region:
            memory = region.view().memory
            raise KeyError(memory[0])

    with pytest.raises(KeyError, match="0") as caught:
        use()
    assert "views or pins in use" in caught.value.__notes__[0]
    with pytest.warns(ResourceWarning, match="unclosed region mem:1M"):
        traceback.clear_frames(caught.value.__traceback__)


def test_a_write_pin_and_a_sync_of_one_thread_are_refused():
    with MappedRegion.open("mem:1M") as region:
        with region.pin(0, 1, write=True), pytest.raises(RuntimeError, match="by this thread"):
            region.sync()
        with region.pin(0, 1):
            region.sync()


def test_an_unclosed_region_is_warned_of_and_written_back(tmp_path):
    name = make_file(tmp_path)
    region = MappedRegion.open(name)
    region.write(0, b"kept")
    with pytest.warns(ResourceWarning, match="unclosed region file:"):
        del region
    assert (tmp_path / "pages").read_bytes()[:4] == b"kept"


def test_abandon_gives_up_what_was_not_written_back(tmp_path):
    region = MappedRegion.open(make_file(tmp_path))
    region.write(0, b"lost")
    region.abandon()
    assert region.closed
    assert (tmp_path / "pages").read_bytes()[:4] == bytes(4)


def test_a_device_is_locked(tmp_path):
    name = make_file(tmp_path)
    with MappedRegion.open(name, size=10 * PAGE):
        for options in ({"offset": 5 * PAGE}, {"offset": 50 * PAGE}, {"read_only": True}):
            with pytest.raises(errors.Locked, match="pages is in use by this process"):
                MappedRegion.open(name, **options)
    with (
        MappedRegion.open(name, read_only=True) as one,
        MappedRegion.open(name, read_only=True) as other,
    ):
        assert one.read(0, 1) == other.read(0, 1)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"cache_bytes": "100K"}, "mem:1M: a cache of 102400 bytes: .* 256 KiB or more"),
        ({"cache_bytes": (1 << 20) + 1}, "a cache of 1048577 bytes: .* multiple of 4096"),
        ({"cache_bytes": 0}, "cache_bytes is 1 or more, not 0"),
        ({"cache_bytes": "much"}, "much"),
        ({"offset": 512}, "begins at a multiple of 4096 bytes"),
        ({"size": 4097}, "a multiple of them, not 0 and 4097"),
        ({"size": 0}, "size is 1 or more, not 0"),
        (
            {"size": 2 << 20},
            "mem:1M has 1048576 bytes; a region of 2097152 from 0 on is not inside",
        ),
        ({"offset": 1 << 20}, "a region of 0 from 1048576 on is not inside"),
        ({"offset": -4096}, "offset is 0 or more"),
        ({"offset": 1 << 64}, "offset is 0 or more"),
    ],
)
def test_a_region_that_cannot_be_made_names_the_argument(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        MappedRegion.open("mem:1M", **options)


@pytest.mark.parametrize("name", ["", "a\0b", "mem:", "/tmp"])
def test_a_name_that_means_nothing_is_a_value_error(name):
    with pytest.raises(ValueError, match=r"\w"):
        MappedRegion.open(name)


def test_a_missing_file_is_not_made(tmp_path):
    with pytest.raises(errors.DeviceError, match="none does not exist") as caught:
        MappedRegion.open(tmp_path / "none")
    assert caught.value.errno == 2
    assert list(tmp_path.iterdir()) == []


@needs_views
@pytest.mark.parametrize(("offset", "size"), [(0, 2 << 20), (1 << 20, 1), (1 << 64, 0), (-1, 1)])
def test_what_lies_outside_is_a_value_error(offset, size):
    with MappedRegion.open("mem:1M") as region:
        calls = [
            region.read,
            region.view,
            region.sync,
            lambda *place: region.pin(*place).__enter__(),
            lambda *place: region.prefault(*place).__enter__(),
            lambda *place: region.advise("willneed", *place),
            lambda offset, size: region.write(offset, bytes(size)),
        ]
        for call in calls:
            with pytest.raises(ValueError, match=r"outside|offset is 0 or more"):
                call(offset, size)
        for pin in (region.pin, region.prefault):
            with pytest.raises(ValueError, match="size is 1 or more"):
                pin(0, 0).__enter__()


def test_the_package_exports_what_it_says():
    assert [name for name in mmapio.__all__ if not hasattr(mmapio, name)] == []
    native = [name for name, _ in ffi.typeof("struct cubby_region_stat").fields]
    assert list(RegionStats.__annotations__) == native


# Against a model ---------------------------------------------------------------------------------

MODEL_PAGES = 200
OFFSETS = st.integers(0, MODEL_PAGES * PAGE - 1)
SIZES = st.one_of(st.integers(1, 100), st.integers(1, 20 * PAGE))


class RegionModel(RuleBasedStateMachine):
    """A region beside a bytearray."""

    folder = None  # set by the test

    def __init__(self):
        super().__init__()
        self.seed = 0
        self.region = None

    @initialize(pointers=st.booleans())
    def begin(self, pointers):
        self.name = make_file(self.folder, MODEL_PAGES)
        self.memory = bytearray(MODEL_PAGES * PAGE)
        self.pointers = pointers and VIEWS
        self.open()

    def open(self):
        self.region = MappedRegion.open(self.name, cache_bytes=CACHE, pointers=self.pointers)

    def teardown(self):
        if self.region is not None:
            assert self.region.read(0, len(self.memory)) == self.memory
            self.region.close()

    def content(self, offset, size):
        self.seed += 1
        size = min(size, len(self.memory) - offset)
        return random.Random(self.seed).randbytes(size)

    @rule(offset=OFFSETS, size=SIZES)
    def write(self, offset, size):
        content = self.content(offset, size)
        self.region.write(offset, content)
        self.memory[offset : offset + len(content)] = content

    @rule(offset=OFFSETS, size=SIZES)
    def read(self, offset, size):
        expected = self.memory[offset : offset + size]
        assert self.region.read(offset, len(expected)) == expected

    @rule(offset=OFFSETS, size=SIZES)
    def store(self, offset, size):
        content = self.content(offset, size)
        if self.pointers:
            with self.region.view(offset, len(content)) as view:
                view[:] = content
        else:
            self.region.write(offset, content)
        self.memory[offset : offset + len(content)] = content

    @rule(offset=OFFSETS, size=SIZES)
    def load(self, offset, size):
        expected = self.memory[offset : offset + size]
        if self.pointers:
            with self.region.view(offset, len(expected)) as view:
                assert view == expected

    @rule(offset=OFFSETS, size=SIZES, write=st.booleans())
    def pin(self, offset, size, write):
        content = self.content(offset, size)
        if not self.pointers:
            content = content[: PAGE - offset % PAGE]
        with self.region.pin(offset, len(content), write=write) as memory:
            assert memory == self.memory[offset : offset + len(content)]
            if write:
                memory[:] = content
                self.memory[offset : offset + len(content)] = content

    @rule(offset=OFFSETS, size=SIZES)
    def sync(self, offset, size):
        self.region.sync(offset, min(size, len(self.memory) - offset))

    @rule(
        offset=OFFSETS,
        size=SIZES,
        advice=st.sampled_from(["normal", "random", "willneed", "dontneed"]),
    )
    def advise(self, offset, size, advice):
        self.region.advise(advice, offset, min(size, len(self.memory) - offset))

    @rule()
    def reopen(self):
        self.region.close()
        self.open()

    @invariant()
    def the_cache_is_kept_to(self):
        if self.region is not None:
            stats = self.region.stats()
            assert stats.dirty_pages <= stats.resident_pages <= stats.cache_pages
            assert stats.pinned_pages == 0


def test_a_region_is_what_a_bytearray_is(tmp_path):
    RegionModel.folder = tmp_path
    RegionModel.TestCase.settings = settings(
        max_examples=30,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    RegionModel.TestCase().runTest()
