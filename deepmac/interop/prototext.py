"""Reads pipeline configs, protobuf messages as text, by a schema of the fields this library knows.

`pipeline_schema.yaml` lists these fields with their published defaults, and says which are only checked,
which are ignored, and which option of an experiment gets a field's value. Nothing else in a file is accepted.
"""

import functools
import os
import re
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from google.protobuf.message import Message

from deepmac.core.errors import InputError

_SCHEMA = Path(__file__).with_name("pipeline_schema.yaml")
_DECLARATION = re.compile(
    r"(?:(required|repeated) )?(?:(oneof|only|ignored) )?(\w+)(?: = (\S+))?(?: -> (\S+))?"
)


def read_prototext(path: str | os.PathLike) -> tuple[Message, dict[str, Any], list[str]]:
    """Reads a pipeline config.

    Returns:
        The message, with the published defaults where a field is not set.
        Option -> value of a field, as the schema names it: of an enumeration the value's name in lower case,
        None for what is not set and has no default.
        The path, as "train_config.data_augmentation_options[1].random_adjust_hue", of every field without
        effect here.

    Raises:
        OSError: no such file.
        InputError: it is malformed; a field is unknown (with its line), missing, or has a value that is not
            implemented (with its path).
    """
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    root_class, treatments = _schema()
    root = root_class()
    try:
        text_format.Parse(text, root)
    except text_format.ParseError as error:
        problem = str(error).partition(" : ")[2]
        problem = problem if problem.isprintable() else "not a text: give a pipeline.config"
        raise InputError(f"{path}:{error.GetLine()}: {problem}") from error
    for missing in root.FindInitializationErrors():
        raise InputError(f"{path}: {missing} is missing")
    options, ignored = {}, []

    def visit(message: Message, prefix: str) -> None:
        for field in message.DESCRIPTOR.fields:
            value, treatment = getattr(message, field.name), treatments[field.full_name]
            option, _, constant = treatment.partition("=")
            is_set = message.HasField(field.name) if field.has_presence else bool(value)
            for index, part in enumerate([value] * is_set if field.has_presence else value):
                place = f"{prefix}{field.name}" + ("" if field.has_presence else f"[{index}]")
                if treatment == "ignored":
                    ignored.append(place)
                elif treatment == "only" and part != field.default_value:
                    default = field.default_value
                    name = field.enum_type.values[default].name if field.enum_type else str(default).lower()
                    raise InputError(f"{path}: {place}: only {name} is supported")
                for union in field.message_type.oneofs if field.message_type else ():
                    if part.WhichOneof(union.name) is None:
                        names = " or ".join(member.name for member in union.fields)
                        raise InputError(f"{path}: {place}: {names} is missing")
                if constant:
                    options[option] = yaml.safe_load(constant)
                if field.message_type:
                    visit(part, f"{place}.")
            if constant or "." not in option:
                continue
            if field.enum_type:
                options[option] = field.enum_type.values_by_number[value].name.lower()
            elif field.has_presence:
                options[option] = value if is_set or field.has_default_value else None
            else:
                options[option] = list(value)

    visit(root, "")
    return root, options, ignored


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
            label, treatment, kind, default, option = _DECLARATION.fullmatch(declaration).groups()
            field = message.field.add(name=name, number=number, default_value=default)
            field.label = FieldDescriptorProto.Label.Value(f"LABEL_{(label or 'optional').upper()}")
            if kind in types:
                is_enum = isinstance(types[kind], list)
                field.type_name = f".deepmac.{kind}.Value" if is_enum else f".deepmac.{kind}"
            else:
                field.type = FieldDescriptorProto.Type.Value(f"TYPE_{kind.upper()}")
            if treatment == "oneof":
                field.oneof_index = 0
                if not message.oneof_decl:
                    message.oneof_decl.add(name="kind")
            if option:
                treatment = option + name * option.endswith(".")
            treatments[f"deepmac.{type_name}.{name}"] = treatment or ""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    root = pool.FindMessageTypeByName(f"deepmac.{next(iter(types))}")
    return message_factory.GetMessageClass(root), treatments
