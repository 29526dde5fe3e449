"""The text forms of keys and pairs: encodings of keys, JSON lines, and deb822 stanzas.

Pure text: knows no store.  Input that does not parse is an InputError naming file and line, and
nothing of it is returned.
"""

import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from cubbydb._native import lib
from cubbydb.cli.report import InputError

__all__ = [
    "FORMATS",
    "KEY_ENCODINGS",
    "Lines",
    "Record",
    "decode_key",
    "encode_key",
    "pair_as_json",
    "read_deb822",
    "read_jsonl",
]


class Record(NamedTuple):
    """One pair of an input, and the number of its last line, which counts from 1."""

    key: bytes
    value: bytes
    line_number: int


class Lines:
    """The lines of a binary stream, line ends included, and how much of it has been read."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self.name = name
        self.number = 0  # of the line last read, from 1
        self.size = 0  # bytes read

    def __iter__(self) -> Iterator[bytes]:
        for line in self._stream:
            self.number += 1
            self.size += len(line)
            yield line

    def error(self, text: str, number: int | None = None) -> InputError:
        """An error about a line; the last one read by default."""
        return InputError(f"{self.name}:{number or self.number}: {text}")

    def record(self, key: bytes, value: bytes, number: int) -> Record:
        """A record that ends at a line, if its sizes are ones that a store takes."""
        if not 1 <= len(key) <= lib.CUBBY_KEY_BYTES_MAX:
            limit = lib.CUBBY_KEY_BYTES_MAX
            raise self.error(f"a key has 1 to {limit:,} bytes, this one {len(key):,}", number)
        if len(value) > lib.CUBBY_VALUE_BYTES_MAX:
            limit = lib.CUBBY_VALUE_BYTES_MAX
            raise self.error(f"a value has at most {limit:,} bytes, not {len(value):,}", number)
        return Record(key, value, number)


# Keys on the command line ------------------------------------------------------------------------

KEY_ENCODINGS = ("utf8", "hex", "base64")


def decode_key(text: str, encoding: str) -> bytes:
    """The bytes of a key given as text; ValueError says what is wrong with it."""
    if encoding == "hex":
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise ValueError(f"{text!r} is not hexadecimal") from None
    if encoding == "base64":
        try:
            return base64.b64decode(text, validate=True)
        except ValueError:
            raise ValueError(f"{text!r} is not base64") from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError("the key is not UTF-8: give it as --key-encoding hex") from None


def encode_key(key: bytes, encoding: str) -> bytes:
    """A key as text to print; as utf8 its bytes are left as they are."""
    if encoding == "hex":
        return key.hex().encode()
    if encoding == "base64":
        return base64.b64encode(key)
    return key


# JSON lines --------------------------------------------------------------------------------------

_json_text = json.JSONEncoder(ensure_ascii=False).encode


def pair_as_json(key: bytes, value: bytes) -> bytes:
    """A pair as one line: {"k": ..., "v": ...}; "k_b64" and "v_b64" for what is not UTF-8."""
    return f"{{{_json_field('k', key)}, {_json_field('v', value)}}}\n".encode()


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
        if not isinstance(fields, tuple) or len(fields) != 2:
            raise lines.error('not an object of two fields, "k" and "v"')
        contents = dict(fields)
        key = _field_bytes(lines, contents, "k")
        value = _field_bytes(lines, contents, "v")
        yield lines.record(key, value, lines.number)


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


FORMATS: dict[str, Callable[[Lines], Iterator[Record]]] = {
    "jsonl": read_jsonl,
    "deb822": read_deb822,
}
