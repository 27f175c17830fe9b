"""Find the movie in an HDF5 file, and read its frames lazily."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.disk.hdf5_damage import BEGINNING, check_heaps, check_types, objects_in
from xs2p.disk.reads import check_claim
from xs2p.movie.boxes import BoxFrames
from xs2p.movie.check import DIMS
from xs2p.movie.chunks import aligned_chunks, from_array
from xs2p.movie.dims import MOST
from xs2p.movie.frames import Frames, Stamp, truncated
from xs2p.movie.hdf5_chunks import read_chunks
from xs2p.movie.hdf5_sources import check_dataset, check_found, other_files
from xs2p.movie.sources import ADVICE

if TYPE_CHECKING:
    import dask.array as da

    from xs2p.movie.turns import Stack

log = logging.getLogger("xs2p")
MOST_UNSEEN = 2**23  # frames that a file may tell of without a byte for each

# NWB's kinds of series of images, which all have x before y.
NWB_IMAGES = (
    "TwoPhotonSeries",
    "OnePhotonSeries",
    "ImageSeries",
    "ImageMaskSeries",
    "OpticalSeries",
)
NWB_DIMS = ("time", "x", "y")


@dataclass(frozen=True)
class H5Frames(Frames):
    """Frames of a dataset of an HDF5 file, which every read opens anew.

    ``axes`` says in which order the file has ``time``, ``y`` and ``x`` (NWB has x before y);
    ``shape`` is ``(time, y, x)`` all the same. ``sources`` are other files that have the frames.
    """

    dataset: str = ""
    axes: tuple[str, str, str] = DIMS
    sources: tuple[Stamp, ...] = ()

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Read these frames, whole."""
        return self._read(slice(start, stop), slice(None), slice(None))

    def take(self, start: int, step: int, count: int) -> np.ndarray[Any, Any]:
        """Read every ``step``-th frame."""
        stop = start + step * (count - 1) + 1
        return self._read(slice(start, stop, step), slice(None), slice(None))

    def _select(self, wanted: np.ndarray[Any, Any], space: Any) -> np.ndarray[Any, Any]:
        # A part of each frame is a part of the file too, where steps go forward.
        steps = np.unique(np.diff(wanted))
        forward = all(isinstance(k, slice) and (k.step or 1) > 0 for k in space[1:])
        if not len(wanted) or not forward or len(steps) > 1 or (len(steps) and steps[0] < 1):
            return super()._select(wanted, space)
        step = int(steps[0]) if len(steps) else 1
        return self._read(slice(int(wanted[0]), int(wanted[-1]) + 1, step), *_both(space[1:]))

    def _read(self, time: slice, y: slice, x: slice) -> np.ndarray[Any, Any]:
        order = [DIMS.index(axis) for axis in self.axes]
        keys = (time, y, x)
        held = tuple(self.shape[i] for i in order)
        frames = _part(self, held, tuple(keys[i] for i in order))
        frames = frames.transpose([self.axes.index(dim) for dim in DIMS])
        return np.ascontiguousarray(frames).astype(self.dtype, copy=False)


