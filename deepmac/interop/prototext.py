"""Reads pipeline configs, protobuf messages as text, by a schema of the fields this library knows.

`pipeline_schema.yaml` lists these fields with their published defaults and says which are only checked, or
ignored; nothing else in a file is accepted. Protobuf parses the text. It does not tell where a field stands:
a walk over the tokens does, together with the message, and refuses what is not supported.
"""

import dataclasses
import difflib
import functools
import os
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.descriptor import FieldDescriptor
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
    ignored: list[str]

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
    root_class, treatments = _schema()
    file = Prototext(str(path), root_class(), {}, [])
    try:
        text_format.Parse(text, file.root, allow_unknown_field=True)
    except text_format.ParseError as error:
        problem = str(error).partition(" : ")[2]
        raise InputError(f"{path}:{error.GetLine()}: {problem}") from error
    _Check(file, treatments, text).fields(file.root, "", "")
    for missing in file.root.FindInitializationErrors():
        path, _, name = missing.rpartition(".")
        raise file.error(path, f"{name} is missing")
    return file


def options(message: Message) -> dict[str, Any]:
    """What the schema names for fields of a message: option -> value."""
    _, treatments = _schema()
    named = {field.name: treatments.get(field.full_name, "") for field in message.DESCRIPTOR.fields}
    return {option: scalar(message, name) for name, option in named.items() if "." in option}


def scalar(message: Message, name: str) -> Any:
    """A field that is no message, or a list of it; of an enumeration the value's name in lower case."""
    field, value = message.DESCRIPTOR.fields_by_name[name], getattr(message, name)
    if field.enum_type:
        return field.enum_type.values_by_number[value].name.lower()
    return value if field.has_presence else list(value)


class _Check:
    """Goes through a text and the message that was parsed from it at once."""

    def __init__(self, file: Prototext, treatments: dict[str, str], text: str):
        """Args: file: its `lines` and `ignored` are filled; treatments: from `_schema`; text: well-formed."""
        self._file = file
        self._treatments = treatments
        self._tokenizer = text_format.Tokenizer(text.splitlines())

    def fields(self, message: Message, path: str, end: str) -> None:
        """Reads the fields of a message and the mark that ends it, none for the whole text.

        Raises:
            InputError: a field is unknown, missing, or has another value than the one that is implemented.
        """
        descriptor, tokenizer = message.DESCRIPTOR, self._tokenizer
        counts = Counter()
        while not (tokenizer.TryConsume(end) if end else tokenizer.AtEnd()):
            line = tokenizer.ParseError("").GetLine()
            name = tokenizer.ConsumeIdentifier()
            place = f"{path}.{name}".lstrip(".")
            field = descriptor.fields_by_name.get(name)
            if field is None:
                self._file.lines[place] = line
                near = difflib.get_close_matches(name, descriptor.fields_by_name, n=1, cutoff=0.75)
                hint = f"did you mean {near[0]}?" if near else "remove it if the model does not depend on it"
                raise self._file.error(place, f"unknown or unsupported field; {hint}")
            tokenizer.TryConsume(":")
            is_list = tokenizer.TryConsume("[")
            while not (is_list and tokenizer.TryConsume("]")):
                value = getattr(message, name)
                if not field.has_presence:  # it is repeated
                    value, place = value[counts[name]], f"{path}.{name}[{counts[name]}]".lstrip(".")
                    counts[name] += 1
                self._file.lines[place] = line
                self._value(field, value, place)
                tokenizer.TryConsume(",")
                if not is_list:
                    break
            tokenizer.TryConsume(";")
        for union in descriptor.oneofs:
            if message.WhichOneof(union.name) is None:
                names = " or ".join(field.name for field in union.fields)
                raise self._file.error(path, f"{names} is missing")

    def _value(self, field: FieldDescriptor, value, place: str) -> None:
        """Reads one value of a field."""
        treatment = self._treatments.get(field.full_name)
        if treatment == "ignored":
            self._file.ignored.append(f"line {self._file.lines[place]}: {place}")
        elif treatment == "only" and value != field.default_value:
            default = field.default_value
            name = field.enum_type.values[default].name if field.enum_type else str(default).lower()
            raise self._file.error(place, f"only {name} is supported")
        if not field.message_type:
            quotes = ("'", '"')
            is_string = self._tokenizer.token.startswith(quotes)
            self._tokenizer.NextToken()
            while is_string and self._tokenizer.token.startswith(quotes):  # strings side by side are one
                self._tokenizer.NextToken()
        elif self._tokenizer.TryConsume("<"):
            self.fields(value, place, ">")
        else:
            self._tokenizer.Consume("{")
            self.fields(value, place, "}")


@functools.cache
def _schema() -> tuple[type[Message], dict[str, str]]:
    """The class of a whole file; and full name of a field -> "only", "ignored", or the option it becomes."""
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
            declaration, _, option = declaration.partition(" -> ")
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
            if option:
                treatments[f"deepmac.{type_name}.{name}"] = option + name * option.endswith(".")
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
