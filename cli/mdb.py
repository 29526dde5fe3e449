r"""mdb: the text of LMDB's mdb_dump and mdb_load, which is that of Berkeley DB's db_dump.

    VERSION=3
    format=bytevalue        or print: printable ASCII as it is, \\ and \hh
    type=btree
    HEADER=END
     6b6579                 a space and a key, then the same with its value
     76616c7565
    DATA=END

Source: the manual pages mdb_dump(1) and db_dump(1).
"""

import re
from collections.abc import Iterator

from cubbydb.cli.lines import Lines, Record
from cubbydb.cli.report import counted, say

__all__ = ["KEY_BYTES_MAX", "MdbWriter", "read_mdb"]

KEY_BYTES_MAX = 511  # of LMDB, as Debian and nearly everybody builds it
# What says how the other database was laid out, and nothing about its pairs.
LAYOUT_HEADERS = {
    *("mapsize", "mapaddr", "maxreaders", "db_pagesize", "db_lorder", "database", "bt_minkey"),
    *("h_ffactor", "h_nelem", "chksum", "integerkey", "reversekey", "extentsize"),
}
# Several values to a key.
DUPLICATES_HEADERS = {"duplicates", "dupsort", "dupfixed", "integerdup", "reversedup"}
HEX = re.compile(rb"(?:[0-9a-fA-F]{2})*")
PRINTED = re.compile(rb"\\(?:([0-9a-fA-F]{2})|(\\?))")


def read_mdb(lines: Lines) -> Iterator[Record]:
    """The pairs of one database.

    Headers that mean nothing to us are warned about.  A second value of one key is an error, not
    a replacement, and so are a second database and an end without DATA=END.
    """
    left = iter(lines)
    headers = _read_headers(lines, left)
    if headers is None:
        return
    printed = headers["format"] == "print"
    repeats = any(headers.get(name, "0") != "0" for name in DUPLICATES_HEADERS)
    last_key = None
    for line in left:
        if line.rstrip(b"\r\n") == b"DATA=END":
            break
        key = _content(lines, line, printed)
        value_line = next(left, b"")
        if not value_line or value_line.rstrip(b"\r\n") == b"DATA=END":
            raise lines.error("a key without a value")
        if repeats and key == last_key:
            raise lines.error("a second value of one key, and a store keeps one")
        last_key = key
        yield lines.record(key, _content(lines, value_line, printed), lines.number)
    else:
        raise lines.error("it ends without DATA=END")
    for line in left:
        if not line.isspace():
            raise lines.error("something follows DATA=END: load one database at a time")


def _read_headers(lines: Lines, left: Iterator[bytes]) -> dict[str, str] | None:
    """The headers, checked; None where there is no input at all."""
    headers: dict[str, str] = {}
    for line in left:
        name, equals, content = line.decode(errors="replace").strip().partition("=")
        if not equals:
            raise lines.error("not a header (NAME=CONTENT)")
        if not headers and name != "VERSION":
            raise lines.error("it does not begin with VERSION=3")
        if (name, content) == ("HEADER", "END"):
            headers.setdefault("format", "bytevalue")
            return headers
        _check_header(lines, name, content)
        headers[name] = content
    if headers:
        raise lines.error("it ends without HEADER=END")
    return None


# Header -> what it may say.
KNOWN_HEADERS = {
    "VERSION": ("3",),
    "format": ("bytevalue", "print"),
    "type": ("btree", "hash"),
}


def _check_header(lines: Lines, name: str, content: str) -> None:
    known = KNOWN_HEADERS.get(name)
    if known is not None:
        if content not in known:
            raise lines.error(f"{name} is {' or '.join(known)}, not {content!r}")
    elif name not in LAYOUT_HEADERS | DUPLICATES_HEADERS:
        say(f"cubby: {lines.name}:{lines.number}: unknown header {name!r} ignored", always=True)


def _content(lines: Lines, line: bytes, printed: bool) -> bytes:
    """The bytes of a line of the data."""
    text = line.removesuffix(b"\n").removesuffix(b"\r")
    if not text.startswith(b" "):
        raise lines.error("neither a space and data, nor DATA=END")
    text = text[1:]
    if not printed:
        if HEX.fullmatch(text) is None:
            raise lines.error("not hexadecimal, two digits to a byte")
        return bytes.fromhex(text.decode())
    if any(match[1] is None and not match[2] for match in PRINTED.finditer(text)):
        # LMDB 0.9 prints a backslash as it is, so that escapes cannot be told from what they say.
        raise lines.error("a backslash that begins no escape: dump it without -p")
    return PRINTED.sub(lambda match: bytes.fromhex(match[1].decode()) if match[1] else b"\\", text)


class MdbWriter:
    """Pairs for mdb_load, as bytevalue; the inverse of read_mdb.

    Args:
        pairs: how many there will be.
        pair_bytes: of all keys and values; by both mdb_load is told what room to make.
    """

    keeps_expiry = False

    def __init__(self, pairs: int, pair_bytes: int) -> None:
        # A value above 2 KiB takes whole pages, pages may be half full, and one change copies.
        room = 4 * pair_bytes + 256 * pairs + (16 << 20)
        self.head = (
            f"VERSION=3\nformat=bytevalue\ntype=btree\nmapsize={room + -room % 4096}\nHEADER=END\n"
        ).encode()
        self.tail = b"DATA=END\n"
        self.long_keys = 0

    def pair(self, key: bytes, value: bytes, _expires_ms: int | None = None) -> bytes:
        """A pair as two lines."""
        self.long_keys += len(key) > KEY_BYTES_MAX
        return f" {key.hex()}\n {value.hex()}\n".encode()

    def warn(self) -> None:
        """Tell of what mdb_load will not take."""
        if self.long_keys:
            keys = counted(self.long_keys, "key")
            verb = "has" if self.long_keys == 1 else "have"
            say(
                f"cubby: {keys} {verb} more than {KEY_BYTES_MAX} bytes: they are written, but LMDB"
                " takes no such keys, and mdb_load stops at the first one",
                always=True,
            )
