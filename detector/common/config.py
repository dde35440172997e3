"""Configuration from TOML: tables in layers, checked against pydantic models.

Error messages are one line that names the place of a value, its key, and what is allowed.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from detector.common.text_files import read_text
from detector.errors import FormatError, SettingsError

Model = TypeVar("Model", bound=BaseModel)

Tables = Mapping[str, Any]
"""The content of a TOML file: keys, and tables of keys by their names."""


class Frozen(BaseModel):
    """A table of configuration: unknown keys are errors, and values cannot be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_toml(self) -> str:
        """Return a TOML file with these values. Single keys come first, then the tables."""
        lines = []
        tables = []
        for key, value in self.model_dump(mode="json", exclude_none=True).items():
            if isinstance(value, dict):
                tables += [f"[{key}]", *(f"{k} = {json.dumps(v)}" for k, v in value.items()), ""]
            else:
                lines.append(f"{key} = {json.dumps(value)}")
        return "\n".join([*lines, *tables])


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises:
        SettingsError: The file is missing or is not TOML. The message has the line.
    """
    try:
        return tomllib.loads(read_text(path))
    except FormatError as error:
        raise SettingsError(str(error)) from error
    except ValueError as error:  # also a number of thousands of digits
        raise SettingsError(f"{path}: not TOML: {error}") from error
    except RecursionError as error:
        raise SettingsError(f"{path}: not TOML that can be read: it is nested too deep") from error


def parse_assignment(text: str) -> dict[str, Any]:
    """Return the tables that an assignment on the command line describes.

    Args:
        text: `table.key=value`, or `key=value` for a key outside of tables. The value is TOML;
            anything else is taken as a string without quotes.

    Raises:
        SettingsError: There is no `=` or no key.
    """
    path, equals, value = text.partition("=")
    table, dot, key = path.strip().rpartition(".")
    if not (equals and key and bool(table) == bool(dot)):
        raise SettingsError(f"--set {text}: must be table.key=value")

    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        parsed = value.strip()
    return {table: {key: parsed}} if table else {key: parsed}


def merge_tables(lower: Tables, upper: Tables) -> dict[str, Any]:
    """Return the tables of `lower`, overridden key by key with those of `upper`."""
    merged = dict(lower)
    for key, value in upper.items():
        lower_value = merged.get(key)
        if isinstance(value, Mapping) and isinstance(lower_value, Mapping):
            merged[key] = merge_tables(lower_value, value)
        else:
            merged[key] = value
    return merged


def validate_layers(model: type[Model], layers: Sequence[tuple[str, Tables]]) -> Model:
    """Merge layers of tables and return the model that they describe.

    Args:
        model: The model to build.
        layers: Tables in order, each with the name of its source. Later ones override earlier
            ones.

    Raises:
        SettingsError: A value is not allowed. The message names the layer that it comes from.
    """
    merged: dict[str, Any] = {}
    for _, tables in layers:
        merged = merge_tables(merged, tables)

    # The merged tables are validated as a whole, because values that are only valid together may
    # come from several layers. Only a failure is traced to its layer.
    try:
        return model.model_validate(merged)
    except ValidationError:
        merged = {}
        for source, tables in layers:
            merged = merge_tables(merged, tables)
            validate(model, merged, source)
        raise


def validate(model: type[Model], values: object, source: str) -> Model:
    """Return the model that the values describe.

    Args:
        model: The model to build.
        values: Tables to validate.
        source: Name of the values' source, for the error message.

    Raises:
        SettingsError: A value is not allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"{source}: {describe_error(error, model)}") from error


def describe_error(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the first problem of a validation in one line: key, what is allowed, the value."""
    problems = error.errors(include_url=False)
    first = problems[0]
    if first["type"] == "json_invalid":
        return first["msg"]

    key, table = _locate(first, model)
    if first["type"] == "extra_forbidden":
        unknown_key = ".".join(map(str, first["loc"]))
        return f"unknown key {shorten(unknown_key)}; known here: {', '.join(table.model_fields)}"

    # A key with several allowed types has a problem for each of them.
    reasons = [problem["msg"] for problem in problems if _locate(problem, model)[0] == key]
    return f"{key}: {'; or: '.join(reasons)}; not {shorten(repr(first['input']))}"


def shorten(text: str) -> str:
    """Return text that others wrote as a message can have it: in one line, and cut if long."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:80])
    return line if len(text) <= 80 else f"{line[:77]}..."


def _locate(problem: ErrorDetails, model: type[BaseModel]) -> tuple[str, type[BaseModel]]:
    """Return the key that a problem is about, and the model of the table that should have it.

    Pydantic's names for the alternatives of a type are left out of the key.
    """
    names: list[str] = []
    for name in problem["loc"]:
        field = model.model_fields.get(str(name))
        if field is None and not isinstance(name, int):
            break
        names.append(str(name))
        if (
            field is not None
            and isinstance(field.annotation, type)
            and issubclass(field.annotation, BaseModel)
        ):
            model = field.annotation
    return ".".join(names), model
