"""The public Python API: every name has a docstring, and every example in one is true.

What is public, and the pages that `make docs` makes of it, is in documentation.py.
"""

import doctest
import importlib
import re
import warnings

import pytest
from documentation import MODULES, main, public_docs, public_members, public_modules, undocumented
from pdoc.doc import Doc

import cubbydb

# What nobody should have to guess how to call.
WITH_EXAMPLE = {
    *("cubbydb", "cubbydb.open", "cubbydb.errors", "cubbydb.dbm", "cubbydb.prometheus"),
    *("cubbydb.Space", "cubbydb.blockdev", "cubbydb.blockdev.BlockDevice"),
    *("cubbydb.mmapio", "cubbydb.mmapio.MappedRegion"),
    *(f"cubbydb.mmapio.MappedRegion.{name}" for name in ("view", "pin", "prefault")),
    "cubbydb.mmapio.View.as_array",
    *(f"cubbydb.Store.{name}" for name in ("get", "put", "delete", "get_many", "put_many")),
    *(f"cubbydb.Store.{name}" for name in ("scan", "space", "add", "compare_and_swap", "incr")),
    *(f"cubbydb.VoliMap.{name}" for name in ("floor", "put_many", "range", "save", "popitem")),
    *("cubbydb.VoliMap", "cubbydb.VoliMap.compare_and_swap"),
    *(f"cubbydb.Store.{name}" for name in ("pop", "get_into", "get_view", "stats", "check")),
}


def example_of(doc: Doc, parent: Doc | None) -> doctest.DocTest | None:
    """The examples in one docstring, to be run where its module's names and a store are known."""
    names = {name: getattr(cubbydb, name) for name in cubbydb.__all__}
    names |= vars(importlib.import_module(doc.modulename)) | {"cubbydb": cubbydb}
    test = doctest.DocTestParser().get_doctest(doc.docstring, names, doc.fullname, None, None)
    return test if test.examples else None


with warnings.catch_warnings():
    warnings.simplefilter("error")
    EXAMPLES = [test for doc, parent in public_docs() if (test := example_of(doc, parent))]


@pytest.mark.parametrize("test", EXAMPLES, ids=lambda test: test.name)
def test_the_examples_are_true(test, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    with cubbydb.open("store.cubby", "c", size="16M") as store:
        test.globs["store"] = store
        runner = doctest.DocTestRunner(verbose=False)
        result = runner.run(test, out=said.append, clear_globs=False)
    assert result.attempted == len(test.examples)
    assert result.failed == 0, "".join(said)


def test_the_main_calls_have_examples():
    assert WITH_EXAMPLE - {test.name for test in EXAMPLES} == set()


def test_code_in_docstrings_is_written_as_an_example_that_is_run():
    called = re.compile(r"^ {4,}(import |from |with )|^ *```", re.MULTILINE)
    assert [doc.fullname for doc, _ in public_docs() if called.search(doc.docstring)] == []


def test_every_public_name_has_a_docstring():
    assert undocumented() == []


def test_a_public_name_without_a_docstring_is_found(monkeypatch):
    store = next(m for m in public_modules()[0].members.values() if m.name == "Store")
    put = next(member for member in store.own_members if member.name == "put")
    monkeypatch.setattr(put, "docstring", "")
    assert undocumented() == ["cubbydb.Store.put"]


def test_the_modules_say_what_is_public():
    for module in public_modules():
        exported = {name for name in module.obj.__all__ if f"cubbydb.{name}" not in MODULES}
        assert {member.name for member in public_members(module)} == exported


def test_the_pages_have_what_is_inherited_too(tmp_path, capsys):
    assert main(str(tmp_path)) == 0
    pages = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.html")}
    modules = {name.replace(".", "/") + ".html" for name in MODULES}
    assert pages == {"index.html", *modules}
    page = (tmp_path / "cubbydb.html").read_text()
    for name in ("Store.put", "Store.scan", "Store.incr", "Store.compare_and_swap", "Space.scan"):
        assert f'id="{name}"' in page
    # A comment of cubby.h:
    assert "keys asked for by get, contains, get_expiry and get_many" in page
    linked_nowhere = re.findall(r"<code>((?:Store|Scan|Space|cubbydb)\.[^<]*)</code>", page)
    assert linked_nowhere == []
