"""Real pictures as files of every kind that the patient's page reads."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DATA = Path(os.environ.get("ASCLEPIAS_DATA", ""))


def chest_xrays(part="test"):
    """Return chest X-rays, 224 by 224, as JPEG files with their class: 0 is normal."""
    file = DATA / "chest_xray_sample.tar"
    if not file.is_file():
        pytest.skip("no chest X-rays here")
    with tarfile.open(file) as tar:
        names = sorted(name for name in tar.getnames() if f"/{part}/" in name)
        names = [name for name in names if name.endswith(".jpeg")]
        return [(tar.extractfile(name).read(), int("PNEUMONIA" in name)) for name in names]


def saved(image, form, **options):
    """Return a picture's file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def fundus():
    """Return a mosaic of fundus pictures, 560 by 420, in colour: sharp edges everywhere."""
    file = DATA / "retinamnist.npz"
    if not file.is_file():
        pytest.skip("no fundus pictures here")
    tiles = np.load(file)["test_images"][:300].reshape(15, 20, 28, 28, 3)
    return Image.fromarray(tiles.transpose(0, 2, 1, 3, 4).reshape(420, 560, 3))


def exact_files():
    """Return files by name whose pixels a browser has to find to the last bit."""
    whole = fundus()
    turned = Image.Exif()
    turned[0x112] = 6
    return {
        "colour.png": saved(whole, "PNG"),
        "colour.bmp": saved(whole, "BMP"),
        "colour.webp": saved(whole, "WEBP", quality=80),
        "grey.png": saved(whole.convert("L"), "PNG"),
        "palette.png": saved(whole.convert("P"), "PNG"),
        "turned.jpeg": saved(whole.resize((200, 150)), "JPEG", exif=turned),
        "tall.png": saved(whole.resize((37, 91)), "PNG"),
        "taller.png": saved(whole.resize((100, 420)), "PNG"),
        "wide.png": saved(whole.resize((560, 41)), "PNG"),
        "small.png": saved(whole.crop((0, 0, 28, 28)), "PNG"),
        "chest.jpeg": chest_xrays()[0][0],
    }


def refused_files():
    """Return files by name that a page refuses, and by which word."""
    whole = fundus().resize((40, 40))
    png = saved(whole, "PNG")
    glass = whole.convert("RGBA")
    glass.putpixel((3, 3), (1, 2, 3, 100))
    deep = Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40))
    bomb = bytearray(png)
    bomb[16:24] = np.array([30000, 30000], ">u4").tobytes()
    return {
        "empty.png": (b"", "empty"),
        "letter.png": (b"Dear doctor,\nthe picture follows.\n" * 20, "text"),
        "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "text"),
        "scan.dcm": (bytes(128) + b"DICM" + bytes(400), "volume"),
        "brain.nii": (bytes(344) + b"n+1\0" + bytes(400), "volume"),
        "brain.nii.gz": (b"\x1f\x8b\x08" + bytes(400), "volume"),
        "scan.tif": (saved(whole, "TIFF"), "tiff"),
        "clip.mp4": (b"\0\0\0\x18ftypisom" + bytes(400), "not-picture"),
        "noise.bin": (bytes(range(200, 256)) * 20, "not-picture"),
        "cut.png": (png[:200], "damaged"),
        "bomb.png": (bytes(bomb), "many-pixels"),
        "deep.png": (saved(deep, "PNG"), "deep"),
        "glass.png": (saved(glass, "PNG"), "transparent"),
        "print.jpeg": (saved(whole.convert("CMYK"), "JPEG"), "cmyk"),
    }
