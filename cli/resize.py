"""cubby resize: a store that is to hold more."""

import json

import click

import cubbydb
from cubbydb.cli.data import path_argument
from cubbydb.cli.report import say, warn_of_space
from cubbydb.cli.sizes import SizeType, in_bytes

__all__ = ["resize"]


@click.command()
@path_argument
@click.option(
    "--size",
    type=SizeType("1M"),
    help="Bytes of pairs to make room for in all, as in 256M; by default what there is.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="The size before and now, as one JSON object."
)
def resize(path: str, size: int | None, as_json: bool) -> None:
    """Make a store larger.

    Nothing is moved, and nothing is lost: what was there stays where it is.  A file becomes a
    sparse file four times as large as --size, as cubby create makes it; without --size, a file
    that was made larger by other means is used up to its end.  A device that has grown is used up
    to its end, or up to four times --size.

    A store does not shrink: dump it, create a smaller one, and load the dump.
    """
    with cubbydb.open(path, "w") as store:
        before = store.stats()["logical_bytes"]
        now = store.resize(size)
        stat = store.stats()
    if as_json:
        click.echo(json.dumps({"bytes_before": before, "bytes": now}))
    elif now == before:
        say(f"{path}: nothing to do: it has {in_bytes(now)} already", always=True)
    else:
        say(f"{path}: {in_bytes(before)} before, {in_bytes(now)} now")
    warn_of_space(path, stat)
