"""csv and tsv: a header line, then one pair per row, quoted as Python's module csv does it."""

import csv
import io
import sys
from collections.abc import Iterator

from cubbydb.cli.encodings import decode_text, encode_text
from cubbydb.cli.lines import Lines, Record
from cubbydb.cli.report import InputError

__all__ = ["TableWriter", "read_table"]

COLUMNS = ["key", "value"]


def read_table(
    lines: Lines, delimiter: str, key_encoding: str, value_encoding: str
) -> Iterator[Record]:
    """The pairs of a table; its header names the columns key and value, in either order."""
    csv.field_size_limit(sys.maxsize)
    rows = csv.reader(_texts(lines), delimiter=delimiter, strict=True)
    header = _next_row(lines, rows)
    if header is None:
        return
    if sorted(header) != COLUMNS:
        raise lines.error(f"the header is not {delimiter.join(COLUMNS)!r}")
    key_index = header.index("key")
    while (row := _next_row(lines, rows)) is not None:
        if not row:
            continue
        if len(row) != 2:
            raise lines.error(f"a row of {len(row)} fields, not two")
        try:
            key = decode_text(row[key_index], key_encoding)
            value = decode_text(row[1 - key_index], value_encoding)
        except ValueError as error:
            raise lines.error(str(error)) from None
        yield lines.record(key, value, lines.number)


def _next_row(lines: Lines, rows: Iterator[list[str]]) -> list[str] | None:
    try:
        return next(rows, None)
    except csv.Error as error:
        raise lines.error(f"not a table: {error}") from None


def _texts(lines: Lines) -> Iterator[str]:
    """The lines as text; a byte order mark in front of the first one is left out."""
    for line in lines:
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise lines.error(f"not UTF-8 at byte {error.start + 1} of the line") from None
        yield text.removeprefix("\ufeff") if lines.number == 1 else text


class TableWriter:
    """Pairs as rows, ended by a line feed alone; the inverse of read_table."""

    keeps_expiry = False

    def __init__(self, delimiter: str, key_encoding: str, value_encoding: str) -> None:
        self._encodings = {"key": key_encoding, "value": value_encoding}
        self._out = io.StringIO(newline="")
        self._plain = csv.writer(self._out, delimiter=delimiter, lineterminator="\n")
        self._quoted = csv.writer(
            self._out, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL
        )
        self.head = f"{delimiter.join(COLUMNS)}\n".encode()
        self.tail = b""

    def pair(self, key: bytes, value: bytes, _expires_ms: int | None = None) -> bytes:
        """A pair as a row."""
        row = [self._text("key", key), self._text("value", value)]
        # Whether carriage returns alone are quoted depends on the version of Python.
        writer = self._quoted if any("\r" in field for field in row) else self._plain
        self._out.seek(0)
        self._out.truncate()
        writer.writerow(row)
        return self._out.getvalue().encode()

    def _text(self, what: str, content: bytes) -> str:
        try:
            return encode_text(content, self._encodings[what])
        except ValueError as error:
            text = f"the {what} {error}: use --{what}-encoding escape, hex or base64"
            raise InputError(text) from None
