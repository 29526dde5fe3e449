"""The text forms of pairs and keys: nothing is lost, and nothing wrong is taken for right."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cubbydb.cli.encodings import (
    KEY_ENCODINGS,
    decode_key,
    decode_text,
    encode_key,
    encode_text,
)
from cubbydb.cli.formats import (
    FORMATS,
    OUTPUT_FORMATS,
    pair_as_json,
    read_deb822,
    read_jsonl,
    reader_of,
    writer_of,
)
from cubbydb.cli.lines import Lines
from cubbydb.cli.report import InputError


def lines_of(content: bytes) -> Lines:
    return Lines(io.BytesIO(content), "input")


def jsonl(content: bytes) -> list[tuple[bytes, bytes]]:
    return [(key, value) for key, value, *_ in read_jsonl(lines_of(content))]


def deb822(content: bytes) -> list[tuple[bytes, bytes]]:
    return [(key, value) for key, value, *_ in read_deb822(lines_of(content))]


# JSON lines --------------------------------------------------------------------------------------


def test_text_is_written_as_text():
    assert pair_as_json(b"key", "größe\n".encode()) == '{"k": "key", "v": "größe\\n"}\n'.encode()


def test_what_is_not_utf8_is_written_as_base64():
    assert pair_as_json(b"\xff", b"") == b'{"k_b64": "/w==", "v": ""}\n'
    assert pair_as_json(b"k", b"\xc3(") == b'{"k": "k", "v_b64": "wyg="}\n'


@given(st.binary(min_size=1), st.binary() | st.text().map(str.encode))
def test_every_pair_comes_back_byte_for_byte(key, value):
    line = pair_as_json(key, value)
    assert line.count(b"\n") == 1
    assert jsonl(line) == [(key, value)]


def test_every_byte_and_every_control_character_comes_back():
    pairs = [(bytes([byte]), bytes([byte]) * 3) for byte in range(256)]
    pairs += [("\u2028\u2029\x85\ufeff\U0001f600\x00".encode(), b"\r\n")]
    assert jsonl(b"".join(pair_as_json(*pair) for pair in pairs)) == pairs


def test_line_ends_of_any_kind_and_empty_lines_are_taken():
    assert jsonl(b'{"k": "a", "v": "1"}\r\n\n  \n{"v": "2", "k": "b"}') == [
        (b"a", b"1"),
        (b"b", b"2"),
    ]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{", "not JSON"),
        (b"nonsense", "not JSON"),
        (b'{"k": "a"} {"v": "b"}', "not JSON"),
        (b'{"k": "\xff", "v": ""}', "not UTF-8 at byte 8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"1" * 10_000, "not JSON"),
        (b"[]", "not an object"),
        (b'[["k", "a"], ["v", "b"]]', "not an object"),
        (b'"k"', "not an object"),
        (b"{}", "not an object"),
        (b'{"k": "a"}', "not an object of two fields"),
        (b'{"k": "a", "v": "b", "x": "c"}', "not an object of two fields"),
        (b'{"k": "a", "k": "b"}', 'no field "v" or "v_b64"'),
        (b'{"k": "a", "k_b64": "YQ=="}', 'no field "v" or "v_b64"'),
        (b'{"k": 1, "v": "b"}', '"k" is not a string'),
        (b'{"k": "a", "v": null}', '"v" is not a string'),
        (b'{"k": "a", "v": {"k": "a", "v": "b"}}', '"v" is not a string'),
        (b'{"k": "a", "v_b64": "YQ"}', '"v_b64" is not base64'),
        (b'{"k": "a", "v_b64": "Y Q=="}', '"v_b64" is not base64'),
        ('{"k": "a", "v_b64": "ä"}'.encode(), '"v_b64" is not base64'),
        (b'{"k": "\\ud800", "v": "b"}', "half a surrogate pair"),
        (b'{"k": "", "v": "b"}', "a key has 1 to 65,535 bytes, this one 0"),
        (b'{"k": "%s", "v": "b"}' % (b"k" * 65_536), "this one 65,536"),
    ],
)
def test_what_is_wrong_in_a_line_is_named(line, complaint):
    records = read_jsonl(lines_of(b'{"k": "a", "v": "b"}\n' + line + b"\n"))
    assert next(records).line_number == 1
    with pytest.raises(InputError) as caught:
        next(records)
    assert str(caught.value).startswith("input:2: ")
    assert complaint in str(caught.value)


# deb822 ------------------------------------------------------------------------------------------

STANZA = b"Package: bash\nVersion: 5.2\nDescription: shell\n long\n .\n\ttext: x\n"


def test_a_stanza_is_kept_byte_for_byte_under_its_package():
    assert deb822(STANZA) == [(b"bash", STANZA)]


def test_blank_lines_separate_stanzas_however_many_there_are():
    other = b"Package: zsh\n"
    content = b"\n\n" + STANZA + b"\n\n\n" + other + b"\n\n"
    assert deb822(content) == [(b"bash", STANZA), (b"zsh", other)]


def test_a_missing_last_line_end_is_not_made_up():
    assert deb822(b"Package: a\n\nPackage: b") == [(b"a", b"Package: a\n"), (b"b", b"Package: b")]


def test_carriage_returns_are_kept_and_no_part_of_the_key():
    content = b"Package: a\r\nTag: x\r\n\r\nPackage: b\r\n"
    assert deb822(content) == [(b"a", b"Package: a\r\nTag: x\r\n"), (b"b", b"Package: b\r\n")]


def test_a_line_of_spaces_belongs_to_its_stanza():
    content = b"Package: a\nDescription: x\n  \n y\n"
    assert deb822(content) == [(b"a", content)]


def test_bytes_that_are_not_text_are_kept():
    content = b"Package: a\nX: \xff\x00\x0c\x85\n \xfe\n"
    assert deb822(content) == [(b"a", content)]


def test_comments_and_case_of_field_names_do_not_matter():
    content = b"# comment\npackage:a\n"
    assert deb822(content) == [(b"a", content)]


def test_a_repeated_package_takes_no_other_stanzas_place():
    stanzas = [
        b"Package: a\nVersion: 1\nArchitecture: amd64\n",
        b"Package: a\nVersion: 2\nArchitecture: amd64\n",
        b"Package: a\nVersion: 2\nArchitecture: i386\n",
        b"Package: a\nVersion: 2\nArchitecture: i386\nTag: x\n",
        b"Package: a\nVersion: 2\nArchitecture: i386\nTag: x\n",
        b"Package: b\n",
        b"Package: b\n",
    ]
    assert deb822(b"\n".join(stanzas)) == list(
        zip(
            [b"a", b"a/2", b"a/2/i386", b"a/2/i386/2", b"a/2/i386/3", b"b", b"b/2"],
            stanzas,
            strict=True,
        )
    )


def test_an_empty_input_has_no_records():
    assert deb822(b"") == []
    assert deb822(b"\n\n") == []
    assert jsonl(b"") == []


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"Version: 1\nTag: x\n\nPackage: b\n", "input:3: a stanza without a Package field"),
        (b"Package: \n", "input:3: a stanza without a Package field"),
        (b" continued\n", "input:3: a stanza begins with a continuation line"),
        (b"Package: b\nnonsense\n", "input:4: neither a field"),
        (b"Package: b\n-----BEGIN: x\n", "input:4: neither a field"),
        (b"Package: b\nTag x: y\n", "input:4: neither a field"),
        (b"Package: b\nTag: y\npackage: c\n", "input:5: a second package field"),
        (b"Package: " + b"k" * 65_536 + b"\n", "input:3: a key has 1 to 65,535 bytes"),
    ],
)
def test_what_is_wrong_in_a_stanza_is_named(content, complaint):
    records = read_deb822(lines_of(b"Package: a\n\n" + content))
    assert next(records).key == b"a"
    with pytest.raises(InputError) as caught:
        next(records)
    assert str(caught.value).startswith(complaint)


def test_lines_count_what_has_been_read():
    lines = lines_of(b"Package: a\n\nPackage: b\nTag: x\n\n\nPackage: c")
    numbers = [record.line_number for record in read_deb822(lines)]
    assert numbers == [1, 4, 7]
    assert (lines.number, lines.size) == (7, 42)


# Keys on the command line ------------------------------------------------------------------------


@given(st.binary())
def test_keys_in_hex_and_base64_come_back(key):
    for encoding in ("hex", "base64", "escape"):
        assert decode_key(encode_key(key, encoding).decode(), encoding) == key


def test_keys_in_utf8_are_themselves():
    assert decode_key("größe", "utf8") == "größe".encode()
    assert encode_key(b"\xff\n", "utf8") == b"\xff\n"


@pytest.mark.parametrize(
    ("text", "encoding", "complaint"),
    [
        ("xyz", "hex", "not hexadecimal"),
        ("YQ", "base64", "not base64"),
        ("a\\q", "escape", "begins no escape"),
        ("a\\", "escape", "begins no escape"),
        ("\\x4", "escape", "begins no escape"),
        ("\udcff", "utf8", "not UTF-8: give it as --key-encoding hex"),
    ],
)
def test_a_key_that_cannot_be_read_is_a_value_error(text, encoding, complaint):
    assert encoding in KEY_ENCODINGS
    with pytest.raises(ValueError, match=complaint):
        decode_key(text, encoding)


def test_escape_is_printable_ascii_and_takes_what_people_write():
    assert encode_key(bytes(range(256)), "escape").isascii()
    assert encode_text(b"a\\b\n\xff ~", "escape") == r"a\\b\x0a\xff ~"
    assert decode_text(r"a\\b\n\r\t\xFFü", "escape") == b"a\\b\n\r\t\xff" + "ü".encode()


# Tables and mdb ----------------------------------------------------------------------------------


def written(name: str, pairs: list[tuple[bytes, bytes]], *encodings: str) -> bytes:
    writer = writer_of(name, *(encodings or ("utf8", "utf8")), len(pairs), 0)
    return b"".join([writer.head, *(writer.pair(*pair) for pair in pairs), writer.tail])


def read(name: str, content: bytes, *encodings: str) -> list[tuple[bytes, bytes]]:
    records = reader_of(name, *(encodings or ("utf8", "utf8")))(lines_of(content))
    return [(key, value) for key, value, *_ in records]


@given(st.lists(st.tuples(st.binary(min_size=1), st.binary())))
@pytest.mark.parametrize("name", OUTPUT_FORMATS)
def test_every_format_gives_back_every_byte(name, pairs):
    for encodings in (("hex", "base64"), ("escape", "escape"), ("base64", "hex")):
        chosen = encodings if name in ("csv", "tsv") else ("utf8", "utf8")
        content = written(name, pairs, *chosen)
        assert read(name, content, *chosen) == pairs
        assert written(name, read(name, content, *chosen), *chosen) == content


@given(st.lists(st.tuples(st.text(min_size=1), st.text())))
@pytest.mark.parametrize("name", ["csv", "tsv"])
def test_tables_give_back_every_text(name, texts):
    pairs = [(key.encode(), value.encode()) for key, value in texts]
    assert read(name, written(name, pairs)) == pairs


def test_tables_give_back_line_ends_quotes_and_control_characters():
    values = [
        b"\r",
        b"\n",
        b"\r\n",
        b"a\rb",
        b'"',
        b'""',
        b",",
        b"\t",
        b"\0",
        b"",
        b" x ",
        b"\xc2\x85",
    ]
    pairs = [(b"key" + value, value) for value in values]
    for name in ("csv", "tsv"):
        assert read(name, written(name, pairs)) == pairs


def test_a_table_is_what_others_write():
    assert written("csv", [(b"a", b'x,"y"'), (b"b", b"")]) == b'key,value\na,"x,""y"""\nb,\n'
    content = b'\xef\xbb\xbfvalue,key\r\n1,a\r\n\r\n"2\r\n3",b\r\n'
    assert read("csv", content) == [(b"a", b"1"), (b"b", b"2\r\n3")]
    assert read("tsv", b"key\tvalue\na,b\t1\n") == [(b"a,b", b"1")]


