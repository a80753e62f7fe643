"""The table of data sets: a name, a line for people, and the function that loads it.

A name may carry a variant after a colon ("medmnist:retinamnist").
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clients.data import (
    aptos,
    arrays,
    breast_cancer,
    chest_xray,
    digits,
    heart_disease,
    hub,
    pictures,
    table,
    ward,
)
from clients.data.dataset import Dataset
from clients.data.declaration import FOLDER_FILE, read_declaration
from clients.data.declared_parts import Pictures
from clients.data.errors import DataError
from clients.data.files import Location, data_folder


@dataclass(frozen=True, kw_only=True)
class Source:
    """A row of the table of data sets.

    Attributes:
        title: a line for people.
        load: from what was asked for to the data set.
        needs: file or folder looked for in the data folder; "" when bundled.
        variants: what may follow the colon; "" when nothing may.
    """

    title: str
    load: Callable[[Location], Dataset]
    needs: str = ""
    variants: str = ""


DATASETS: dict[str, Source] = {
    "breast-cancer": Source(title=breast_cancer.INFO.title, load=breast_cancer.load),
    "digits": Source(title=digits.INFO.title, load=digits.load),
    "ward": Source(title=ward.INFO.title, load=ward.load),
    "heart-disease": Source(
        title="UCI heart disease, patients of four real hospitals",
        load=heart_disease.load,
        needs=heart_disease.FOLDER,
        variants="complete",
    ),
    "chest-xray": Source(
        title=chest_xray.info().title,
        load=chest_xray.load,
        needs=f"{chest_xray.NPZ} or {chest_xray.FOLDER}/",
        variants=chest_xray.VARIANT,
    ),
    "aptos": Source(title=aptos.TITLE, load=aptos.load, needs="train.csv, train_images/"),
    "medmnist": Source(
        title="MedMNIST pictures and volumes",
        load=arrays.load_medmnist,
        needs="<name>.npz",
        variants="<name>",
    ),
    "mnist": Source(
        title="MNIST, for comparing with published private training",
        load=arrays.load_mnist,
        needs="mnist.npz",
    ),
    "npz": Source(
        title="your own arrays: {train,val,test}_{images,labels,patient,hospital}",
        load=arrays.load_npz,
        needs="<file>.npz",
        variants="<file>",
    ),
    "csv": Source(
        title="your own table (CSV, Excel, Parquet), with public ranges declared beside it",
        load=table.load,
        needs="<file>, <file>.toml",
        variants="<file>",
    ),
    "image-folder": Source(
        title="your own pictures: [train|test/]<class>/<picture>, patients.csv if you have it",
        load=pictures.load_image_folder,
        needs="<folder>/",
        variants="<folder>",
    ),
    "hf": Source(
        title="an image data set of the Hugging Face hub, through flwr-datasets",
        load=hub.load,
        variants="<dataset>",
    ),
}


#: Sources of data of one's own: nobody has published them.
OWN = ("csv", "npz", "image-folder")


def is_own(name: str) -> bool:
    """Whether a data set is of one's own files, or of one's own function."""
    base = name.partition(":")[0]
    return base in OWN or base not in DATASETS


def declared_kind(name: str, data_dir: str | Path | None = None) -> str:
    """Return the kind of targets that is declared beside data of one's own; "" where none is.

    No record is read.
    """
    base, _, variant = name.partition(":")
    where = Location(variant=variant, data_dir=str(data_dir or ""))
    try:
        if base == "csv":
            file = table.find_tables(where).declaration
        elif base == "image-folder":
            file = pictures.named_folder(where) / FOLDER_FILE
        elif base == "npz":
            file = arrays.named_file(where).with_suffix(".toml")
        else:
            return ""
        return read_declaration(file).task
    except DataError:
        return ""  # whoever reads the data says what is wrong


def declared_values(
    name: str, data_dir: str | Path | None, image_size: int, *, declared: bool
) -> int:
    """Return how many values each record of a folder of pictures has; 0 for other sources.

    No record is read: a folder that declares nothing holds pictures, in colour at the most.
    """
    base, _, variant = name.partition(":")
    if base != "image-folder":
        return 0
    where = Location(variant=variant, data_dir=str(data_dir or ""), declared=declared)
    try:
        said = read_declaration(pictures.named_folder(where) / FOLDER_FILE).pictures
    except DataError:
        said = Pictures()  # whoever reads the data says what is wrong
    return image_size**3 if said.volumes else (said.channels or 3) * image_size**2


def load_dataset(
    name: str,
    data_dir: str | Path | None = None,
    *,
    image_size: int = 64,
    declared: bool = False,
    unconfirmed: bool = False,
    declaration: str | Path = "",
) -> Dataset:
    """Return a data set by its name.

    Args:
        name: a key of `DATASETS`, with its variant after a colon, or your own
            "package.module:function", called with the data folder.
        data_dir: folder of files; "" or None for the variable ASCLEPIAS_DATA.
        image_size: height and width that picture files are brought to, pixels.
        declared: whether the records are a hospital's own, so that classes must be declared and
            none are counted from them.
        unconfirmed: whether ranges may be used that were drafted from the data and that nobody has
            confirmed: only where no guarantee is given.
        declaration: file of the declaration; "" for the one beside the data.

    Returns:
        The data set; its log says which values and records could not be read. A picture that cannot
        be read is found when it is drawn.

    Raises:
        DataError: `unknown-dataset` with the known names; or the source as a whole cannot be read,
            or lacks a declaration. No single record is a reason.
    """
    base, _, variant = name.partition(":")
    if base in DATASETS:
        if variant and not DATASETS[base].variants:
            raise DataError(f"{base} has no variants; found {name!r}", code="unknown-dataset")
        where = Location(
            variant=variant,
            data_dir=str(data_dir or ""),
            image_size=image_size,
            declared=declared,
            unconfirmed=unconfirmed,
            declaration=str(declaration),
        )
        return DATASETS[base].load(where)
    near = difflib.get_close_matches(base, DATASETS, n=1)
    if variant and not near:
        return _own(base, variant, data_dir)
    raise _unknown(name, near)


def _unknown(name: str, near: Sequence[str]) -> DataError:
    hint = f"; did you mean {near[0]}?" if near else ""
    return DataError(
        f"unknown data set {name!r}{hint} Known: {', '.join(sorted(DATASETS))}, or your own "
        "package.module:function",
        code="unknown-dataset",
    )


def _own(module: str, function: str, data_dir: str | Path | None) -> Dataset:
    """Return what the user's own function returns."""
    try:
        build = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise DataError(
            f"{module}:{function} cannot be imported ({error})", code="unknown-dataset"
        ) from error
    dataset = build(str(data_folder(data_dir) or ""))
    if not isinstance(dataset, Dataset):
        raise DataError(
            f"{module}:{function} returned a {type(dataset).__name__}, expected a "
            "clients.data.Dataset",
            code="shape",
        )
    return dataset
