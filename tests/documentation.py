"""The documentation of the public Python API: what of it is public, and its pages as HTML.

    python tests/documentation.py FOLDER

It fails on a public name without a docstring, and on every warning of pdoc's: a module that cannot
be imported, an annotation that cannot be resolved.
"""

import functools
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pdoc
from pdoc.doc import Class, Doc, Module, Variable

ROOT = Path(__file__).parent.parent
# Their __all__ says what is public.  The pages of all but errors are asked for by name: errors is
# exported by cubbydb, and comes with it.
MODULES = (
    "cubbydb",
    "cubbydb.blockdev",
    "cubbydb.dbm",
    "cubbydb.errors",
    "cubbydb.mmapio",
    "cubbydb.prometheus",
)
# Class whose fields are those of a C struct -> the struct, in whose comments they are explained.
STRUCTS = {
    "DeviceStat": "cubby_device_stat",
    "Latency": "cubby_latency",
    "NibbleStat": "cubby_nibble_stat",
    "StoreStat": "cubby_stat",
    "VoliMapStat": "cubby_volimap_stat",
}


@functools.cache
def public_modules() -> list[Module]:
    """The modules, with what belongs to their pages put there."""
    modules = [Module.from_name(name) for name in MODULES]
    for module in modules:
        for member in public_members(module):
            if isinstance(member, Class):
                complete(member)
    return modules


def public_members(module: Module) -> list[Doc]:
    """What __all__ exports, except for other modules, which have pages of their own."""
    return [member for member in module.own_members if member.name in module.obj.__all__]


def complete(shown: Class) -> None:
    """Show as a class's own what its bases without a page have, and explain a struct's fields."""
    shown.own_members = shown.own_members + [
        member
        for (module, _), members in shown.inherited_members.items()
        if module.startswith("cubbydb.") and module not in MODULES
        for member in members
    ]
    if shown.name in STRUCTS:
        comments = struct_comments(STRUCTS[shown.name])
        for member in shown.own_members:
            member.docstring = member.docstring or comments.get(member.name, "")


def struct_comments(struct: str) -> dict[str, str]:
    """What stands beside the fields of a struct in cubby.h."""
    header = (ROOT / "engine" / "cubby.h").read_text()
    found = re.search(rf"^struct {struct} \{{\n(.*?)^\}};", header, re.MULTILINE | re.DOTALL)
    assert found is not None
    fields = re.findall(r"(\w+)(?:\[\d+\])?; +/\* (.*?) \*/", found[1], re.DOTALL)
    return {name: re.sub(r"\s+", " ", comment) for name, comment in fields}


def public_docs() -> Iterator[tuple[Doc, Doc | None]]:
    """Everything public, and the class or module that it is a member of."""
    for module in public_modules():
        yield module, None
        for member in public_members(module):
            yield member, module
            if isinstance(member, Class):
                for part in member.own_members:
                    if not part.name.startswith("_"):
                        yield part, member


def undocumented() -> list[str]:
    """Public names without a docstring; that of its class or module may explain a variable."""
    return [
        doc.fullname
        for doc, parent in public_docs()
        if not doc.docstring.strip() and not (parent and is_explained(doc, parent))
    ]


def is_explained(doc: Doc, parent: Doc) -> bool:
    if not isinstance(doc, Variable):
        return False
    by_struct = parent.name in STRUCTS and doc.name in struct_fields(STRUCTS[parent.name])
    return by_struct or re.search(rf"\b{doc.name}\b", parent.docstring) is not None


def struct_fields(struct: str) -> set[str]:
    """The fields that cubby.h has, with a comment or without one."""
    from cubbydb._native import ffi

    return {name for name, _ in ffi.typeof(f"struct {struct}").fields}


def write_pages(folder: Path) -> None:
    public_modules()  # pdoc is given the same objects when it asks for them
    pdoc.render.configure(docformat="google", show_source=False)
    pdoc.pdoc(*(name for name in MODULES if name != "cubbydb.errors"), output_directory=folder)


def main(folder: str) -> int:
    warnings.simplefilter("error")
    missing = undocumented()
    for name in missing:
        print(f"{name} has no docstring", file=sys.stderr)
    if missing:
        return 1
    write_pages(Path(folder))
    print(f"{folder}/index.html: {', '.join(MODULES)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
