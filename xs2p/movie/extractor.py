"""Movies of roiextractors: whatever its ``ImagingExtractor`` opens, through its own methods.

Releases differ in what these are called: ``get_series`` was ``get_video``, ``get_num_samples`` was
``get_num_frames``, ``get_image_shape`` was ``get_image_size``. Frames are ``(time, y, x)``, of
volumes ``(time, y, x, plane)``. Nothing of roiextractors is imported.
"""

from __future__ import annotations

import math
import pickle
import threading
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._attrs import time_attrs
from xs2p.disk.reads import named_read
from xs2p.movie.check import DIMS, PLANES, check_dtype, rate_of
from xs2p.movie.chunks import even_chunks, from_array

if TYPE_CHECKING:
    import xarray as xr

_READ = ("get_series", "get_video")
_COUNT = ("get_num_samples", "get_num_frames")
_SHAPE = ("get_image_shape", "get_frame_shape", "get_image_size")
_TIMES = ("get_timestamps", "sample_indices_to_time", "frame_to_time")


def is_imaging(source: Any) -> bool:
    """Whether something has the methods of an ``ImagingExtractor``."""
    needed = (_READ, _COUNT, ("get_sampling_frequency",))
    return not isinstance(source, type) and all(_method(source, names) for names in needed)


def open_extractor(source: Any, chunks: int | None) -> tuple[xr.DataArray, bool]:
    """Open an ``ImagingExtractor``, and tell whether its times were set by hand.

    Its last frame is read, which says what all of them are.
    """
    import xarray as xr

    told = type(source).__name__
    frames = _frames(source, told)
    planes = frames.shape[3:]
    ly, lx = frames.shape[1:3]
    size = (frames.shape[0], ly, lx * math.prod(planes))
    step = even_chunks(size, frames.dtype.itemsize) if chunks is None else chunks
    sizes = (min(step, frames.shape[0]), *frames.shape[1:])
    data = from_array(frames, sizes, frames.token)
    if planes == (1,):
        data, planes = data[..., 0], ()
    movie = xr.DataArray(data, dims=(*DIMS, "plane")[: data.ndim], name="movie")
    if planes:
        numbers = ("plane", np.arange(planes[0]), PLANES)
        movie = movie.transpose("plane", *DIMS).assign_coords(plane=numbers)
    return _timed(movie, source, told), _was_set(source)


@dataclass(frozen=True)
class ExtractorFrames:
    """Frames that an extractor reads, as a duck array ``(time, y, x)`` or ``(time, y, x, plane)``.

    One read at a time: extractors keep files open, and what reads them is mostly not made for
    several threads.
    """

    extractor: Any
    shape: tuple[int, ...]
    stored: str
    token: str
    lock: Any = field(default_factory=threading.Lock, compare=False)

    @property
    def ndim(self) -> int:
        """Number of dims, 3 or 4."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the frames, in this machine's byte order."""
        return np.dtype(self.stored).newbyteorder("=")

    def __dask_tokenize__(self) -> tuple[str, str]:
        return (type(self).__name__, self.token)

    def __getitem__(self, key: Any) -> np.ndarray[Any, Any]:
        time = key[0]
        wanted = np.atleast_1d(np.arange(self.shape[0])[time])
        first, stop = int(wanted.min(initial=self.shape[0])), int(wanted.max(initial=-1)) + 1
        first = min(first, stop)
        with self.lock, named_read(type(self.extractor).__name__, first, stop):
            frames = _read(self.extractor, first, stop)
            if frames.shape != (stop - first, *self.shape[1:]) or frames.dtype != self.stored:
                raise ValueError(
                    f"it gave {frames.shape} of {frames.dtype}, expected "
                    f"{(stop - first, *self.shape[1:])} of {self.dtype}"
                )
        if wanted.size < stop - first or not isinstance(time, slice) or (time.step or 1) < 0:
            frames = frames[wanted - first]
        frames = frames[(slice(None) if isinstance(time, slice) else 0, *key[1:])]
        return np.asarray(frames.astype(self.dtype, copy=False))

    def __reduce__(self) -> tuple[Any, ...]:
        import cloudpickle

        try:
            extractor = cloudpickle.dumps(self.extractor)
        except Exception as error:  # files that are open, mostly: what it raises is theirs
            raise TypeError(
                f"{type(self.extractor).__name__} cannot be sent to other processes "
                f"({type(error).__name__}: {error}): compute with threads of this one, as in "
                "movie.compute(scheduler='threads'), or open the file itself, as in "
                "open_movie('movie.tif')"
            ) from error
        return _unpickled, (extractor, self.shape, self.stored, self.token)