def test_a_table_takes_long_fields_and_counts_lines():
    value = b"x" * 300_000 + b"\n" * 3
    content = written("csv", [(b"a", value), (b"b", b"")])
    numbers = [record.line_number for record in FORMATS["csv"](lines_of(content))]
    assert numbers == [5, 6]


def test_a_table_of_what_is_not_utf8_names_the_option():
    with pytest.raises(InputError, match=r"value b'\\xff' is not UTF-8: use --value-encoding"):
        written("csv", [(b"a", b"\xff")])


def test_mdb_is_read_in_both_forms():
    printed = b"VERSION=3\nformat=print\ntype=btree\nHEADER=END\n a\\\\\\0a\\ff\n \nDATA=END\n"
    assert read("mdb", printed) == [(b"a\\\n\xff", b"")]
    plain = b"VERSION=3\nHEADER=END\n 6A6b\r\n 00\r\nDATA=END\r\n\n"
    assert read("mdb", plain) == [(b"jk", b"\0")]


def test_unknown_headers_of_mdb_are_warned_about(capsys):
    content = b"VERSION=3\nmapsize=1\nmaxreaders=2\nnonsense=5\ntype=hash\nHEADER=END\nDATA=END\n"
    assert read("mdb", content) == []
    assert capsys.readouterr().err == "cubby: input:4: unknown header 'nonsense' ignored\n"
