"""The parts of a declaration: what stands for no value, how a file is written, what pictures are.

They are tables of their own in the TOML file: `[missing]`, `[file]`, `[pictures]`.
"""

from __future__ import annotations

import codecs
import json
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic import WithJsonSchema as Schema

from clients.data.ranges import RANGE_SCHEMA, Range, read_range


def _text(value: object) -> object:
    """A name as cells spell it: 1 and 1.0 are '1'."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | float) else value


Text = Annotated[
    str, BeforeValidator(_text), Schema({"type": ["string", "number", "boolean"]}, mode=None)
]
Texts = tuple[Text, ...]
PublicRange = Annotated[Range, BeforeValidator(read_range), Schema(RANGE_SCHEMA, mode=None)]


class Part(BaseModel):
    """A table of a declaration: its keys are spelled with dashes, and there are no others."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        alias_generator=lambda name: name.replace("_", "-"),
        # A docstring is for readers of the code; the schema has the fields' own descriptions.
        json_schema_extra=lambda schema: schema.pop("description", None),
    )


class Missing(Part):
    """What stands for a value that nobody measured."""

    columns: tuple[str, ...] = Field(
        default=(), description="columns whose absence is itself an input"
    )
    codes: Texts = Field(
        default=(), description="cells of any column that mean: nothing, such as '-9'"
    )
    of: dict[str, Texts] = Field(default={}, description="the same for one column alone")


class FileForm(Part):
    """How a hospital's file is written; what is not declared follows from its first line."""

    separator: Literal["", ",", ";", "\t", "|"] = Field(default="", description="between cells")
    decimal: Literal["", ".", ","] = Field(default="", description="decimal sign of numbers")
    thousands: Literal["", ".", ",", "'", " "] = Field(default="", description="between thousands")
    encoding: str = Field(default="", description="such as utf-8, latin-1, cp1252, utf-16")
    dates: str = Field(default="", description="form of dates, such as %d.%m.%Y; else 2025-12-31")
    sheet: str = Field(default="", description="of an Excel file; else its first")

    def faults(self) -> list[str]:
        """Return what cannot be so."""
        found = []
        if self.decimal and self.decimal == self.thousands:
            found.append(f"[file] decimal and thousands are both {self.decimal!r}")
        try:
            codecs.lookup(self.encoding or "utf-8")
        except LookupError:
            found.append(f"[file] encoding = {self.encoding!r} is unknown, such as utf-8, latin-1")
        if self.dates and not {"%d", "%j"} & {f"%{c[:1]}" for c in self.dates.split("%")[1:]}:
            found.append(f"[file] dates = {self.dates!r}, expected a form such as %d.%m.%Y")
        return found


class Pictures(Part):
    """What pictures, volumes and arrays of them are like, and how a folder holds them."""

    layout: str = Field(
        default="",
        description="levels of folders, from the outside in, of part, hospital, class, patient: "
        "'class', 'part/class', 'hospital/class', 'class/patient', ...",
    )
    manifest: str = Field(
        default="", description="a table in the folder that lists the pictures and their labels"
    )
    file: str = Field(default="image", description="the manifest's column that names the file")
    split: str = Field(default="", description="its column that says train, val or test")
    masks: str = Field(
        default="",
        description="where each pixel's class stands: the folder beside the pictures' own, with "
        "files of the same names; of a manifest its column of them; of arrays the end of a name, "
        "such as masks in train_masks",
    )
    mask_values: tuple[int, ...] = Field(
        default=(), description="the value that stands for each class in them; else 0, 1, ..."
    )
    patient: Literal["", "header"] = Field(
        default="", description="header: patients are those that DICOM files name"
    )
    channels: Literal[0, 1, 3] = Field(default=0, description="1 for grey, 3 for colour")
    volumes: bool = Field(default=False, description="whether they are volumes, not pictures")
    spacing: tuple[float, ...] = Field(
        default=(),
        description="millimetres between a volume's values (depth, height, width) that it is "
        "brought to; else it is scaled to size",
    )
    axes: Literal["", "hw", "hwc", "chw", "dhw", "dhwc", "cdhw"] = Field(
        default="", description="of one image in an array: height, width, depth, channels"
    )

    def faults(self) -> list[str]:
        """Return what cannot be so."""
        found = []
        levels = self.layout.split("/") if self.layout else []
        if set(levels) - {"part", "hospital", "class", "patient"} or len(set(levels)) < len(levels):
            found.append(
                f"[pictures] layout = {self.layout!r}, expected levels of part, hospital, class, "
                "patient, each once, such as 'hospital/class'"
            )
        elif levels and self.masks and "class" in levels:
            found.append("[pictures] layout has a level of classes; masks say what is of which")
        elif levels and not self.masks and "class" not in levels:
            found.append(f"[pictures] layout = {self.layout!r} has no level of classes")
        if self.layout and self.manifest:
            found.append("[pictures] has a layout and a manifest: leave one of them out")
        if self.spacing and (len(self.spacing) != 3 or min(self.spacing) <= 0):
            found.append(f"[pictures] spacing = {list(self.spacing)}, expected three millimetres")
        return found

    def public(self) -> dict[str, str]:
        """Return what all hospitals must agree on."""
        said: dict[str, object] = {
            "channels": self.channels,
            "volumes": self.volumes,
            "spacing": list(self.spacing),
            "masks": self.masks,
        }
        return {f"pictures: {key}": json.dumps(value) for key, value in said.items() if value}
