"""Views of a mapped region that have addresses of their own, and what all views have in common."""

import random
import signal

import pytest
from cubby_command import python
from mapped_files import CACHE, PAGE, needs_views

from cubbydb import errors
from cubbydb.mmapio import MappedRegion, View


@pytest.fixture(params=[True, False], ids=["separate", "windows"])
def region(request):
    with MappedRegion.open("mem:1M", cache_bytes=CACHE, separate_views=request.param) as region:
        yield region


@needs_views
def test_views_show_the_same_memory(region):
    with region.view() as all_of_it, region.view(PAGE - 3, 10) as part:
        all_of_it[PAGE : PAGE + 3] = b"abc"
        assert bytes(part) == b"\0\0\0abc\0\0\0\0"
        part[0] = 7
        assert all_of_it[PAGE - 3] == 7
        assert region.read(PAGE - 3, 6) == b"\7\0\0abc"
        region.write(PAGE, b"by write")
        assert bytes(part[3:]) == b"by writ"


@needs_views
def test_what_views_store_survives_eviction():
    numbers = random.Random(5)
    model = bytearray(1 << 20)
    name = f"mem:{len(model)}"
    with MappedRegion.open(name, cache_bytes=CACHE, separate_views=True) as region:
        views = [region.view() for _ in range(3)]
        for turn in range(3000):
            memory = views[turn % 3].memory
            at, size = numbers.randrange(len(model) - 100), numbers.randrange(1, 100)
            if numbers.random() < 0.5:
                memory[at : at + size] = model[at : at + size] = numbers.randbytes(size)
            else:
                assert memory[at : at + size] == model[at : at + size]
        assert region.stats().evictions > 0
        for view in views:
            assert view.memory == model
            view.release()


@needs_views
def test_a_view_that_is_only_read_refuses_stores(region):
    view = region.view(0, PAGE, write=False)
    assert view.memory.readonly
    with pytest.raises(TypeError):
        view.memory[0] = 1
    view.release()
    view.release()
    assert "released" in repr(view)


@needs_views
def test_the_processor_refuses_stores_too(tmp_path):
    run = python(
        """
        import ctypes
        from cubbydb import _native
        from cubbydb.mmapio import MappedRegion
        with MappedRegion.open("mem:1M", separate_views=True) as region:
            memory = region.view(0, 4096, write=False).memory
            address = int(_native.ffi.cast("uintptr_t", _native.ffi.from_buffer(memory)))
            print(memory[0], flush=True)
            ctypes.memset(address, 1, 1)
            print("stored", flush=True)
        """,
        cwd=tmp_path,
    )
    assert (run.returncode, run.stdout) == (-signal.SIGSEGV, "0\n")


@needs_views
def test_there_can_be_31_views_of_their_own():
    with MappedRegion.open("mem:1M", cache_bytes=CACHE, separate_views=True) as region:
        views = [region.view(number * PAGE, 5) for number in range(31)]
        with pytest.raises(errors.DeviceError, match="as many views as it can have") as caught:
            region.view()
        assert isinstance(caught.value, OSError)
        views.pop().release()
        with region.view() as memory:
            assert memory[5] == 0
        for view in views:
            view.release()


@needs_views
def test_arrays_keep_a_region_open(region):
    numpy = pytest.importorskip("numpy")
    array = region.view(8, 80).as_array("<u8")
    array[:] = numpy.arange(10)
    with pytest.raises(BufferError, match="1 of them"):
        region.close()
    assert region.read(16, 8) == (1).to_bytes(8, "little")
    del array


@needs_views
def test_a_read_only_region_has_read_only_views(tmp_path):
    path = tmp_path / "pages"
    path.write_bytes(bytes(1 << 20))
    for separate in (False, True):
        with MappedRegion.open(path, read_only=True, separate_views=separate) as region:
            with region.view() as memory:
                assert memory.readonly
                assert memory[5] == 0
            with pytest.raises(errors.ReadOnly, match="pages is open for reading only"):
                region.view(write=True)


@needs_views
def test_a_view_has_a_size_and_a_name(region):
    view = region.view(10, 5000)
    assert isinstance(view, View)
    assert len(view) == 5000
    assert "5,000 bytes" in repr(view)
    assert memoryview(view.memory) == bytes(5000)
    with region.view(3, 0) as nothing:
        assert len(nothing) == 0
    with pytest.raises(ValueError, match="are outside"):
        region.view(len(region), 1)
    view.release()


def test_pins_alone_have_no_views():
    with pytest.raises(ValueError, match="with pins only has no views"):
        MappedRegion.open("mem:1M", pointers=False, separate_views=True)
