"""A sound as the data holds it, read as the samples that a model's processor takes."""

import hashlib
import io
import struct
import warnings
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np

from layerwise.errors import DataError, one_line
from layerwise.extras import require
from layerwise.shapes import Array, Float

#: The longest sound that is read, in seconds: what is longer is no turn of a chat (ours).
LONGEST = 600.0


@dataclass(frozen=True)
class Sound:
    """A sound as the data holds it.

    Attributes:
        held: Its file, or the file's bytes; or its samples, (t,) or (t, channels).
        told: Where it stands, for errors.
        rate: Samples a second, where `held` is samples.
    """

    held: Any
    told: str
    rate: int = 0

    def wave(self, rate: int) -> Float[Array, "t"]:
        """Return its samples at `rate` a second, float32 of one channel, the mean of several.

        Raises:
            DataError: It cannot be read, holds nothing, or is too long to be a turn of a chat.
        """
        samples, own = self._samples()
        if own == rate:
            return samples
        from scipy.signal import resample_poly

        shared = gcd(own, rate)
        return np.asarray(resample_poly(samples, rate // shared, own // shared), dtype=np.float32)

    def has_rate(self, rate: int) -> bool:
        """Return whether its samples are of that many a second, so that none is changed."""
        return self._samples()[1] == rate

    def digest(self) -> str:
        """Return the hash of its rate and samples."""
        samples, own = self._samples()
        return hashlib.sha256(f"{own}".encode() + samples.tobytes()).hexdigest()

    def _samples(self) -> tuple[Float[Array, "t"], int]:
        """Return its samples, float32 (t,), and how many there are a second."""
        try:
            read, rate = (self.held, self.rate) if self.rate else _read(self.held)
            samples = np.asarray(read)
            if np.issubdtype(samples.dtype, np.integer):
                samples = _scaled(samples)
            mono = samples.astype(np.float32)
            mono = mono.mean(axis=1) if mono.ndim == 2 else mono
        except (
            OSError,
            ValueError,
            TypeError,
            OverflowError,
            EOFError,
            RuntimeError,
            struct.error,
        ) as error:
            what = f"{self.told} holds a sound that cannot be read ({one_line(error, limit=120)})"
            raise self._fault(what, "a whole WAV file, or its samples and sampling_rate") from error
        if rate <= 0 or mono.ndim != 1 or not mono.size or not np.isfinite(mono).all():
            what = f"{self.told} holds a sound without samples"
            raise self._fault(what, "numbers, and how many there are a second")
        if mono.size > LONGEST * rate:
            what = f"{self.told} holds a sound of {mono.size / rate:,.0f} s"
            raise self._fault(what, f"at most {LONGEST:g} s")
        return mono, int(rate)

    def _fault(self, what: str, expected: str) -> DataError:
        value = self.held if isinstance(self.held, Path) else type(self.held).__name__
        return DataError(what, value=str(value), expected=expected)


def _scaled(samples: Array) -> Array:
    """Return whole numbers as numbers from -1 to 1; bytes are counted from 128."""
    if samples.dtype == np.uint8:
        return np.asarray((samples.astype(np.float64) - 128.0) / 128.0)
    return np.asarray(samples / -float(np.iinfo(samples.dtype).min))


def _read(held: Path | bytes) -> tuple[Array, int]:
    """Return the samples and the rate of a file: WAV by SciPy, all others by soundfile."""
    from scipy.io import wavfile

    content = held.read_bytes() if isinstance(held, Path) else held
    if content[:4] in (b"RIFF", b"RIFX", b"RF64"):
        with warnings.catch_warnings(action="error", category=wavfile.WavFileWarning):
            try:
                rate, samples = wavfile.read(io.BytesIO(content))
            except wavfile.WavFileWarning as error:  # A file that ends before its data does.
                raise ValueError(str(error)) from error
        return samples, rate
    soundfile = require("soundfile", extra="sounds", purpose="read sounds that are no WAV")
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    return samples, rate
