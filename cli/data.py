"""cubby get, put, delete, scan: single pairs, and walks over them."""

import sys
from itertools import islice

import click

import cubbydb
from cubbydb.cli.formats import KEY_ENCODINGS, decode_key, encode_key, pair_as_json
from cubbydb.cli.report import warn_of_space
from cubbydb.errors import NotFound

__all__ = ["delete", "get", "put", "scan"]

path_argument = click.argument("path", type=click.Path())
key_encoding_option = click.option(
    "--key-encoding",
    type=click.Choice(KEY_ENCODINGS),
    default="utf8",
    show_default=True,
    help="How keys are written on the command line.",
)


def key_of(text: str, encoding: str, name: str = "KEY") -> bytes:
    """The bytes of a key on the command line; a usage error if it cannot be read."""
    try:
        return decode_key(text, encoding)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=name) from None


@click.command()
@path_argument
@click.argument("key")
@key_encoding_option
def get(path: str, key: str, key_encoding: str) -> None:
    """Write the value of KEY to standard output.

    Its bytes are written as they are; on a terminal a line end follows.  Exit code 1 if there is
    no such key.
    """
    wanted = key_of(key, key_encoding)
    with cubbydb.open(path) as store:
        value = store[wanted]
    out = sys.stdout.buffer
    out.write(value)
    if sys.stdout.isatty():
        out.write(b"\n")


@click.command()
@path_argument
@click.argument("key")
@click.argument("value", default="-")
@key_encoding_option
def put(path: str, key: str, value: str, key_encoding: str) -> None:
    """Store VALUE under KEY, in place of the value it may have.

    Without VALUE, or with -, the value is what standard input holds, all of its bytes.
    """
    wanted = key_of(key, key_encoding)
    content = sys.stdin.buffer.read() if value == "-" else key_of(value, "utf8", "VALUE")
    with cubbydb.open(path, "w") as store:
        store.put(wanted, content)
        warn_of_space(path, store.stat())


@click.command()
@path_argument
@click.argument("key")
@key_encoding_option
def delete(path: str, key: str, key_encoding: str) -> None:
    """Remove KEY and its value.  Exit code 1 if there is no such key."""
    wanted = key_of(key, key_encoding)
    with cubbydb.open(path, "w") as store:
        if not store.delete(wanted):
            raise NotFound(wanted)


@click.command()
@path_argument
@click.option("--prefix", default="", help="Only keys that begin with this.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many pairs.")
@click.option("--cursor", metavar="HEX", help="Go on where an earlier scan stopped.")
@click.option("--keys-only", is_flag=True, help="One key per line, without the values.")
@key_encoding_option
def scan(
    path: str,
    prefix: str,
    limit: int | None,
    cursor: str | None,
    keys_only: bool,
    key_encoding: str,
) -> None:
    """Write pairs, or those with a prefix.

    One JSON object per line, as cubby dump writes them.  The order means nothing.  Where --limit
    leaves something out, the cursor to go on with is told on standard error.  The whole store is
    read, whatever the prefix.  With --keys-only, a key that is not text or has line ends in it
    can be told apart with --key-encoding hex.
    """
    wanted = key_of(prefix, key_encoding, "--prefix")
    begin = None if cursor is None else key_of(cursor, "hex", "--cursor")
    out = sys.stdout.buffer
    with cubbydb.open(path) as store, store.scan(wanted, begin) as pairs:
        for key, value in islice(pairs, limit):
            if keys_only:
                out.write(encode_key(key, key_encoding) + b"\n")
            else:
                out.write(pair_as_json(key, value))
        rest = pairs.cursor
        if limit is not None and next(pairs, None) is not None:
            out.flush()
            click.echo(f"more: --cursor {rest.hex()}", err=True)
