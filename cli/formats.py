"""The text forms of pairs: JSON lines, deb822 stanzas, and by name also csv, tsv and mdb.

Pure text: knows no store.  Input that does not parse is an InputError naming file and line, and
nothing of it is returned.
"""

import base64
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from cubbydb.cli.lines import Lines, Record
from cubbydb.cli.mdb import MdbWriter, read_mdb
from cubbydb.cli.tables import TableWriter, read_table

__all__ = [
    "FORMATS",
    "OUTPUT_FORMATS",
    "Writer",
    "key_as_json",
    "pair_as_json",
    "read_deb822",
    "read_jsonl",
    "reader_of",
    "writer_of",
]

# JSON lines --------------------------------------------------------------------------------------

EXPIRY_MS_END = (1 << 64) - 1
_json_text = json.JSONEncoder(ensure_ascii=False).encode


def pair_as_json(key: bytes, value: bytes, expires_ms: int | None = None) -> bytes:
    """A pair as one line: {"k": ..., "v": ...}; "k_b64" and "v_b64" for what is not UTF-8.

    One that expires also has "expires_ms", in milliseconds since 1970 (UTC).
    """
    expiry = "" if expires_ms is None else f', "expires_ms": {expires_ms}'
    return f"{{{_json_field('k', key)}, {_json_field('v', value)}{expiry}}}\n".encode()


def key_as_json(key: bytes) -> bytes:
    """A key as one line: {"k": ...}, or {"k_b64": ...}."""
    return f"{{{_json_field('k', key)}}}\n".encode()


def _json_field(name: str, content: bytes) -> str:
    try:
        return f'"{name}": {_json_text(content.decode())}'
    except UnicodeDecodeError:
        return f'"{name}_b64": "{base64.b64encode(content).decode()}"'


def read_jsonl(lines: Lines) -> Iterator[Record]:
    """The pairs of JSON lines, the inverse of pair_as_json; empty lines are skipped."""
    for line in lines:
        if line.isspace():
            continue
        try:
            fields = json.loads(line.decode(), object_pairs_hook=tuple)
        except UnicodeDecodeError as error:
            raise lines.error(f"not UTF-8 at byte {error.start + 1} of the line") from None
        except json.JSONDecodeError as error:
            text = f"not JSON: {error.msg} at character {error.colno}"
            raise lines.error(text) from None
        except (ValueError, RecursionError):
            raise lines.error("not JSON that a pair could be") from None
        # Only objects become tuples, of tuples (name, content).
        contents = dict(fields) if isinstance(fields, tuple) else {}
        expires_ms = contents.pop("expires_ms", None)
        has_expiry = expires_ms is not None
        if not isinstance(fields, tuple) or len(fields) != 2 + has_expiry:
            raise lines.error('not an object of two fields, "k" and "v"')
        if has_expiry and not (type(expires_ms) is int and 0 < expires_ms < EXPIRY_MS_END):
            raise lines.error('"expires_ms" is not a number of milliseconds since 1970')
        key = _field_bytes(lines, contents, "k")
        value = _field_bytes(lines, contents, "v")
        yield lines.record(key, value, lines.number, expires_ms)


def _field_bytes(lines: Lines, contents: dict[str, object], name: str) -> bytes:
    for field in (name, f"{name}_b64"):
        content = contents.get(field)
        if isinstance(content, str):
            try:
                if field == name:
                    return content.encode()
                return base64.b64decode(content, validate=True)
            except UnicodeEncodeError:
                raise lines.error(f'"{field}" has half a surrogate pair') from None
            except ValueError:
                raise lines.error(f'"{field}" is not base64') from None
        if field in contents:
            raise lines.error(f'"{field}" is not a string')
    raise lines.error(f'no field "{name}" or "{name}_b64"')


# deb822 ------------------------------------------------------------------------------------------

FIELD = re.compile(rb"([!-,.-9;-~][!-9;-~]*):(.*)", re.DOTALL)
KEY_FIELDS = (b"package", b"version", b"architecture")


