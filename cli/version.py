"""cubby version: what this CubbyDB is, and what it was built with."""

import ctypes
import json
import platform
import sys

import click

import cubbydb
from cubbydb import _native

__all__ = ["version"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def version(as_json: bool) -> None:
    """Show versions: CubbyDB's, its format's, its libraries'."""
    facts = version_facts()
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, fact in facts.items():
        click.echo(f"{name.replace('_', ' '):<16} {in_words(fact)}")


def in_words(fact: str | int | bool | None) -> str:
    """A fact for people."""
    if fact is None:
        return "unknown"
    return ("yes" if fact else "no") if isinstance(fact, bool) else str(fact)


def version_facts() -> dict[str, str | int | bool | None]:
    """What there is to tell; None for what cannot be found out."""
    with cubbydb.open("mem:8M", "n", size="1M") as store:
        format_version = store.stats()["format_version"]
    return {
        "cubbydb": cubbydb.__version__,
        "format_version": format_version,
        "io_uring": has_symbol("io_uring_queue_init_params") or has_symbol("io_uring_queue_init"),
        "zstd": zstd_version(),
        "python": platform.python_version(),
        "click": click_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "module": _native.__file__,
        "executable": sys.executable,
    }


def click_version() -> str:
    """The version of click, which has no attribute for it any more."""
    from importlib.metadata import version as version_of

    return version_of("click")


def has_symbol(name: str) -> bool | None:
    """Whether the native module was linked with a function; None where that cannot be seen."""
    try:
        module = ctypes.CDLL(_native.__file__)
    except OSError:
        return None
    return hasattr(module, name)


def zstd_version() -> str | None:
    """The version of the zstd library that runs; None where it was linked into the module."""
    if not has_symbol("ZSTD_versionString"):
        return None
    function = ctypes.CDLL(_native.__file__).ZSTD_versionString
    function.restype = ctypes.c_char_p
    text: bytes = function()
    return text.decode()
