"""Every status of the C side has an exception and a text; every message says what it is about."""

import errno
import pickle

import pytest

import cubbydb
from cubbydb import errors
from cubbydb._native import ffi, lib

STATUSES = {
    name: number
    for number, name in ffi.typeof("enum cubby_status").elements.items()
    if name != "CUBBY_OK"
}


def test_ok_raises_nothing():
    assert errors.raise_for_status(lib.CUBBY_OK, "data.cubby") is None


@pytest.mark.parametrize("name", STATUSES)
def test_every_status_has_an_exception(name):
    status = STATUSES[name]
    with pytest.raises((errors.Error, ValueError)) as caught:
        errors.raise_for_status(status, b"some key")
    assert type(caught.value) is errors.EXCEPTION_OF_STATUS[status]
    assert "some key" in str(caught.value)


def test_no_status_is_made_up():
    assert set(errors.EXCEPTION_OF_STATUS) == set(STATUSES.values())


@pytest.mark.parametrize("name", STATUSES)
def test_every_status_has_a_text_of_its_own(name):
    texts = {ffi.string(lib.cubby_status_text(status)) for status in STATUSES.values()}
    assert len(texts) == len(STATUSES)
    text = ffi.string(lib.cubby_status_text(STATUSES[name])).decode()
    assert text
    assert not text.endswith(".")


def test_no_two_statuses_share_an_exception():
    assert len(set(errors.EXCEPTION_OF_STATUS.values())) == len(STATUSES)


def test_every_exception_is_exported_and_derived_from_error():
    exceptions = [
        thing
        for thing in vars(errors).values()
        if isinstance(thing, type) and issubclass(thing, Exception)
    ]
    assert errors.Error in exceptions
    for exception in exceptions:
        assert issubclass(exception, errors.Error)
        assert exception.__name__ in errors.__all__
        assert exception.__name__ in errors.__doc__


def test_the_exceptions_are_the_ones_that_python_knows():
    assert issubclass(errors.NotFound, KeyError)
    assert issubclass(errors.Closed, ValueError)
    assert issubclass(errors.Forked, errors.Closed)
    assert issubclass(errors.DeviceError, OSError)


def test_an_errno_is_a_device_error_that_keeps_it():
    with pytest.raises(OSError, match=r"data\.cubby: Input/output error") as caught:
        errors.raise_for_status(errno.EIO, "data.cubby")
    assert type(caught.value) is errors.DeviceError
    assert caught.value.errno == errno.EIO


def test_a_poisoned_store_is_a_device_error_with_an_errno():
    with pytest.raises(errors.Poisoned) as caught:
        errors.raise_for_status(lib.CUBBY_POISONED, "data.cubby")
    assert caught.value.errno == errno.EIO


def test_lack_of_memory_is_a_memory_error():
    with pytest.raises(MemoryError, match="b'key'"):
        errors.raise_for_status(errno.ENOMEM, b"key")


def test_not_found_carries_the_key_and_reads_as_a_sentence():
    error = errors.NotFound(b"\x00key")
    assert error.args == (b"\x00key",)
    assert str(error) == "no pair has the key b'\\x00key'"
    assert str(errors.NotFound()) == "no such pair"


def test_the_c_sentence_is_used_where_there_is_one():
    with pytest.raises(errors.Corrupt) as caught:
        errors.raise_for_status(lib.CUBBY_CORRUPT, b"key", "LBA 17: wrong checksum")
    assert str(caught.value) == "LBA 17: wrong checksum (key b'key')"


def test_the_path_is_added_unless_the_c_sentence_has_it():
    with pytest.raises(errors.Full) as caught:
        errors.raise_for_status(lib.CUBBY_FULL, "data.cubby", "no room")
    assert str(caught.value) == "data.cubby: no room"
    with pytest.raises(errors.Full) as caught:
        errors.raise_for_status(lib.CUBBY_FULL, "data.cubby", "data.cubby has no room")
    assert str(caught.value) == "data.cubby has no room"


def test_a_long_key_is_cut_short_in_messages():
    text = errors.key_text(b"k" * 70_000)
    assert len(text) < 100
    assert text.endswith("(70,000 bytes)")
    assert errors.key_text(b"k" * 64) == repr(b"k" * 64)


def test_exceptions_survive_pickling():
    for error in (errors.NotFound(b"key"), errors.Full("text"), errors.DeviceError(5, "text")):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert str(copy) == str(error)
    assert copy.errno == 5


def test_the_package_exports_what_it_says():
    for name in cubbydb.__all__:
        assert hasattr(cubbydb, name)
    public = {name for name in vars(cubbydb) if not name.startswith("_")}
    modules = {"engine", "blockdev", "mmapio", "cli", "bench", "dbm", "prometheus"}
    assert public - modules <= set(cubbydb.__all__)