def read_deb822(lines: Lines) -> Iterator[Record]:
    """The stanzas of a Debian control file such as a package index.

    The value is the stanza, byte for byte, the end of its last line included and the blank lines
    around it not.  The key is its Package field.  Where that came before in the same input,
    /VERSION is appended, where that came before too, also /ARCHITECTURE, and then /2, /3 and so
    on: no stanza takes another's place.
    """
    seen: set[bytes] = set()
    stanza: list[bytes] = []
    fields: dict[bytes, bytes] = {}
    for line in lines:
        if line in (b"\n", b"\r\n"):
            if stanza:
                yield _stanza_record(lines, stanza, fields, seen, lines.number - 1)
                stanza, fields = [], {}
            continue
        if line[0] not in b" \t#":
            _note_field(lines, line, fields)
        elif not stanza and line[0] != ord("#"):
            raise lines.error("a stanza begins with a continuation line")
        stanza.append(line)
    if stanza:
        yield _stanza_record(lines, stanza, fields, seen, lines.number)


def _note_field(lines: Lines, line: bytes, fields: dict[bytes, bytes]) -> None:
    """Check a line that begins a field, and keep the field if the key depends on it."""
    match = FIELD.fullmatch(line)
    if match is None:
        raise lines.error("neither a field (Name: content) nor a continuation line")
    name = match[1].lower()
    if name in KEY_FIELDS:
        if name in fields:
            raise lines.error(f"a second {match[1].decode()} field in one stanza")
        fields[name] = match[2].strip()


def _stanza_record(
    lines: Lines, stanza: list[bytes], fields: dict[bytes, bytes], seen: set[bytes], last: int
) -> Record:
    if not fields.get(b"package"):
        first = last - len(stanza) + 1
        raise lines.error("a stanza without a Package field begins here", first)
    key = _free_key(fields, seen)
    seen.add(key)
    return lines.record(key, b"".join(stanza), last)


def _free_key(fields: dict[bytes, bytes], seen: set[bytes]) -> bytes:
    key = b""
    for name in KEY_FIELDS:
        key = b"/".join(filter(None, [key, fields.get(name)]))
        if key not in seen:
            return key
    number = 2
    while b"%s/%d" % (key, number) in seen:
        number += 1
    return b"%s/%d" % (key, number)


# By name -----------------------------------------------------------------------------------------

DELIMITERS = {"csv": ",", "tsv": "\t"}
PLAIN_READERS: dict[str, Callable[[Lines], Iterator[Record]]] = {
    "jsonl": read_jsonl,
    "mdb": read_mdb,
    "deb822": read_deb822,
}
OUTPUT_FORMATS = ("jsonl", "csv", "tsv", "mdb")


class Writer(Protocol):
    """Pairs as text: what comes first, each pair, and what comes last."""

    head: bytes
    tail: bytes
    keeps_expiry: bool

    def pair(self, key: bytes, value: bytes, expires_ms: int | None) -> bytes:
        """A pair as text; without its expiry, if the format has no place for one."""
        ...


class JsonWriter:
    """Pairs as JSON lines."""

    head = b""
    tail = b""
    keeps_expiry = True
    pair = staticmethod(pair_as_json)


def reader_of(
    name: str, key_encoding: str, value_encoding: str
) -> Callable[[Lines], Iterator[Record]]:
    """What reads a format; ValueError if encodings are asked of one that has its own."""
    if name in DELIMITERS:
        return partial(
            read_table,
            delimiter=DELIMITERS[name],
            key_encoding=key_encoding,
            value_encoding=value_encoding,
        )
    refuse_encodings(name, key_encoding, value_encoding)
    return PLAIN_READERS[name]


def writer_of(
    name: str, key_encoding: str, value_encoding: str, pairs: int, pair_bytes: int
) -> Writer:
    """What writes a format; pairs and pair_bytes say how much there is to be."""
    if name in DELIMITERS:
        return TableWriter(DELIMITERS[name], key_encoding, value_encoding)
    refuse_encodings(name, key_encoding, value_encoding)
    return MdbWriter(pairs, pair_bytes) if name == "mdb" else JsonWriter()


def refuse_encodings(name: str, *encodings: str) -> None:
    """A format that can write every byte needs no encoding, and would not be what it is."""
    if set(encodings) != {"utf8"}:
        raise ValueError(
            f"--key-encoding and --value-encoding are for csv and tsv: {name} writes every byte"
            " in its own way"
        )


# Those that can be loaded, with text in the tables.
FORMATS = {name: reader_of(name, "utf8", "utf8") for name in (*PLAIN_READERS, *DELIMITERS)}
