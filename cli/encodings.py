r"""The text forms of single keys and values: utf8, hex, base64, and escape.

escape is printable ASCII as it is, \\ for a backslash, and \xhh for every other byte.
"""

import base64
import re

import click

__all__ = [
    "KEY_ENCODINGS",
    "decode_key",
    "decode_text",
    "encode_key",
    "encode_text",
    "key_encoding_option",
    "value_encoding_option",
]

KEY_ENCODINGS = ("utf8", "hex", "base64", "escape")

key_encoding_option = click.option(
    "--key-encoding",
    type=click.Choice(KEY_ENCODINGS),
    default="utf8",
    show_default=True,
    help="How keys are written.",
)
value_encoding_option = click.option(
    "--value-encoding",
    type=click.Choice(KEY_ENCODINGS),
    default="utf8",
    show_default=True,
    help="How values are written.",
)

ESCAPED = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(.?))", re.DOTALL)
TO_ESCAPE = re.compile(rb"[^ -\[\]-~]")
LETTERS = {"\\": b"\\", "n": b"\n", "r": b"\r", "t": b"\t"}


def decode_text(text: str, encoding: str) -> bytes:
    """The bytes that a text stands for; ValueError is a clause that says what is wrong with it."""
    if encoding == "hex":
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise ValueError(f"{shortened(text)} is not hexadecimal") from None
    if encoding == "base64":
        try:
            return base64.b64decode(text, validate=True)
        except ValueError:
            raise ValueError(f"{shortened(text)} is not base64") from None
    if encoding == "escape":
        return unescape(text)
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{shortened(text)} is not UTF-8") from None


def encode_text(content: bytes, encoding: str) -> str:
    """The text that stands for some bytes; ValueError if, as utf8, there is none."""
    if encoding == "utf8":
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise ValueError(f"{shortened(content)} is not UTF-8") from None
    return encode_key(content, encoding).decode()


def decode_key(text: str, encoding: str, what: str = "key") -> bytes:
    """The bytes of a key, or value, given on the command line."""
    try:
        return decode_text(text, encoding)
    except ValueError as error:
        if encoding != "utf8":
            raise
        better = f"the {what} is not UTF-8: give it as --{what}-encoding hex"
        raise ValueError(better) from error


def encode_key(key: bytes, encoding: str) -> bytes:
    """A key, or value, as text to print; as utf8 its bytes are left as they are."""
    if encoding == "hex":
        return key.hex().encode()
    if encoding == "base64":
        return base64.b64encode(key)
    if encoding == "escape":
        return TO_ESCAPE.sub(_escape, key)
    return key


def _escape(match: re.Match[bytes]) -> bytes:
    return b"\\\\" if match[0] == b"\\" else b"\\x%02x" % ord(match[0])


def unescape(text: str) -> bytes:
    r"""The inverse of escape; \n, \r and \t are taken too, and characters beyond ASCII as UTF-8."""
    pieces: list[bytes] = []
    end = 0
    for match in ESCAPED.finditer(text):
        pieces.append(decode_text(text[end : match.start()], "utf8"))
        if match[1]:
            pieces.append(bytes.fromhex(match[1]))
        elif match[2] in LETTERS:
            pieces.append(LETTERS[match[2]])
        else:
            raise ValueError(f"{shortened(text)} has a backslash that begins no escape")
        end = match.end()
    pieces.append(decode_text(text[end:], "utf8"))
    return b"".join(pieces)


def shortened(content: bytes | str) -> str:
    """The content as Python writes it, cut where it is long."""
    return repr(content) if len(content) <= 60 else f"{content[:60]!r}..."
