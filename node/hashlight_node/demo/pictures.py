"""The demo's photographs and the copies that people make of pictures."""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from PIL import Image, ImageEnhance

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph shipped with the project (see photos/ATTRIBUTION.md)."""

    name: str
    data: bytes


def load_photos() -> tuple[Photo, ...]:
    """Load all photographs, in the order of their names."""
    folder = resources.files("hashlight_node.demo") / "photos"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".jpg")),
        key=lambda file: file.name,
    )
    return tuple(
        Photo(file.name.removesuffix(".jpg"), file.read_bytes()) for file in files
    )


def copies_of(photo: Photo) -> tuple[tuple[str, bytes], ...]:
    """Give what uploaders make of a picture: the name of each change, its bytes."""
    picture = Image.open(io.BytesIO(photo.data)).convert("RGB")
    half = (picture.width // 2, picture.height // 2)
    changes: tuple[tuple[str, Callable[[], bytes]], ...] = (
        ("the same file", lambda: photo.data),
        ("re-encoded, quality 40", lambda: _jpeg(picture, 40)),
        ("half the size", lambda: _jpeg(picture.resize(half), 85)),
        ("brightened by 15 %", lambda: _brightened(picture)),
    )
    return tuple((name, change()) for name, change in changes)


def _brightened(picture: Image.Image) -> bytes:
    return _jpeg(ImageEnhance.Brightness(picture).enhance(1.15), 85)


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()