@dataclass(frozen=True)
class H5Box(BoxFrames):
    """Frames of a dataset of four or five axes."""

    dataset: str = ""
    sources: tuple[Stamp, ...] = ()

    def box(self, key: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        """Read a part of the dataset."""
        return _part(self, self.held, key).astype(self.dtype, copy=False)


def _part(frames: H5Frames | H5Box, held: tuple[int, ...], key: Any) -> np.ndarray[Any, Any]:
    """Read a part of a dataset that must be as it was when it was opened, of the shape ``held``."""
    with _opened(frames.stamp.path) as file:
        stored = file.get(frames.dataset)
        if getattr(stored, "shape", None) != held:
            shape = getattr(stored, "shape", ())
            found = shape[frames.axes.index("time")] if len(shape) == len(held) else 0
            raise truncated(frames, found, os.path.getsize(frames.stamp.path))
        if stored.dtype.newbyteorder("=") != frames.dtype:
            raise OSError(
                f"the file now holds {stored.dtype}, and held {frames.dtype} when it was opened: "
                "open it anew with xs2p.open_movie"
            )
        for source in frames.sources:  # HDF5 has zeros for what is in a file that is gone
            if not os.path.isfile(source.path):
                raise FileNotFoundError(f"its frames are in {source.path}, which is gone")
            source.check()
        require_filters(stored, f"{frames.stamp.path}/{frames.dataset}")
        part = read_chunks(stored, key)
        if part is None:
            part = stored[key]
            check_found(stored, key, part)
        return part


def _both(space: Any) -> tuple[slice, slice]:
    y, x = (*space, slice(None), slice(None))[:2]
    return y, x


def h5_frames(stored: Any, axes: tuple[str, str, str] | None = None) -> H5Frames:
    """Wrap a dataset of an open ``h5py.File``; nothing but its header is read."""
    path = stored.file.filename
    require_filters(stored, f"{path}{stored.name}")
    axes = axes_of(stored) if axes is None else axes
    sources = _sources_of(stored)
    shape = tuple(int(stored.shape[axes.index(dim)]) for dim in DIMS)
    return H5Frames(
        Stamp.of(path),
        (shape[0], shape[1], shape[2]),
        stored.dtype.newbyteorder("=").str,
        dataset=stored.name.lstrip("/"),
        axes=axes,
        sources=sources,
    )


def _sources_of(stored: Any) -> tuple[Stamp, ...]:
    """Other files that have a dataset's frames, of which it must not tell of too many."""
    path = stored.file.filename
    name = f"{path}{stored.name}"
    stamps = tuple(map(Stamp.of, other_files(stored, name)))
    size = os.path.getsize(path) + sum(stamp.size for stamp in stamps)
    most = MOST_UNSEEN + 8 * size
    check_claim(
        name, "frames or pixels along an axis", max(map(int, stored.shape), default=0), most
    )
    return stamps


def h5_stack(stored: Any, dims: tuple[str, ...] | None) -> Stack:
    """Frames of a dataset of any order of axes, which are ``dims`` or what its file says."""
    from xs2p.movie.dims import dims_of, lead
    from xs2p.movie.turns import Stack

    name = f"{stored.file.filename}{stored.name}"
    axes = dims_of(stored.shape, dims, name)
    if dims is None and axes_of(stored) != DIMS:  # the axes of length 1 stay where they are
        own = iter(axes_of(stored))
        axes = tuple(next(own) if axis in DIMS else axis for axis in axes)
        log.info("%s: axes %s, as MATLAB or NWB has them", name, axes)
    if len(axes) == 3:
        return Stack(h5_frames(stored, (axes[0], axes[1], axes[2])))
    require_filters(stored, name)
    size = dict(zip(axes, map(int, stored.shape), strict=True))
    number = math.prod(stored.shape) // max(1, size["y"] * size["x"])
    box = H5Box(
        Stamp.of(stored.file.filename),
        (number, size["y"], size["x"]),
        stored.dtype.newbyteorder("=").str,
        tuple(map(int, stored.shape)),
        axes,
        int((stored.chunks or (1,) * stored.ndim)[axes.index("time")]),
        stored.name.lstrip("/"),
        _sources_of(stored),
    )
    return Stack(box, lead(axes, stored.shape), said=True)


def is_matlab(stored: Any) -> bool:
    """Whether MATLAB has written a dataset: its own axes are those of the file reversed."""
    return "MATLAB_class" in stored.attrs


def axes_of(stored: Any) -> tuple[str, str, str]:
    """In which order a dataset has its dims: as NWB says it, or MATLAB leaves (y, x, time)."""
    if is_matlab(stored):
        return ("time", "x", "y")
    kind = stored.parent.attrs.get("neurodata_type", "")
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    return NWB_DIMS if kind in NWB_IMAGES and stored.name.endswith("/data") else DIMS


def find_movie(name: str, variable: str | None, dims: tuple[str, ...] | None) -> Stack:
    """Find the dataset of an HDF5 file that is a movie: (time, y, x), or of the axes ``dims``."""
    import h5py

    check_heaps(name, BEGINNING)
    try:
        file = h5py.File(name, "r")
    except OSError as error:
        old = name.lower().endswith(".mat")
        mend = f"; of MATLAB's versions up to 7: {ADVICE['.mat']}" if old else ""
        raise ValueError(f"{name}: not a readable HDF5 file ({error}){mend}") from error
    with file:
        check_types(objects_in(file), name)
        if variable is not None:
            chosen = file.get(variable)
            if isinstance(chosen, h5py.Dataset):
                check_dataset(chosen, name)
            if isinstance(chosen, h5py.Dataset) and _is_movie(chosen, dims, any_dims=True):
                return h5_stack(chosen, dims)
        found: dict[str, Any] = {}

        def note(key: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and not key.startswith("#"):  # MATLAB's own
                found[key] = item

        file.visititems(note)
        listing = "; ".join(f"{k} {d.shape} {d.dtype}" for k, d in found.items()) or "no datasets"
        if variable is not None:
            raise ValueError(
                f"variable={variable!r} is no (time, y, x) dataset of numbers of {name!r}, which "
                f"holds: {listing}"
            )
        movies = [key for key, item in found.items() if _is_movie(item, dims)]
        if not movies and dims is None:
            movies = [key for key, item in found.items() if _is_movie(item, None, any_dims=True)]
        if len(movies) != 1:
            problem = f"{len(movies)}; pick one with variable={movies[0]!r}" if movies else "none"
            axes = ("time", "y", "x") if dims is None else dims
            raise ValueError(
                f"{name}: expected one dataset of numbers with {len(axes)} dims, "
                f"({', '.join(axes)}), found {problem}. It holds: {listing}"
            )
        return h5_stack(found[movies[0]], dims)


def _is_movie(stored: Any, dims: tuple[str, ...] | None, any_dims: bool = False) -> bool:
    number = 3 if dims is None else len(dims)
    right = 3 <= stored.ndim <= MOST if any_dims else stored.ndim == number
    return right and stored.dtype.kind in "iufb" and 0 not in stored.shape


def h5_to_dask(frames: H5Frames, chunks: int | None) -> da.Array:
    """Wrap frames as a Dask array, chunked along the chunks of the file."""
    import h5py

    with h5py.File(frames.stamp.path, "r") as file:
        inside = file[frames.dataset].chunks
    stored = None
    if inside is not None:
        t, y, x = (int(inside[frames.axes.index(dim)]) for dim in DIMS)
        stored = (t, y, x)
    name = f"{frames.stamp.path}/{frames.dataset}"
    sizes = aligned_chunks(frames.shape, frames.dtype.itemsize, stored, chunks, name)
    return from_array(frames, sizes, frames)


def require_filters(stored: Any, name: str) -> None:
    """Raise unless all filters that a dataset was compressed with are here."""
    import h5py

    properties = stored.id.get_create_plist()
    for n in range(properties.get_nfilters()):
        code, _, _, label = properties.get_filter(n)
        if h5py.h5z.filter_avail(code):
            continue
        with contextlib.suppress(ImportError):
            import hdf5plugin  # noqa: F401  (registers its filters)
        if not h5py.h5z.filter_avail(code):
            raise ValueError(
                f"{name} is compressed with the HDF5 filter {code} "
                f"({label.decode(errors='replace') or 'without a name'}), which is not installed; "
                "pip install hdf5plugin brings the common ones"
            )


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Any]:
    import h5py

    with h5py.File(path, "r") as file:
        yield file
