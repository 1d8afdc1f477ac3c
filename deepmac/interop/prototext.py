"""Reads protobuf's text format without a schema: fields keep their line, and none may stay unread.

A caller takes the fields it knows, with their types and defaults; `Message.finish` then refuses the rest, so
that nothing in a file is ignored without saying so.
"""

import ast
import dataclasses
import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from deepmac.core.errors import InputError

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+|\#[^\n]*)
    | (?P<newline>\n)
    | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    | (?P<scalar>-?[A-Za-z0-9_.][A-Za-z0-9_.+-]*)
    | (?P<mark>[{}<>\[\]:,;])
    """,
    re.VERBOSE,
)
_CLOSING = {"{": "}", "<": ">"}
_BOOLEANS = {
    **dict.fromkeys(("true", "True", "t", "1"), True),
    **dict.fromkeys(("false", "False", "f", "0"), False),
}


@dataclasses.dataclass(frozen=True)
class Scalar:
    """A value as written: `text`, without its quotes if it is a string."""

    text: str
    is_string: bool
    line: int


class Message:
    """The fields of one message. Taking a field marks it as read.

    Attributes:
        path: where the message is, as "model.center_net".
        line: the line it starts on.
    """

    def __init__(self, source: str, path: str, line: int):
        self.path = path
        self.line = line
        self._source = source
        self._fields: dict[str, list[Scalar | Message]] = {}
        self._asked: set[str] = set()

    def add(self, name: str, value: "Scalar | Message") -> None:
        """Appends a value to a field."""
        self._fields.setdefault(name, []).append(value)

    def message(self, name: str) -> "Message | None":
        """Takes a single message; None if it is absent."""
        value = self._single(name)
        if isinstance(value, Scalar):
            raise self.error(f"expected a message in braces, not {value.text!r}", name)
        return value

    def messages(self, name: str) -> "list[Message]":
        """Takes a repeated message."""
        values = self._take(name)
        if any(isinstance(value, Scalar) for value in values):
            raise self.error("expected messages in braces", name)
        return values

    def number(self, name: str, default: float | None = None) -> float | None:
        """Takes a floating-point number."""
        return self._scalar(name, default, _number, "a number")

    def integer(self, name: str, default: int | None = None) -> int | None:
        """Takes an integer."""
        return self._scalar(name, default, _integer, "an integer")

    def boolean(self, name: str, default: bool | None = None) -> bool | None:
        """Takes true or false."""
        return self._scalar(name, default, lambda value: _BOOLEANS[_word(value)], "true or false")

    def string(self, name: str, default: str | None = None) -> str | None:
        """Takes a quoted string."""
        return self._scalar(name, default, _string, "a quoted string")

    def choice(self, name: str, choices: Sequence[str], default: str | None = None) -> str | None:
        """Takes a value of an enumeration, by name."""
        return self._scalar(
            name, default, lambda value: choices[choices.index(_word(value))], f"one of {', '.join(choices)}"
        )

    def numbers(self, name: str) -> list[float]:
        """Takes a repeated floating-point number."""
        return self._scalars(name, _number, "numbers")

    def integers(self, name: str) -> list[int]:
        """Takes a repeated integer."""
        return self._scalars(name, _integer, "integers")

    def strings(self, name: str) -> list[str]:
        """Takes a repeated string."""
        return self._scalars(name, _string, "quoted strings")

    def options(self, defaults: dict) -> dict:
        """Takes optional fields of the types of their defaults; returns name -> value."""
        take = {bool: self.boolean, int: self.integer, float: self.number, str: self.string}
        return {name: take[type(default)](name, default) for name, default in defaults.items()}

    def only(self, **values) -> None:
        """Takes fields that, if set, must have these values, the only ones that are implemented."""
        for name, value in self.options(values).items():
            if value != values[name]:
                raise self.error(f"only {str(values[name]).lower()} is supported", name)

    def required(self, name: str) -> "Message":
        """Takes a single message that must be there."""
        found = self.message(name)
        if found is None:
            raise self.error(f"{name} is missing")
        return found

    def one_of(self, *names: str) -> "tuple[str, Message]":
        """Takes the one message of a union, with its name. Other fields must have been taken before."""
        found = [(name, message) for name in names if (message := self.message(name)) is not None]
        if not found:
            self.finish()
            raise self.error(f"{' or '.join(names)} is missing")
        if len(found) > 1:
            raise self.error(f"{found[0][0]} is set as well", found[1][0])
        return found[0]

    def skip(self, *names: str) -> list[str]:
        """Takes fields of any type, with all they hold, for nothing; returns "line N: path.field" of each."""
        skipped = []
        for name in names:
            for value in self._take(name):
                skipped.append(f"line {value.line}: {self._path_of(name)}")
                if isinstance(value, Message):
                    value.skip(*value._fields)
        return skipped

    def error(self, problem: str, name: str | None = None) -> InputError:
        """An error at a field, or at the message itself: "file:line: path: problem"."""
        values = self._fields.get(name)
        line = values[-1].line if values else self.line
        return InputError(f"{self._source}:{line}: {self._path_of(name)}: {problem}")

    def finish(self) -> None:
        """Refuses fields, here or in messages inside, that nobody took.

        Raises:
            InputError: naming the first such field and its line.
        """
        unread = sorted(self._unread(), key=lambda found: found[0])
        if unread:
            _, message, name = unread[0]
            near = difflib.get_close_matches(name, message._asked, n=1, cutoff=0.75)
            hint = f"did you mean {near[0]}?" if near else "remove it if the model does not depend on it"
            raise message.error(f"unknown or unsupported field; {hint}", name)

    def _unread(self):
        for name, values in self._fields.items():
            if name not in self._asked:
                yield values[0].line, self, name
            else:
                for value in values:
                    if isinstance(value, Message):
                        yield from value._unread()

    def _path_of(self, name):
        return ".".join(part for part in (self.path, name) if part)

    def _take(self, name):
        self._asked.add(name)
        return self._fields.get(name, [])

    def _single(self, name):
        values = self._take(name)
        if len(values) > 1:
            raise self.error("the field is set twice", name)
        return values[0] if values else None

    def _scalar(self, name, default, convert, expected):
        value = self._single(name)
        return default if value is None else self._convert(name, value, convert, expected)

    def _scalars(self, name, convert, expected):
        return [self._convert(name, value, convert, expected) for value in self._take(name)]

    def _convert(self, name, value, convert, expected):
        if isinstance(value, Message):
            raise self.error(f"expected {expected}, not a message in braces", name)
        try:
            return convert(value)
        except (ValueError, KeyError) as error:
            raise self.error(f"expected {expected}, not {value.text!r}", name) from error


def read_prototext(path: str | os.PathLike) -> Message:
    """Reads a text-format file.

    Raises:
        InputError: the file is missing, no text, or malformed; with the line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text: {error}") from error
    return parse_prototext(text, str(path))


