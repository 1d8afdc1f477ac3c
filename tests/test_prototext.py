"""The text-format reader, against protobuf's own writer and against malformed text."""

import pytest
from google.protobuf import descriptor_pb2, text_format
from hypothesis import given
from hypothesis import strategies as st

from deepmac.core.errors import InputError
from deepmac.interop.prototext import parse_prototext, read_prototext


def test_reads_every_notation():
    message = parse_prototext(
        """
        # a comment
        number: 1.5e-3f, count: 0x10;  # and another
        single: 'it''s' "\\x21"
        list: [1, 2,
               3]
        list: 4
        empty: []
        inner { flag: true inner: < name: "x" > }
        inner: { flag: False }
        """
    )
    assert message.number("number") == 1.5e-3
    assert message.integer("count") == 16
    assert message.string("single") == "its!"
    assert message.integers("list") == [1, 2, 3, 4]
    assert message.integers("empty") == []
    first, second = message.messages("inner")
    assert (first.boolean("flag"), second.boolean("flag")) == (True, False)
    assert first.message("inner").string("name") == "x"
    message.finish()


@given(st.text(), st.lists(st.integers(-(2**31), 2**31 - 1)), st.floats(allow_nan=False, width=64))
def test_reads_what_protobuf_writes(text, integers, number):
    written = descriptor_pb2.UninterpretedOption(string_value=text.encode(), double_value=number)
    location = descriptor_pb2.SourceCodeInfo.Location(path=integers, leading_comments=text)
    for as_one_line in (False, True):
        message = parse_prototext(text_format.MessageToString(written, as_one_line=as_one_line))
        assert message.string("string_value", "") == text
        assert message.number("double_value", 0.0) == number
        message = parse_prototext(
            text_format.MessageToString(location, as_one_line=as_one_line, use_short_repeated_primitives=True)
        )
        assert message.integers("path") == integers
        assert message.string("leading_comments", "") == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb {\n  c: 2\n", "text:3: the file ends too early"),
        ("a: 1\n}", "text:2: unexpected '}'"),
        ("a: 1\n\nb ? 2", "text:3: unexpected '?'"),
        ("a 1", "text:1: a: expected a colon"),
        ("a: [1 2]", "text:1: expected ']', not '2'"),
        ("a {\n b: ] }", "text:2: a.b: unexpected ']'"),
        ('a: "open', "text:1: unexpected '\"'"),
        ('a: "\\xff"', "no valid string"),
        ("a", "text:1: a: expected a colon"),
    ],
)
def test_malformed_text_names_the_line(text, expected):
    with pytest.raises(InputError) as caught:
        parse_prototext(text)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("text", "take", "expected"),
    [
        ("a: x", lambda m: m.number("a"), "text:1: a: expected a number, not 'x'"),
        ("a: 1.5", lambda m: m.integer("a"), "expected an integer, not '1.5'"),
        ('a: "1"', lambda m: m.integer("a"), "expected an integer, not '1'"),
        ("a: 2", lambda m: m.boolean("a"), "expected true or false, not '2'"),
        ("a: x", lambda m: m.string("a"), "expected a quoted string, not 'x'"),
        ("a: Z", lambda m: m.choice("a", ("X", "Y")), "expected one of X, Y, not 'Z'"),
        ("a {}", lambda m: m.number("a"), "expected a number, not a message"),
        ("a: 1", lambda m: m.message("a"), "expected a message in braces, not '1'"),
        ("a: 1", lambda m: m.messages("a"), "expected messages in braces"),
        ("a: 1\na: 2", lambda m: m.integer("a"), "text:2: a: the field is set twice"),
        ("b: 1", lambda m: m.required("a"), "a is missing"),
        ("a {} b {}", lambda m: m.one_of("a", "b"), "b: a is set as well"),
        ("c {}", lambda m: m.one_of("a", "b"), "c: unknown or unsupported field"),
        ("", lambda m: m.one_of("a", "b"), "a or b is missing"),
        ("a: true", lambda m: m.only(a=False), "a: only false is supported"),
    ],
)
def test_wrong_values_name_field_and_line(text, take, expected):
    with pytest.raises(InputError) as caught:
        take(parse_prototext(text))
    assert expected in str(caught.value)


def test_no_field_stays_unread():
    message = parse_prototext("a: 1\nb {\n  c: 1\n  kernel_sice: 3\n}\nd { e: 1 }")
    message.integer("a")
    message.message("b").options({"c": 0, "kernel_size": 3})
    assert message.skip("d", "absent") == ["line 6: d"]
    with pytest.raises(InputError, match=r"text:4: b\.kernel_sice: .*did you mean kernel_size"):
        message.finish()


def test_the_first_unread_field_is_named():
    message = parse_prototext("b {\n  c: 1\n}\na: 1\n")
    message.message("b")
    with pytest.raises(InputError, match=r"text:2: b\.c: unknown"):
        message.finish()


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="missing: No such file"):
        read_prototext(tmp_path / "missing")
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    with pytest.raises(InputError, match="binary is no text"):
        read_prototext(tmp_path / "binary")
