"""CPython's own tests of mappings and of dbm modules, run on stores, spaces and cubbydb.dbm."""

import dbm
import unittest

import pytest

import cubbydb
import cubbydb.dbm

REASON = "this Python comes without its own tests (Debian: libpython3-testsuite)"
mapping_tests = pytest.importorskip("test.mapping_tests", reason=REASON)
cpython_test_dbm = pytest.importorskip("test.test_dbm", reason=REASON)


class BytesMappingSuite:
    """The suite with bytes for keys and values, on an empty mapping per call."""

    def new_store(self) -> cubbydb.Store:
        store = cubbydb.open("mem:64M", "n", size="1M")
        self.addCleanup(store.close)
        return store

    def _reference(self):
        return {b"1": b"2", b"key1": b"value1", b"key2": bytes(5000)}


class BytesOnly(BytesMappingSuite):
    def assertRaises(self, expected, *arguments, **more):  # noqa: N802
        """Some updates of the suite have str keys, which are refused before the suite's own end."""
        if isinstance(expected, type) and expected.__name__ == "Exc":
            expected = (expected, TypeError)
        return super().assertRaises(expected, *arguments, **more)  # noqa: PT027


class TestStore(BytesOnly, mapping_tests.BasicTestMappingProtocol):
    def _empty_mapping(self):
        return self.new_store()


class TestSpace(BytesOnly, mapping_tests.BasicTestMappingProtocol):
    def _empty_mapping(self):
        store = self.new_store()
        store.space(b"names")[b"key1"] = b"of a neighbour"
        store[b"key1"] = b"of no space"
        return store.space(b"name")


class TestSpaceInASpace(BytesOnly, mapping_tests.BasicTestMappingProtocol):
    def _empty_mapping(self):
        outer = self.new_store().space(b"name")
        outer[b"key1"] = b"of the outer one"
        return outer.space(b"name")


class TestDatabase(BytesMappingSuite, mapping_tests.BasicTestMappingProtocol):
    def _empty_mapping(self):
        return cubbydb.dbm.Database(self.new_store())


class TestAnyDBM(cpython_test_dbm.AnyDBMTestCase, unittest.TestCase):
    """What every dbm module does, with cubbydb.dbm as the default and the one recognised."""

    module = cubbydb.dbm

    @pytest.fixture(autouse=True)
    def stand_in(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(dbm, "whichdb", cubbydb.dbm.whichdb)
        monkeypatch.setitem(dbm._modules, "cubbydb.dbm", cubbydb.dbm)
        monkeypatch.setattr(type(self), "_dict", dict(type(self)._dict))  # the suite changes it
