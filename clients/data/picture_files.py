"""Picture and volume files, each brought to one form: PNG, JPEG, TIFF, BMP, WebP, DICOM, NIfTI.

Values keep their true range. Eight bits are 0 to 255. DICOM files say themselves what they hold:
rescaled values in the window that the file names, or else all that its bits can hold. For every
other file (16 bits, floats, NIfTI) a range is declared. Nothing is taken from another file.

    form = PictureForm(size=64, channels=1)
    read_picture((Path("scan.png"),), form)     # float32 [1, 64, 64] in [0, 1], or uint8
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.data.ranges import Range

#: Formats by the end of a file's name, in small letters.
PLAIN = (".jpeg", ".jpg", ".png", ".bmp", ".tif", ".tiff", ".webp")
DICOM, NIFTI = (".dcm", ".dicom"), (".nii", ".nii.gz")
SUFFIXES = (*PLAIN, *DICOM, *NIFTI)
#: Largest picture that is decoded: its file, and its height times width times slices.
MOST_BYTES = 256 * 1024**2
MOST_PIXELS = 80_000_000
MOST_VOXELS = 512 * 1024**2
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")

_NO_DICOM = (
    "no whole DICOM file, with a header that says how its values are written: save it anew, or "
    "take it out"
)
#: What Pillow calls values of more than eight bits, in words.
_KINDS = {
    "I;16": "whole numbers of 16 bits",
    "I;16B": "whole numbers of 16 bits",
    "I": "whole numbers of 32 bits",
    "F": "floats",
}

Source = tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class PictureForm:
    """What all pictures of a set are brought to.

    Attributes:
        size: height and width, and of volumes depth.
        channels: 1 for grey, 3 for colour; volumes have one.
        volumes: whether they are volumes.
        range: what values can be, where files do not say it.
        spacing: millimetres between a volume's values (depth, height, width) that it is brought to
            before it is cut to size; () where it is scaled to size whatever they are.
    """

    size: int
    channels: int
    volumes: bool = False
    range: Range | None = None
    spacing: tuple[float, ...] = ()
    #: Whether values are kept as floats; eight-bit pictures are kept as bytes.
    deep: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one picture: channels, then space."""
        return (self.channels, *([self.size] * (3 if self.volumes else 2)))


def suffix_of(file: Path) -> str:
    """Return the end of a file's name that tells its format, in small letters."""
    name = file.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else file.suffix.lower()


def is_picture(file: Path) -> bool:
    """Whether a file's name is one of a picture; hidden ones, as macOS makes them, are none."""
    return suffix_of(file) in SUFFIXES and not file.name.startswith(".")


def read_picture(source: Source, form: PictureForm) -> NDArray[Any]:
    """Return a picture or volume in its form.

    Args:
        source: its file, or the files of its slices in order.
        form: what it is brought to.

    Returns:
        uint8, or float32 in [0, 1] for a `deep` form: [channels, *space].

    Raises:
        Exception: it cannot be read, is too large, or its range is neither known nor declared.
    """
    for file in source:
        if (found := file.stat().st_size) > MOST_BYTES:
            raise ValueError(f"{found} bytes, at most {MOST_BYTES} are read")
    suffix = suffix_of(source[0])
    if suffix in DICOM:
        return _brought(*_dicom(source, form.range), form)
    if suffix in NIFTI:
        return _brought(*_nifti(source[0], form.range), form)
    return _plain(source[0], form)


def raw_values(file: Path) -> tuple[NDArray[np.int64], tuple[float, ...]]:
    """Return the whole numbers from 0 to 255 of a DICOM or NIfTI file, and its spacing.

    Raises:
        Exception: it cannot be read, or holds others.
    """
    whole = Range(low=0.0, high=255.0)
    read = _dicom((file,), whole) if suffix_of(file) in DICOM else _nifti(file, whole)
    values, spacing = read[0].astype(np.float64) * 255.0, read[1]
    if np.abs(values - np.rint(values)).max(initial=0.0) > 1e-3:
        raise ValueError("holds values that are no whole numbers from 0 to 255")
    return np.rint(values).astype(np.int64), spacing


def resampled(
    values: NDArray[np.float32], spacing: tuple[float, ...], form: PictureForm
) -> NDArray[np.float32]:
    """Return values in [0, 1] of one channel, brought to a form as pictures are, ``[*space]``."""
    return np.asarray(_brought(values, spacing, replace(form, channels=1))[0])


