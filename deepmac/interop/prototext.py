"""Reads pipeline configs, protobuf messages as text, by a schema of the fields this library knows.

`pipeline_schema.yaml` lists these fields with their published defaults and says which are only checked, or
ignored; nothing else in a file is accepted. Protobuf parses the values. It does not tell where in the text
a field stands: that is found by a walk over the text's tokens.
"""

import dataclasses
import difflib
import functools
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from google.protobuf.message import Message

from deepmac.core.errors import InputError

_SCHEMA = Path(__file__).with_name("pipeline_schema.yaml")


@dataclasses.dataclass(frozen=True)
class Prototext:
    """A file that holds nothing but what the schema allows.

    Attributes:
        source: the file's name, for errors.
        root: the message, with the published defaults where a field is not set.
        lines: path of a field, as "train_config.data_augmentation_options[1]" -> the line it stands on.
        ignored: "line N: path" of every field that is set and has no effect here.
    """

    source: str
    root: Message
    lines: dict[str, int]
    ignored: list[str] = dataclasses.field(default_factory=list)

    def error(self, path: str, problem: str) -> InputError:
        """An error at a field, or, where it is not set, at the message around it."""
        place = path
        while place and place not in self.lines:
            place = place.rpartition(".")[0]
        return InputError(f"{self.source}:{self.lines.get(place, 1)}: {path or 'file'}: {problem}")


def read_prototext(path: str | os.PathLike) -> Prototext:
    """Reads a pipeline config.

    Raises:
        InputError: the file is missing, no text, or malformed; a field is unknown, missing, or has a value
            that is not implemented; with the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text: {error}") from error
    return parse_prototext(text, str(path))


def parse_prototext(text: str, source: str = "text") -> Prototext:
    """Parses a pipeline config; `source` is the name errors give."""
    root_class, treatments = _schema()
    root = root_class()
    try:
        lines = _lines(text, root.DESCRIPTOR, source)
        text_format.Parse(text, root)
    except text_format.ParseError as error:
        problem = str(error).partition(" : ")[2]
        raise InputError(f"{source}:{error.GetLine()}: {problem}") from error
    file = Prototext(source, root, lines)
    for missing in root.FindInitializationErrors():
        path, _, name = missing.rpartition(".")
        raise file.error(path, f"{name} is missing")
    for path, message in _messages("", root):
        for union in message.DESCRIPTOR.oneofs:
            if message.WhichOneof(union.name) is None:
                raise file.error(path, f"{' or '.join(field.name for field in union.fields)} is missing")
        for field, value in message.ListFields():
            places = [place for place, _ in _places(path, field, value)]
            treatment = treatments.get(field.full_name)
            if treatment == "ignored":
                file.ignored.extend(f"line {lines[place]}: {place}" for place in places)
            elif treatment == "only" and value != field.default_value:
                default = text_format.MessageToString(type(message)(**{field.name: field.default_value}))
                raise file.error(places[0], f"only {default.split()[1]} is supported")
    return file


def enum_name(message: Message, field: str) -> str:
    """Name of the value of an enumeration, in lower case."""
    enumeration = message.DESCRIPTOR.fields_by_name[field].enum_type
    return enumeration.values_by_number[getattr(message, field)].name.lower()


def _messages(path: str, message: Message) -> Iterator[tuple[str, Message]]:
    """A message and all that it holds, with their paths."""
    yield path, message
    for field, value in message.ListFields():
        if field.message_type:
            for place, inner in _places(path, field, value):
                yield from _messages(place, inner)


def _places(path: str, field: FieldDescriptor, value) -> list[tuple[str, Any]]:
    """The values of a field of the message at `path`, several if it is repeated, with their paths."""
    place = f"{path}.{field.name}".lstrip(".")
    if field.has_presence:  # not repeated
        return [(place, value)]
    return [(f"{place}[{index}]", item) for index, item in enumerate(value)]


def _lines(text: str, root: Descriptor, source: str) -> dict[str, int]:
    """The lines of all fields, as `Prototext.lines`.

    Raises:
        InputError: the schema does not have a field.
        text_format.ParseError: the text is malformed.
    """
    tokenizer = text_format.Tokenizer(text.splitlines())
    lines = {}

    def read_fields(descriptor, path, end):
        counts = Counter()
        while not (tokenizer.TryConsume(end) if end else tokenizer.AtEnd()):
            if tokenizer.AtEnd():
                raise tokenizer.ParseError("the file ends too early: is a closing brace missing?")
            line = tokenizer.ParseError("").GetLine()
            name = tokenizer.ConsumeIdentifier()
            place = f"{path}.{name}".lstrip(".")
            field = descriptor.fields_by_name.get(name)
            if field is None:
                near = difflib.get_close_matches(name, descriptor.fields_by_name, n=1, cutoff=0.75)
                hint = f"did you mean {near[0]}?" if near else "remove it if the model does not depend on it"
                raise InputError(f"{source}:{line}: {place}: unknown or unsupported field; {hint}")
            tokenizer.TryConsume(":")
            is_list = tokenizer.TryConsume("[")
            while not (is_list and tokenizer.TryConsume("]")):
                index = "" if field.has_presence else f"[{counts[name]}]"
                counts[name] += 1
                lines[place + index] = line
                read_value(field, place + index)
                tokenizer.TryConsume(",")
                if not is_list:
                    break
            tokenizer.TryConsume(";")

    def read_value(field, place):
        if not field.message_type:
            quotes = ("'", '"')
            is_string = tokenizer.token.startswith(quotes)
            tokenizer.NextToken()
            while is_string and tokenizer.token.startswith(quotes):  # strings side by side are one
                tokenizer.NextToken()
        elif tokenizer.TryConsume("<"):
            read_fields(field.message_type, place, ">")
        else:
            tokenizer.Consume("{")
            read_fields(field.message_type, place, "}")

    read_fields(root, "", "")
    return lines


@functools.cache
def _schema() -> tuple[type[Message], dict[str, str]]:
    """The class of a whole file; and full name of a field -> its treatment, "only" or "ignored"."""
    types = yaml.safe_load(_SCHEMA.read_text(encoding="utf-8"))
    file = descriptor_pb2.FileDescriptorProto(name="deepmac/pipeline.proto", package="deepmac")
    treatments = {}
    for type_name, content in types.items():
        message = file.message_type.add(name=type_name)
        if isinstance(content, list):  # in a message of its own, for names of values may occur twice
            values = [{"name": name, "number": number} for number, name in enumerate(content)]
            message.enum_type.add(name="Value", value=values)
            continue
        for number, (name, declaration) in enumerate(content.items(), 1):
            words, _, default = declaration.partition(" = ")
            *labels, kind = words.split()
            field = message.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
            if kind in types:
                is_enum = isinstance(types[kind], list)
                field.type_name = f".deepmac.{kind}.Value" if is_enum else f".deepmac.{kind}"
            else:
                field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
            if default:
                field.default_value = default
            for label in labels:
                if label in ("required", "repeated"):
                    field.label = FieldDescriptorProto.Label.Value(f"LABEL_{label.upper()}")
                elif label == "oneof":
                    field.oneof_index = 0
                    if not message.oneof_decl:
                        message.oneof_decl.add(name="kind")
                else:
                    treatments[f"deepmac.{type_name}.{name}"] = label
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    root = pool.FindMessageTypeByName(f"deepmac.{next(iter(types))}")
    return message_factory.GetMessageClass(root), treatments