def parse_prototext(text: str, source: str = "text") -> Message:
    """Parses text format; `source` is the name errors give."""
    tokens = _Tokens(text, source)
    message = Message(source, path="", line=1)
    while tokens.peek() is not None:
        _read_field(tokens, message, source)
    return message


def _string(value: Scalar) -> str:
    if not value.is_string:
        raise ValueError(value.text)
    return value.text


def _word(value: Scalar) -> str:
    if value.is_string:
        raise ValueError(value.text)
    return value.text


def _integer(value: Scalar) -> int:
    return int(_word(value), 0)


def _number(value: Scalar) -> float:
    return float(re.sub(r"(?<=[0-9.])[fF]$", "", _word(value)))  # "1.5f" is allowed


class _Tokens:
    """The tokens of a text, one ahead: (kind, text, line)."""

    def __init__(self, text: str, source: str):
        self._source = source
        self._tokens = list(self._split(text))
        self._position = 0

    def _split(self, text):
        line, position = 1, 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise InputError(f"{self._source}:{line}: unexpected {text[position]!r}")
            if match.lastgroup not in ("space", "newline"):
                yield match.lastgroup, match.group(), line
            line += match.lastgroup == "newline"
            position = match.end()

    def peek(self):
        """The text of the next token, None at the end."""
        return self._tokens[self._position][1] if self._position < len(self._tokens) else None

    def next(self, *kinds: str):
        """Takes the next token; it must be of one of the kinds given, if any."""
        if self._position == len(self._tokens):
            line = self._tokens[-1][2] if self._tokens else 1
            raise InputError(f"{self._source}:{line}: the file ends too early: is a closing brace missing?")
        kind, text, line = self._tokens[self._position]
        if kinds and kind not in kinds:
            raise InputError(f"{self._source}:{line}: unexpected {text!r}")
        self._position += 1
        return kind, text, line

    def expect(self, mark: str) -> None:
        """Takes the next token, which must be this mark."""
        _, text, line = self.next()
        if text != mark:
            raise InputError(f"{self._source}:{line}: expected {mark!r}, not {text!r}")

    def skip(self, *marks: str) -> bool:
        """Takes the next token if it is one of these marks."""
        found = self.peek() in marks and self._tokens[self._position][0] == "mark"
        self._position += found
        return found


def _read_field(tokens, message, source):
    """Reads "name: value", "name: [value, ...]" or "name { ... }" into the message."""
    _, name, line = tokens.next("scalar")
    has_colon = tokens.skip(":")
    path = f"{message.path}.{name}".lstrip(".")
    if tokens.skip("["):
        if not tokens.skip("]"):
            message.add(name, _read_value(tokens, path, source))
            while tokens.skip(","):
                message.add(name, _read_value(tokens, path, source))
            tokens.expect("]")
    elif has_colon or tokens.peek() in _CLOSING:
        message.add(name, _read_value(tokens, path, source))
    else:
        raise InputError(f"{source}:{line}: {path}: expected a colon and a value, or a message in braces")
    tokens.skip(",", ";")


def _read_value(tokens, path, source):
    kind, text, line = tokens.next("scalar", "string", "mark")
    if kind == "string":
        text = _unquote(text, line, source)
        while tokens.peek() is not None and tokens.peek()[0] in "\"'":
            text += _unquote(tokens.next("string")[1], line, source)
        return Scalar(text, True, line)
    if kind == "scalar":
        return Scalar(text, False, line)
    if text not in _CLOSING:
        raise InputError(f"{source}:{line}: {path}: unexpected {text!r}")
    message = Message(source, path, line)
    while not tokens.skip(_CLOSING[text]):
        _read_field(tokens, message, source)
    return message


def _unquote(text, line, source):
    try:
        # The escapes of text format are those of Python's byte strings, UTF-8 otherwise.
        escaped = "".join(c if ord(c) < 128 else "".join(f"\\x{b:02x}" for b in c.encode()) for c in text)
        return ast.literal_eval(f"b{escaped}").decode("utf-8")
    except (SyntaxError, ValueError) as error:
        raise InputError(f"{source}:{line}: {text} is no valid string") from error