def _plain(file: Path, form: PictureForm) -> NDArray[Any]:
    """Read a file that Pillow reads; its size is known from its header before it is decoded."""
    from PIL import Image, ImageOps

    if form.volumes:
        raise ValueError("a picture where volumes are declared")
    size = form.size
    with Image.open(file) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(
                f"{image.width} x {image.height} pixels, at most {MOST_PIXELS} are decoded"
            )
        if image.mode not in _EIGHT_BITS:
            return _of_more_bits(image, form)
        mode = "L" if form.channels == 1 else "RGB"
        image.draft(mode, (size * 2, size * 2))
        upright = ImageOps.exif_transpose(image)
        resized = upright.convert(mode).resize(
            (size, size), Image.Resampling.BOX, reducing_gap=None
        )
        pixels = np.asarray(resized, dtype=np.uint8)
    found = pixels[None] if form.channels == 1 else np.moveaxis(pixels, -1, 0)
    if not form.deep:
        return found
    known = form.range if form.range and form.range.high <= 255 else Range(low=0.0, high=255.0)
    return _scaled(found.astype(np.float32), known)


def _of_more_bits(image: Any, form: PictureForm) -> NDArray[np.float32]:
    """Read one channel of whole numbers or floats, by its declared range."""
    from PIL import Image

    if form.range is None:
        raise ValueError(
            f"{_KINDS.get(image.mode, image.mode)}: declare what they can be, as in [ranges] "
            f"values = {'[0, 1]' if image.mode == 'F' else '[0, 4095]'}"
        )
    scaled = _scaled(np.asarray(image, dtype=np.float32), form.range)
    small = Image.fromarray(scaled).resize((form.size, form.size), Image.Resampling.BOX)
    return np.repeat(np.asarray(small, dtype=np.float32)[None], form.channels, axis=0)


def _scaled(values: NDArray[np.float32], range_: Range) -> NDArray[np.float32]:
    """Return values of a range in [0, 1]; what is no number makes the picture unreadable."""
    scaled = (values - np.float32(range_.low)) / np.float32(range_.high - range_.low)
    return np.asarray(np.clip(scaled, 0.0, 1.0), dtype=np.float32)


def _dicom(source: Source, declared: Range | None) -> tuple[NDArray[np.float32], tuple[float, ...]]:
    """Return a DICOM file's values in [0, 1], [h, w], [h, w, 3] or [d, h, w], and its spacing."""
    read = [_slice(file, declared) for file in source]
    spacing = read[0][1]
    if len(read) == 1:
        return read[0]
    return np.stack([values for values, _ in read]), spacing


def _slice(file: Path, declared: Range | None) -> tuple[NDArray[np.float32], tuple[float, ...]]:
    data = open_dicom(file)
    cells = int(data.get("Rows", 0)) * int(data.get("Columns", 0))
    frames = int(data.get("NumberOfFrames", 1) or 1)
    if cells * frames > MOST_VOXELS or cells > MOST_PIXELS:
        raise ValueError(f"{cells} pixels in {frames} frames, too many")
    between = float(data.get("SliceThickness", 1.0) or 1.0)
    within = [float(one) for one in data.get("PixelSpacing", (1.0, 1.0)) or (1.0, 1.0)]
    pixels = _decoded(data)
    if int(data.get("SamplesPerPixel", 1)) == 3:
        most = float(2 ** int(data.get("BitsStored", 8)) - 1)
        values = _scaled(pixels.astype(np.float32), Range(low=0.0, high=most))
        return values, (between, *within)
    from pydicom.pixels.processing import apply_modality_lut

    values = np.asarray(apply_modality_lut(pixels, data), dtype=np.float32)
    scaled = _scaled(values, declared or _own_range(data))
    if data.get("PhotometricInterpretation") == "MONOCHROME1":
        scaled = np.float32(1) - scaled
    return scaled, (between, *within)