def _unpickled(
    extractor: bytes, shape: tuple[int, ...], stored: str, token: str
) -> ExtractorFrames:
    return ExtractorFrames(pickle.loads(extractor), shape, stored, token)


def _frames(source: Any, told: str) -> ExtractorFrames:
    """Find out size, planes and dtype by the last frame: what extractors say may be other."""
    import uuid

    count = _call(source, _COUNT)
    number = int(count) if count is not None else 0
    if number < 1:
        raise ValueError(f"open_movie: {told} holds no frames, it says that there are {count}")
    with named_read(told, number - 1, number):
        last = _read(source, number - 1, number)
    size = tuple(int(n) for n in np.ravel(_call(source, _SHAPE) or ()))[:2]
    volume = bool(getattr(source, "is_volumetric", False))
    fits = last.ndim == 4 if volume else last.ndim == 3
    # Some say (width, height): what they read has rows first.
    if not fits or last.shape[0] != 1 or (size and sorted(last.shape[1:3]) != sorted(size)):
        raise ValueError(
            f"open_movie: {told} says that it has {number} frames of {size}"
            f"{' and several planes' * volume}, and what it reads as the last of them is "
            f"{last.shape}, expected (1, y, x{', plane' * volume}); give its array, "
            "open_movie(frames), or the file"
        )
    check_dtype(last.dtype, told)
    if 0 in last.shape:
        raise ValueError(f"open_movie: {told} holds no pixels, its frames are {last.shape[1:]}")
    return ExtractorFrames(source, (number, *last.shape[1:]), last.dtype.str, uuid.uuid4().hex)


def _read(source: Any, start: int, stop: int) -> np.ndarray[Any, Any]:
    """Read frames ``start:stop``; some releases leave out the dim of a single one."""
    frames = np.asarray(_call(source, _READ, start, stop))
    if stop - start == 1 and frames.ndim == 2:
        frames = frames[None]
    return frames


def _timed(movie: xr.DataArray, source: Any, told: str) -> xr.DataArray:
    """Give it the timestamps that the extractor has; else its rate, if it says one."""
    rate = _rate(source)
    number = movie.sizes["time"]
    times = _own_times(source, number)
    if times is not None and times.shape != (number,):
        raise ValueError(
            f"open_movie: {told} has {times.size} timestamps of {number} frames; set_times of as "
            "many, or give its array, open_movie(frames, fs=...)"
        )
    if times is None:
        if rate is None:
            return movie
        seconds = np.arange(number) / rate
        return movie.assign_attrs(fs=rate).assign_coords(time=("time", seconds, time_attrs()))
    about = {**time_attrs(), "description": "Timestamps of the extractor."}
    movie = movie.assign_coords(time=("time", times, about))
    regular = rate_of(times)
    if regular is not None and rate is not None and math.isclose(regular, rate, rel_tol=1e-6):
        regular = rate
    return movie if regular is None else movie.assign_attrs(fs=regular)


def _rate(source: Any) -> float | None:
    said = source.get_sampling_frequency()
    rate = math.nan if said is None else float(said)
    return rate if math.isfinite(rate) and rate > 0 else None


def _own_times(source: Any, number: int) -> np.ndarray[Any, Any] | None:
    """Timestamps in s that were set or are in the file; None where they are those of the rate."""
    if _method(source, ("get_native_timestamps",)) and not _was_set(source):
        known = source.get_native_timestamps()
    elif _method(source, _TIMES) == "get_timestamps":
        known = source.get_timestamps()
    else:  # of older releases
        known = _call(source, _TIMES, np.arange(number))
    if known is None:
        return None
    times = np.asarray(known, np.float64)
    rate = _rate(source)
    made = rate is not None and np.array_equal(times, np.arange(number) / rate)
    return None if made else times


def _was_set(source: Any) -> bool:
    return _method(source, ("has_time_vector",)) is not None and bool(source.has_time_vector())


def _method(source: Any, names: tuple[str, ...]) -> str | None:
    """Name of the first of these methods that something has."""
    return next((name for name in names if callable(getattr(source, name, None))), None)


def _call(source: Any, names: tuple[str, ...], *given: Any) -> Any:
    """Call the first of these methods that something has; the others are its older names."""
    name = _method(source, names)
    if name is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        return getattr(source, name)(*given)
