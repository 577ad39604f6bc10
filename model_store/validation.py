"""msgspec's validation errors of cards and recipes, as sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import inspect

# A name that is safe as a file's, in a URL and on a command line.
PlainName = Annotated[str, msgspec.Meta(pattern=r"^[\w-]+\Z")]

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}


def complaint(
    error: msgspec.ValidationError,
    kind: type[msgspec.Struct],
    renamed: Mapping[str, str] | None = None,
) -> str:
    """What is wrong with the values that were read as `kind`, naming the key and what it accepts.

    For an unknown key that is in `renamed`, it gives the new name.
    """
    message, _, place = str(error).partition(" - at `$")
    place = place.rstrip("`").lstrip(".")
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", message):
        key = found[1]
        if renamed and key in renamed:
            return (
                f"“{_joined(place, key)}” is now “{_joined(place, renamed[key])}”: rename the key"
            )
        known = ", ".join(field.encode_name for field in _type_at(kind, place).fields)
        return f"unknown key “{_joined(place, key)}”; known keys are {known}"
    if found := re.fullmatch(r"Object missing required field `(.*)`", message):
        return f"the key “{_joined(place, found[1])}” is missing"
    if found := re.fullmatch(r"Invalid enum value (.*)", message):
        *others, last = map(str, _type_at(kind, place).values)
        choice = f"{', '.join(others)} or {last}" if others else last
        return f"“{place}” must be {choice}, not {found[1]}"
    if message.startswith("Expected "):
        told = message.removeprefix("Expected ").replace(", got ", ", not ")
        told = re.sub(r"`(\w+)`", lambda word: KINDS.get(word[1], word[1]), told)
        told = re.sub(r" matching regex .*", " of letters, digits, - and _ alone", told)
        return f"“{place}” must be {told}" if place else f"it must be {told}"
    return message if message.startswith("“") or not place else f"“{place}”: {message}"


def _joined(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _type_at(kind: type[msgspec.Struct], place: str) -> Any:
    """What stands at `place`, as in ``candidates[0].network``, of the struct `kind`."""
    here: Any = inspect.type_info(kind)
    for step in re.findall(r"\w+", place):
        if step.isdigit():
            here = here.item_type
        else:
            here = next(field.type for field in here.fields if field.encode_name == step)
    return here