def _decoded(data: Any) -> NDArray[Any]:
    """Return the stored values of a DICOM data set, decompressed, colours as RGB.

    Raises:
        ImportError: its compression is one that no decoder here reads.
        Exception: it is damaged.
    """
    from pydicom.pixels.decoders.base import get_decoder

    syntax = data.file_meta.TransferSyntaxUID
    if syntax.is_compressed:
        try:
            here = get_decoder(syntax).is_available
        except NotImplementedError:
            raise ValueError(f"compressed as {syntax.name}, which is not read") from None
        if not here:
            raise ImportError(
                f"compressed as {syntax.name}: reading it needs gdcm: pip install "
                "'asclepias[dicom]', or store it decompressed"
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(data.pixel_array)


def open_dicom(file: Path, *, header_alone: bool = False) -> Any:
    """Return a DICOM file's data set.

    Raises:
        ImportError, Exception: there is no reader, or it is no DICOM file.
    """
    try:
        import pydicom
    except ImportError:
        raise ImportError("reading DICOM needs pydicom: pip install 'asclepias[formats]'") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = pydicom.dcmread(file, stop_before_pixels=header_alone)
        except pydicom.errors.InvalidDicomError:
            raise ValueError(_NO_DICOM) from None
    if "TransferSyntaxUID" not in data.file_meta:
        raise ValueError(_NO_DICOM)
    return data


def _own_range(data: Any) -> Range:
    """Return the window that a file names, or all that its bits can hold, after rescaling."""
    centre, width = _first(data.get("WindowCenter")), _first(data.get("WindowWidth"))
    if centre is not None and width is not None and width > 1:
        # PS3.3, C.11.2.1.2: the ends of a linear window.
        return Range(low=centre - 0.5 - (width - 1) / 2, high=centre - 0.5 + (width - 1) / 2)
    bits, signed = int(data.get("BitsStored", 16)), int(data.get("PixelRepresentation", 0)) == 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope = float(data.get("RescaleSlope", 1) or 1)
    intercept = float(data.get("RescaleIntercept", 0) or 0)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return Range(low=ends[0], high=ends[1])


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return (
        float(value[0])
        if hasattr(value, "__len__") and not isinstance(value, str)
        else float(value)
    )


def _nifti(file: Path, declared: Range | None) -> tuple[NDArray[np.float32], tuple[float, ...]]:
    """Return a NIfTI file's values in [0, 1], [d, h, w] or [h, w], as DICOM slices would lie."""
    try:
        import nibabel
    except ImportError:
        raise ImportError("reading NIfTI needs nibabel: pip install 'asclepias[formats]'") from None
    library: Any = nibabel
    try:
        image = library.load(file)
    except library.filebasedimages.ImageFileError:
        raise ValueError("no whole NIfTI file: save it anew, or take it out") from None
    if np.prod(image.shape) > MOST_VOXELS:
        raise ValueError(f"{image.shape} values, at most {MOST_VOXELS} are decoded")
    image = library.as_closest_canonical(image)
    if declared is None:
        low, high = float(image.header["cal_min"]), float(image.header["cal_max"])
        if not high > low:
            raise ValueError(
                "declare what its values can be, as in [ranges] values = [-1000, 3000]"
            )
        declared = Range(low=low, high=high)
    values = np.asarray(image.dataobj, dtype=np.float32)
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim == 3:
        # From right, anterior, superior to left, posterior, superior, slices first.
        values = values[::-1, ::-1].transpose(2, 1, 0)
    elif values.ndim == 2:
        values = values[::-1, ::-1].T
    else:
        raise ValueError(f"{values.ndim} axes, expected 2 or 3")
    spacing = tuple(float(one) for one in image.header.get_zooms()[:3][::-1])
    found = values[0] if values.ndim == 3 and len(values) == 1 else values
    return _scaled(found, declared), spacing


def _brought(
    values: NDArray[np.float32], spacing: tuple[float, ...], form: PictureForm
) -> NDArray[np.float32]:
    """Bring values in [0, 1] to the size and channels of the form."""
    if form.volumes:
        if values.ndim != 3 or values.shape[-1] in (3,):
            raise ValueError(f"values of shape {values.shape} where volumes are declared")
        return _volume(values, spacing, form)[None]
    if values.ndim == 3 and values.shape[-1] != 3:
        raise ValueError(
            f"{len(values)} slices where pictures are declared: say [pictures] volumes = true"
        )
    from PIL import Image

    def small(plane: NDArray[np.float32]) -> NDArray[np.float32]:
        whole = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
        resized = whole.resize((form.size, form.size), Image.Resampling.BOX)
        return np.asarray(resized, dtype=np.float32)

    if values.ndim == 2:
        return np.repeat(small(values)[None], form.channels, axis=0)
    planes = np.stack([small(values[..., place]) for place in range(3)])
    if form.channels == 3:
        return planes
    grey = 0.299 * planes[0] + 0.587 * planes[1] + 0.114 * planes[2]
    return np.asarray(grey[None], dtype=np.float32)


def _volume(
    values: NDArray[np.float32], spacing: tuple[float, ...], form: PictureForm
) -> NDArray[np.float32]:
    """Resample a volume around its middle: to the form's spacing, or to its size."""
    from scipy.ndimage import affine_transform, uniform_filter1d

    size = form.size
    steps = (
        [new / own for own, new in zip(spacing, form.spacing, strict=True)]
        if form.spacing
        else [length / size for length in values.shape]
    )
    for axis, step in enumerate(steps):
        if round(step) > 1:
            # What lies between two of the new values counts as well.
            values = uniform_filter1d(values, round(step), axis=axis, mode="nearest")
    middles = [
        (length - 1) / 2 - step * (size - 1) / 2
        for length, step in zip(values.shape, steps, strict=True)
    ]
    made = affine_transform(
        values,
        steps,
        offset=middles,
        output_shape=(size, size, size),
        order=1,
        mode="constant" if form.spacing else "nearest",
    )
    return np.asarray(made, dtype=np.float32)
