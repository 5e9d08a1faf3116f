"""Section `crowding`: whether the clustered hashes crowd as those of pictures do.

Two comparisons, kind by kind. The same pictures of 64 x 64 pixels, hashed by
`pictures` and by `matching.pdq`: the hashes have to be equal. And pictures of
512 x 512 pixels, drawn by other means (typeset text, the demo's photographs with
captions, JPEG) and put through everything that a node does with a picture: as many
of them should have as many neighbours within the threshold as those of `pictures`.
That is a likeness of two drawings, not a survey of what platforms hold.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.hashes import SEED, THRESHOLD
from benchmarks.measuring import percentile
from benchmarks.pictures import Artist, hash_pictures
from hashlight_node.demo.pictures import load_photos
from hashlight_node.matching.image import HASHED_SIDE, decode_image
from hashlight_node.matching.pdq import luminance, pdq_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.hashes import Hashes
    from benchmarks.options import Options
    from benchmarks.results import Results
    from hashlight_node.matching.pdq import Floats

_PICTURES: Final = 800
_QUICK_PICTURES: Final = 100
_COMPARED: Final = 200
_LETTERS: Final = 32
_NEW_LINES: Final = 2
_WHITE: Final = (255, 255, 255)
_WORDS: Final = "when you that the and moment nobody told me before was it this is"


def run(options: Options, results: Results) -> None:
    """Compare every kind."""
    count = _QUICK_PICTURES if options.quick else _PICTURES
    photographer = Photographer()
    artist = Artist(templates=len(photographer.photos), letters=_LETTERS)
    rng = np.random.default_rng(SEED)
    for kind, draw in artist.kinds.items():
        # One by one: pictures drawn together may share a layout.
        pictures = np.concatenate([draw(rng, 1) for _ in range(count)])
        modelled = hash_pictures(pictures)
        exact = np.stack([_digest(it) for it in pictures[:_COMPARED]])
        equal = (exact == modelled[:_COMPARED]).all(axis=1).mean()
        make = photographer.kinds[kind]
        real = np.stack([_digest(_decoded(make(rng))) for _ in range(count)])
        row = {
            "what": kind,
            "pictures": count,
            "equal_to_pdq": float(equal),
            "drawn": _neighbours(modelled),
            "photographed": _neighbours(real),
        }
        results.add("crowding", row)
        print(f"  {kind}: {row['drawn']} drawn, {row['photographed']} photographed")


def _digest(luma: Floats) -> Hashes:
    return np.frombuffer(pdq_hash(luma).digest, dtype=np.uint8)


def _decoded(file: bytes) -> Floats:
    return luminance(decode_image(file))


def _neighbours(hashes: Hashes) -> dict[str, float]:
    """Count the others within the threshold of each hash, as shares of all."""
    lanes = hashes.view(np.uint64)
    shares = []
    for lane in lanes:
        distances = np.bitwise_count(lanes ^ lane).sum(axis=1)
        shares.append((np.count_nonzero(distances <= THRESHOLD) - 1) / len(hashes))
    figures = {"p50": 50, "p90": 90, "most": 100}
    return {
        name: round(float(percentile(shares, percent)), 4)
        for name, percent in figures.items()
    }


class Photographer:
    """Draws pictures of 512 x 512 pixels with Pillow, and gives their files.

    Attributes:
        photos: What captions are put on.
        kinds: By the names that `pictures` uses, what makes one file.
    """

    def __init__(self) -> None:
        size = (HASHED_SIDE, HASHED_SIDE)
        self.photos = [
            Image.open(io.BytesIO(photo.data)).convert("RGB").resize(size)
            for photo in load_photos()
        ]
        self._large = ImageFont.load_default(36)
        self._small = ImageFont.load_default(13)
        rng = np.random.default_rng(SEED)
        self._margins = rng.integers(16, 80, size=_LETTERS)
        self._steps = rng.integers(32, 56, size=_LETTERS)
        self._ends = HASHED_SIDE - rng.integers(16, 300, size=(_LETTERS, HASHED_SIDE))
        self.kinds: dict[str, Callable[[np.random.Generator], bytes]] = {
            "meme": self.meme,
            "text": self.text,
            "gradient": self.gradient,
            "blank": self.blank,
        }

    def meme(self, rng: np.random.Generator) -> bytes:
        """Put two captions over a photograph."""
        picture = self.photos[int(rng.integers(len(self.photos)))].copy()
        pen = ImageDraw.Draw(picture)
        for top in (12, HASHED_SIDE - 60):
            words = _sentence(rng, int(rng.integers(2, 6)))
            pen.text(
                (16, top),
                words.upper(),
                fill=_WHITE,
                font=self._large,
                stroke_width=2,
                stroke_fill=(0, 0, 0),
            )
        return _jpeg(picture, int(rng.integers(30, 95)))

    def text(self, rng: np.random.Generator) -> bytes:
        """Typeset a letter of which two lines are new."""
        letter = int(rng.integers(_LETTERS))
        picture = Image.new("RGB", (HASHED_SIDE, HASHED_SIDE), _WHITE)
        margin, step = int(self._margins[letter]), int(self._steps[letter])
        tops = range(margin, HASHED_SIDE - margin, step)
        anew = set(rng.choice(tops, size=_NEW_LINES).tolist())
        for top in tops:
            writer = rng if top in anew else np.random.default_rng([letter, top])
            line = Image.new("RGB", (HASHED_SIDE, 16), _WHITE)
            pen = ImageDraw.Draw(line)
            pen.text((0, 0), _sentence(writer, 24), fill=(20, 20, 20), font=self._small)
            width = max(8, int(self._ends[letter, top]) - margin)
            picture.paste(line.crop((0, 0, width, 16)), (margin, top))
        return _jpeg(picture, int(rng.integers(60, 95)))

    def gradient(self, rng: np.random.Generator) -> bytes:
        """Draw a ramp with a vignette."""
        across = np.linspace(-1, 1, HASHED_SIDE)
        x, y = across[np.newaxis, :], across[:, np.newaxis]
        angle = rng.uniform(0, 2 * np.pi)
        along = np.cos(angle) * x + np.sin(angle) * y
        around = x**2 * y**2 + 0.2 * along**2
        luma = 128 + rng.uniform(40, 100) * along - rng.uniform(20, 80) * around
        grey = np.clip(luma, 0, 255).round().astype(np.uint8)
        return _jpeg(Image.fromarray(grey).convert("RGB"), int(rng.integers(60, 95)))

    def blank(self, rng: np.random.Generator) -> bytes:
        """Put one small mark on white."""
        picture = Image.new("RGB", (HASHED_SIDE, HASHED_SIDE), _WHITE)
        x, y = np.clip(rng.normal(HASHED_SIDE / 2, 48, 2), 8, HASHED_SIDE - 32)
        side = int(rng.integers(8, 25))
        ImageDraw.Draw(picture).rectangle((x, y, x + side, y + side), fill=(60, 60, 60))
        return _jpeg(picture, int(rng.integers(60, 95)))


def _sentence(rng: np.random.Generator, count: int) -> str:
    return " ".join(rng.choice(_WORDS.split(), size=count))


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()
