"""Clustered hashes: pictures of 64 x 64 pixels are drawn, rounded to 8 bits and hashed.

PDQ reduces every picture to 64 x 64 before it looks at it, so what is drawn here is
what PDQ would see; its transform and its median follow, for thousands of pictures at
once. `crowding` holds both against the real thing: `matching.pdq` on these pictures,
and the whole pipeline on pictures of 512 x 512 drawn by other means.

    share  kind       what is drawn
    70 %   photo      nothing: unrelated photographs have random hashes, so random
                      bits stand for them; in a third of them, bits for one of the
                      copies that people make of a photograph (0 to 12 bits differ)
    20 %   meme       one of 8,192 templates, the popular ones far more often, with
                      a caption above, one below, brightened and re-encoded (noise)
    6 %    text       one of 1,024 letters of small text on white, two lines of it
                      written anew
    2 %    gradient   a ramp of any direction with a vignette and hardly any noise
    2 %    blank      white with one small mark and the noise of an encoder

The shares are ours. They put few neighbours around most hashes and hundreds to
thousands around some, which is what makes an index slow; they are no survey.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Pictures: TypeAlias = NDArray[np.float32]
    """n x 64 x 64 values of brightness, 0 to 255."""

SIDE: Final = 64

SHARES: Final = {"photo": 0.70, "meme": 0.20, "text": 0.06, "gradient": 0.02}
"""Of each kind; the rest is blank."""

_FREQUENCIES: Final = 16
_AT_ONCE: Final = 128  # pictures drawn at a time stay in the cache
_TEMPLATES: Final = 8192  # 128 MB
_POPULAR: Final = 200  # the first so many are about equally popular
_CAPTIONS: Final = 512
_LETTERS: Final = 1024
_NEW_LINES: Final = 2
_WORD_ROWS: Final = 512
_NOISES: Final = 256
_COPIED_SHARE: Final = 1 / 3
_COPIES_OF_ONE: Final = 8
_COPY_BITS: Final = 12
_WHITE: Final = 255.0


def clustered_hashes(count: int, seed: int) -> NDArray[np.uint8]:
    """Draw and hash so many pictures, all kinds mixed.

    The templates, captions and layouts do not depend on the seed: hashes of another
    seed are other pictures of the same world, and so fall into the same crowds.

    Returns:
        count x 32 bytes.
    """
    rng = np.random.default_rng([seed, count])
    hashes = np.empty((count, 32), dtype=np.uint8)
    start = round(count * SHARES["photo"])
    hashes[:start] = _photos(rng, start)
    artist = _artist()
    for kind, draw in artist.kinds.items():
        share = SHARES.get(kind, 1.0)  # the last takes what is left
        end = min(count, start + round(count * share))
        for first in range(start, end, _AT_ONCE):
            last = min(first + _AT_ONCE, end)
            hashes[first:last] = hash_pictures(draw(rng, last - first))
        start = end
    rng.shuffle(hashes)
    return hashes


def hash_pictures(pictures: Pictures) -> NDArray[np.uint8]:
    """Compute PDQ of pictures that are 64 x 64 already.

    The order in which products are added is the linear algebra library's, so that a
    bit whose frequency lies within rounding of the median may differ from
    `matching.pdq`, which pins that order.
    """
    cosines = _cosines()
    values = (cosines @ pictures @ cosines.T).reshape(len(pictures), -1)
    middle = values.shape[1] // 2 - 1
    median = np.partition(values, middle, axis=1)[:, middle, np.newaxis]
    return np.packbits((values > median)[:, ::-1], axis=1)


def _cosines() -> NDArray[np.float32]:
    rows = np.arange(1, _FREQUENCIES + 1)[:, np.newaxis]
    columns = 2 * np.arange(SIDE) + 1
    scale = np.sqrt(2 / SIDE)
    cosines: NDArray[np.float64] = scale * np.cos(np.pi / 2 / SIDE * rows * columns)
    return cosines.astype(np.float32)


def _photos(rng: np.random.Generator, count: int) -> NDArray[np.uint8]:
    """Draw random bits, a third of them as copies of one another."""
    hashes = rng.integers(0, 256, size=(count, 32), dtype=np.uint8)
    copies = round(count * _COPIED_SHARE)
    originals = max(1, copies // _COPIES_OF_ONE)
    for first in range(0, copies, _AT_ONCE):
        last = min(first + _AT_ONCE, copies)
        chosen = count - 1 - rng.integers(0, originals, size=last - first)
        bits = np.unpackbits(hashes[chosen], axis=1)
        # Bits at random places may meet twice, so that some copies differ in fewer.
        places = rng.integers(0, bits.shape[1], size=(len(bits), _COPY_BITS))
        flipped = rng.integers(0, _COPY_BITS + 1, size=len(bits))[:, np.newaxis]
        rows, columns = np.nonzero(np.arange(_COPY_BITS) < flipped)
        bits[rows, places[rows, columns]] ^= 1
        hashes[first:last] = np.packbits(bits, axis=1)
    return hashes


class Artist:
    """Draws pictures of a world that is always the same.

    Args:
        templates: How many different memes there are in it.
        letters: How many different letters.

    Attributes:
        kinds: By name, what draws so many pictures of one kind.
    """

    def __init__(self, templates: int = _TEMPLATES, letters: int = _LETTERS) -> None:
        rng = np.random.default_rng(64)
        self._noises = rng.standard_normal((_NOISES, SIDE, SIDE), dtype=np.float32)
        self._templates = _landscapes(rng, templates)
        popularity = 1 / (np.arange(templates) + float(_POPULAR))
        self._popularity = np.cumsum(popularity / popularity.sum())
        self._captions = 0.6 * _words(rng, _CAPTIONS, rows=5)
        # Small text: of a word hardly more is left than a shade of grey.
        self._word_rows = 0.3 + 0.25 * _words(rng, _WORD_ROWS, rows=2)
        self._margins = rng.integers(2, 10, size=letters)
        self._line_steps = rng.integers(4, 7, size=letters)
        self._line_ends = SIDE - rng.integers(2, 40, size=(letters, SIDE))
        self._line_words = rng.integers(0, _WORD_ROWS, size=(letters, SIDE))
        across = np.linspace(-1, 1, SIDE, dtype=np.float32)
        self._x, self._y = across[np.newaxis, :], across[:, np.newaxis]
        self.kinds: dict[str, Callable[[np.random.Generator, int], Pictures]] = {
            "meme": self.memes,
            "text": self.texts,
            "gradient": self.gradients,
            "blank": self.blanks,
        }

    def memes(self, rng: np.random.Generator, count: int) -> Pictures:
        """Put captions over templates, as everybody does."""
        chosen = np.searchsorted(self._popularity, rng.random(count))
        pictures = self._templates[np.minimum(chosen, len(self._templates) - 1)]
        rows = self._captions.shape[1]
        for band in (slice(1, 1 + rows), slice(SIDE - 1 - rows, SIDE - 1)):
            captions = self._captions[rng.integers(0, _CAPTIONS, size=count)]
            pictures[:, band] += captions * (_WHITE - pictures[:, band])
        pictures *= rng.uniform(0.85, 1.15, (count, 1, 1)).astype(np.float32)
        return self._encoded(rng, pictures, amplitude=2.0)

    def texts(self, rng: np.random.Generator, count: int) -> Pictures:
        """Write one letter so many times, and lines of it anew."""
        pictures = np.full((count, SIDE, SIDE), _WHITE, dtype=np.float32)
        letter = int(rng.integers(0, len(self._margins)))
        margin, step = int(self._margins[letter]), int(self._line_steps[letter])
        lines = range(margin, SIDE - margin, step)
        anew = rng.choice(lines, size=(count, _NEW_LINES))
        for line in lines:
            chosen = np.full(count, self._line_words[letter, line])
            new = (anew == line).any(axis=1)
            chosen[new] = rng.integers(0, _WORD_ROWS, size=np.count_nonzero(new))
            words = self._word_rows[chosen]
            inside = slice(margin, int(self._line_ends[letter, line]))
            band = slice(line, line + words.shape[1])
            pictures[:, band, inside] -= 200 * words[:, :, inside]
        return self._encoded(rng, pictures, amplitude=1.0)

    def gradients(self, rng: np.random.Generator, count: int) -> Pictures:
        """Draw ramps with vignettes."""
        angle = rng.uniform(0, 2 * np.pi, (count, 1, 1)).astype(np.float32)
        slope = rng.uniform(40, 100, (count, 1, 1)).astype(np.float32)
        vignette = rng.uniform(20, 80, (count, 1, 1)).astype(np.float32)
        along = np.cos(angle) * self._x + np.sin(angle) * self._y
        around = self._x**2 * self._y**2 + 0.2 * along**2
        pictures = 128 + slope * along - vignette * around
        return self._encoded(rng, pictures.astype(np.float32), amplitude=0.2)

    def blanks(self, rng: np.random.Generator, count: int) -> Pictures:
        """Put one small mark on white."""
        pictures = np.full((count, SIDE, SIDE), _WHITE, dtype=np.float32)
        at = np.clip(rng.normal(SIDE / 2, 6, (2, count)), 1, SIDE - 4).astype(np.intp)
        size = rng.integers(1, 4, size=count)
        for side in (1, 2, 3):
            of_it = np.flatnonzero(size == side)
            for down in range(side):
                for right in range(side):
                    pictures[of_it, at[0, of_it] + down, at[1, of_it] + right] = 60
        return self._encoded(rng, pictures, amplitude=0.4)

    def _encoded(
        self, rng: np.random.Generator, pictures: Pictures, *, amplitude: float
    ) -> Pictures:
        """Add what an encoder does, and round to what 8 bits hold."""
        noises = self._noises[rng.integers(0, _NOISES, size=len(pictures))]
        strength = rng.uniform(0, amplitude, (len(pictures), 1, 1)).astype(np.float32)
        pictures += strength * noises
        return np.rint(np.clip(pictures, 0, _WHITE, out=pictures), out=pictures)


@cache
def _artist() -> Artist:
    return Artist()


def _landscapes(rng: np.random.Generator, count: int) -> Pictures:
    """Draw pictures whose detail falls with its size, as in photographs."""
    frequency = np.fft.fftfreq(SIDE)
    radius = np.hypot(frequency[:, np.newaxis], np.fft.rfftfreq(SIDE))
    radius[0, 0] = 1
    pictures = np.empty((count, SIDE, SIDE), dtype=np.float32)
    for picture in pictures:
        waves = np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) / radius**1.2
        field = np.fft.irfft2(waves, s=(SIDE, SIDE))
        picture[:] = 128 + 50 * (field - field.mean()) / field.std()
    return np.clip(pictures, 0, _WHITE)


def _words(rng: np.random.Generator, count: int, *, rows: int) -> Pictures:
    """Draw lines of words as shares of ink, 0 to 1: count x rows x 64."""
    ink = np.zeros((count, rows, SIDE), dtype=np.float32)
    for line in ink:
        at = int(rng.integers(0, 4))
        while at < SIDE:
            width = int(rng.integers(2, 9))
            line[:, at : at + width] = rng.uniform(0.5, 1, (rows, 1))
            at += width + 1 + int(rng.integers(0, 2))
    return ink
