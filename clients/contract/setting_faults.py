"""What is said of a setting that cannot be used: the value found, and what was expected instead.

A sentence a fault, for people who mistyped a key, a name or a number. Which settings there are is
`clients.contract.settings`' business; this module only words what is wrong with one of them.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

#: What a person calls values of a type, given and expected.
_FOUND = {bool: "true/false", int: "a whole number", float: "a number", str: "text"}
_EXPECTED = {**_FOUND, bool: "true or false"}
_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def nearest(name: str, names: Collection[str]) -> str | None:
    """Return the known name that a mistyped one most likely meant, None if none is near."""
    by_lower = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower().replace("_", "-"), by_lower, n=1, cutoff=0.5)
    return by_lower[close[0]] if close else None


def unknown_name(key: str, value: str, names: Collection[str]) -> str:
    """Say that a key names what does not exist, and list what does."""
    close = nearest(value, names)
    meant = f"did you mean {close!r}? " if close else ""
    return f"{key} = {value!r} is not known; {meant}Known: {', '.join(sorted(names))}."


def unknown_key(key: str, keys: Collection[str]) -> str:
    """Say that a dotted key is none of the settings', and which one was likely meant."""
    leaf = key.rpartition(".")[2].replace("_", "-")
    same_leaf = [k for k in keys if k.rpartition(".")[2] == leaf]
    close = same_leaf[0] if len(same_leaf) == 1 else nearest(key, keys)
    if close:
        return f"{key} is no setting; did you mean {close}?"
    groups = dict.fromkeys(k.partition(".")[0] for k in keys)
    return f"{key} is no setting; the groups are {', '.join(groups)}."


def value_fault(group: str, model: type[BaseModel], error: Mapping[str, Any]) -> str:
    """Word one of pydantic's errors about a value of a group of settings."""
    name = str(error["loc"][0])
    field = model.model_fields[name.replace("-", "_")]
    key, value = f"{group}.{name}", error["input"]
    if error["type"] == "literal_error":
        return unknown_name(key, str(value), field.annotation.__args__)  # type: ignore[union-attr]
    if error["type"].endswith("_type"):
        found = _FOUND.get(type(value), f"a {type(value).__name__}")
        return f"{key} = {value!r} is {found}; it must be {_EXPECTED[type(field.default)]}."
    if error["type"] == "finite_number":
        return f"{key} = {value!r} must be a finite number."
    if error["type"] == "string_pattern_mismatch":
        if "A-Za-z" not in error["ctx"]["pattern"]:
            return f"{key} = {value!r} has another form than this: {field.description}."
        return f"{key} = {value!r} must be letters, digits, '.', '_' and '-' only."
    if error["type"] == "string_too_long":
        most = error["ctx"]["max_length"]
        return f"{key} has {len(value)} characters; it may have at most {most}."
    if error["type"] == "string_too_short":
        return f"{key} is empty; it must name something."
    bounds = [
        f"{sign} {getattr(bound, name):g}"
        for bound in field.metadata
        for name, sign in _SIGNS.items()
        if hasattr(bound, name)
    ]
    return f"{key} = {value!r} is out of range; it must be {' and '.join(bounds) or error['msg']}."
