"""cubby get, put, delete, scan: single pairs, and walks over them."""

import sys
from itertools import islice

import click

import cubbydb
from cubbydb.cli.durability import durability_option
from cubbydb.cli.encodings import (
    decode_key,
    encode_key,
    key_encoding_option,
    value_encoding_option,
)
from cubbydb.cli.formats import key_as_json, pair_as_json
from cubbydb.cli.report import warn_of_space
from cubbydb.cli.ttl import ttl_option
from cubbydb.engine.durability import Durability
from cubbydb.errors import NotFound

__all__ = ["delete", "get", "put", "scan"]

path_argument = click.argument("path", type=click.Path())
accept_loss_option = click.option(
    "--accept-loss",
    is_flag=True,
    help="Where the log is damaged in its middle, do without what the damaged part held.",
)


def key_of(text: str, encoding: str, name: str = "KEY") -> bytes:
    """The bytes of a key, or value, on the command line; a usage error if it cannot be read."""
    try:
        return decode_key(text, encoding, "value" if name == "VALUE" else "key")
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=name) from None


@click.command()
@path_argument
@click.argument("key")
@key_encoding_option
@value_encoding_option
@click.option(
    "--json", "as_json", is_flag=True, help="The pair, as cubby dump writes it but for an expiry."
)
@accept_loss_option
def get(
    path: str, key: str, key_encoding: str, value_encoding: str, as_json: bool, accept_loss: bool
) -> None:
    """Write the value of KEY to standard output.

    Its bytes are written as they are; on a terminal a line end follows.  Exit code 1 if there is
    no such key.
    """
    wanted = key_of(key, key_encoding)
    with cubbydb.open(path, accept_loss=accept_loss) as store:
        value = store[wanted]
    out = sys.stdout.buffer
    if as_json:
        out.write(pair_as_json(wanted, value))
        return
    out.write(encode_key(value, value_encoding))
    if sys.stdout.isatty():
        out.write(b"\n")


@click.command()
@path_argument
@click.argument("key")
@click.argument("value", default="-")
@key_encoding_option
@value_encoding_option
@ttl_option
@durability_option
def put(
    path: str,
    key: str,
    value: str,
    key_encoding: str,
    value_encoding: str,
    ttl: float | None,
    durability: Durability | None,
) -> None:
    """Store VALUE under KEY, in place of the value it may have.

    A time to live that KEY may have is replaced, too: without --ttl, by none.

    Without VALUE, or with -, the value is what standard input holds, all of its bytes; with a
    --value-encoding other than utf8, white space at its end does not count.
    """
    wanted = key_of(key, key_encoding)
    if value != "-":
        content = key_of(value, value_encoding, "VALUE")
    elif value_encoding == "utf8":
        content = sys.stdin.buffer.read()
    else:
        text = sys.stdin.buffer.read().rstrip().decode(errors="surrogateescape")
        content = key_of(text, value_encoding, "VALUE")
    with cubbydb.open(path, "w") as store:
        store.put(wanted, content, ttl=ttl, durability=durability)
        warn_of_space(path, store.stats())


@click.command()
@path_argument
@click.argument("key")
@key_encoding_option
@durability_option
def delete(path: str, key: str, key_encoding: str, durability: Durability | None) -> None:
    """Remove KEY and its value.  Exit code 1 if there is no such key."""
    wanted = key_of(key, key_encoding)
    with cubbydb.open(path, "w") as store:
        if not store.delete(wanted, durability=durability):
            raise NotFound(wanted)


@click.command()
@path_argument
@click.option("--prefix", default="", help="Only keys that begin with this.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many pairs.")
@click.option("--cursor", metavar="HEX", help="Go on where an earlier scan stopped.")
@click.option("--keys-only", is_flag=True, help="One key per line, without the values.")
@click.option("--json", "as_json", is_flag=True, help='With --keys-only: {"k": KEY} per line.')
@key_encoding_option
@accept_loss_option
def scan(
    path: str,
    prefix: str,
    limit: int | None,
    cursor: str | None,
    keys_only: bool,
    as_json: bool,
    key_encoding: str,
    accept_loss: bool,
) -> None:
    """Write pairs, or those with a prefix.

    One JSON object per line, as cubby dump writes them.  The order means nothing.  Where --limit
    leaves something out, the cursor to go on with is told on standard error.  The whole store is
    read, whatever the prefix.  --key-encoding is that of --prefix, and of what --keys-only
    writes: with hex or escape, keys that are not text or have line ends in them can be told
    apart, and so they can with --json.
    """
    wanted = key_of(prefix, key_encoding, "--prefix")
    begin = None if cursor is None else key_of(cursor, "hex", "--cursor")
    out = sys.stdout.buffer
    with (
        cubbydb.open(path, accept_loss=accept_loss) as store,
        store.scan(wanted, begin) as pairs,
    ):
        for key, value in islice(pairs, limit and min(limit, sys.maxsize)):
            if keys_only and as_json:
                out.write(key_as_json(key))
            elif keys_only:
                out.write(encode_key(key, key_encoding) + b"\n")
            else:
                out.write(pair_as_json(key, value, pairs.expires_ms))
        rest = pairs.cursor
        if limit is not None and next(pairs, None) is not None:
            out.flush()
            click.echo(f"more: --cursor {rest.hex()}", err=True)
