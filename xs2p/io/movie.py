"""Open movies lazily: suite2p binaries, ``.npy``, TIFF stacks and Zarr stores."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._attrs import TIME

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import DTypeLike

    from xs2p.io._lazy import _Frames

DIMS = ("time", "y", "x")
SUFFIXES = (".bin", ".raw", ".npy", ".tif", ".tiff", ".zarr")


def open_movie(
    path: str | os.PathLike[str],
    *,
    shape: Sequence[int] | None = None,
    fs: float | None = None,
    dtype: DTypeLike | None = None,
    chunks: int | None = None,
    variable: str | None = None,
) -> xr.DataArray:
    """Open a movie lazily, in its own dtype.

    Only headers are read here; each chunk is read once, when it is computed.

    Parameters
    ----------
    path : str or path-like
        The movie, its format told by its suffix: ``.bin`` or ``.raw`` (suite2p's binary:
        frames one after the other, no header), ``.npy``, ``.tif`` or ``.tiff``, or a
        ``.zarr`` directory.
    shape : (int, int), optional
        ``(Ly, Lx)``, the size of a frame in pixels. Needed for ``.bin`` and ``.raw`` unless
        suite2p's ``ops.npy`` lies beside them; checked for the other formats.
    fs : float, optional
        Frames per second, in Hz. It is never guessed: without it there is no ``fs`` and no
        ``time`` coordinate but what a Zarr store has of its own.
    dtype : dtype, optional
        The dtype of the frames of ``.bin`` and ``.raw``, by default little-endian int16 as
        suite2p writes them; checked for the other formats.
    chunks : int, optional
        Frames per chunk. By default whole frames of 64 to 128 MB together, for Zarr a
        multiple of the store's own chunks of about that size.
    variable : str, optional
        Which array of a Zarr store is the movie, where it has several.

    Returns
    -------
    xarray.DataArray
        ``movie`` with dims ``(time, y, x)``, over Dask, in the byte order of this machine.
        With ``fs``: a ``time`` coordinate in s, and ``attrs["fs"]``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The suffix is unknown; ``shape`` or ``dtype`` is missing or disagrees with the file;
        the file is empty, cut or no movie; ``fs`` or ``chunks`` is not positive.

    Notes
    -----
    A TIFF stack whose first axis is called channels, as writers do that are told nothing, is
    taken for a movie where there are more than four of them.

    An ``.npy`` file in Fortran order is read correctly but slowly, since every frame is
    spread over the whole file: store it anew with ``numpy.save(path, movie.copy("C"))``.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "data.bin")
    >>> np.zeros((100, 4, 6), "<i2").tofile(path)
    >>> movie = open_movie(path, shape=(4, 6), fs=30.0)
    >>> movie.dims, movie.shape, str(movie.dtype)
    (('time', 'y', 'x'), (100, 4, 6), 'int16')
    """
    name = os.fspath(path)
    suffix = os.path.splitext(name.rstrip("/" + os.sep))[1].lower()
    if not os.path.exists(name):
        raise FileNotFoundError(f"open_movie: no file or folder {name!r}")
    if suffix not in SUFFIXES:
        raise ValueError(
            f"open_movie: {name!r} has the suffix {suffix!r}, expected one of "
            f"{', '.join(SUFFIXES)}; rename the file, or load it yourself and give "
            "xarray.DataArray(frames, dims=('time', 'y', 'x'))"
        )
    fs = _checked_fs(fs)
    if chunks is not None and not (is_whole(chunks) and chunks > 0):
        raise ValueError(f"chunks={chunks!r}: expected frames per chunk, a whole number from 1 on")
    frame = checked_shape(shape)
    dtype = _checked_dtype(dtype)
    if variable is not None and suffix != ".zarr":
        raise ValueError(
            f"variable={variable!r} picks an array of a Zarr store; {name!r} holds one movie only: "
            f"call open_movie({name!r}) without it"
        )
    if os.path.isdir(name) != (suffix == ".zarr"):
        kind = "a folder" if suffix == ".zarr" else "a file"
        raise ValueError(f"open_movie: expected {name!r} to be {kind} as its suffix says")
    if suffix == ".zarr":
        from xs2p.io._zarr import open_zarr_movie

        movie = open_zarr_movie(name, chunks, variable)
    else:
        movie = _open_file(name, suffix, frame, dtype, chunks)
    _check_agreement(movie, name, frame, dtype)
    return _labelled(movie, name, fs)


def _open_file(
    name: str,
    suffix: str,
    frame: tuple[int, int] | None,
    dtype: DTypeLike | None,
    chunks: int | None,
) -> xr.DataArray:
    import xarray as xr

    from xs2p.io._lazy import to_dask

    frames: _Frames
    if suffix in (".bin", ".raw"):
        frames = _raw_frames(name, frame, dtype)
    elif suffix == ".npy":
        frames = _npy_frames(name)
    else:
        from xs2p.io._tiff import tiff_frames

        frames = tiff_frames(name)
    check_dtype(frames.dtype, name)
    if 0 in frames.shape:
        raise ValueError(f"{name}: holds no pixels, its shape is {frames.shape}")
    return xr.DataArray(to_dask(frames, chunks), dims=DIMS, name="movie")


def _raw_frames(name: str, frame: tuple[int, int] | None, dtype: DTypeLike | None) -> _Frames:
    from xs2p.io._lazy import RawFrames, Stamp

    if frame is None:
        frame = _shape_from_ops(name)
    stored = np.dtype("<i2" if dtype is None else dtype)
    check_dtype(stored, name)
    stamp = Stamp.of(name)
    frame_bytes = frame[0] * frame[1] * stored.itemsize
    if stamp.size == 0:
        raise ValueError(f"{name}: the file is empty, expected frames of {frame_bytes} bytes")
    if stamp.size % frame_bytes:
        raise ValueError(
            f"{name}: {stamp.size} bytes are not a multiple of the {frame_bytes} bytes of a frame "
            f"of shape={frame} and dtype={stored}: {stamp.size // frame_bytes} frames and "
            f"{stamp.size % frame_bytes} bytes more. Give the right shape=(Ly, Lx) and dtype=; if "
            "they are right, the file was cut while it was written"
        )
    return RawFrames(stamp, (stamp.size // frame_bytes, *frame), stored.str)


def _shape_from_ops(name: str) -> tuple[int, int]:
    from xs2p.io._unpickle import load_npy

    ops_path = os.path.join(os.path.dirname(name), "ops.npy")
    call = f"open_movie({name!r}, shape=(Ly, Lx))"
    if not os.path.exists(ops_path):
        raise ValueError(
            f"{name}: a raw binary does not say the size of its frames; give it in pixels: {call}"
        )
    ops = load_npy(ops_path)
    try:
        return int(ops.item()["Ly"]), int(ops.item()["Lx"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{ops_path}: holds no Ly and Lx; give them: {call}") from error


def _npy_frames(name: str) -> _Frames:
    from xs2p.io._lazy import FortranFrames, RawFrames, Stamp
    from xs2p.io._unpickle import read_header

    stamp = Stamp.of(name)
    with open(name, "rb") as file:
        shape, fortran, dtype = read_header(file, name)
        offset = file.tell()
    check_dtype(dtype, name)
    if len(shape) != 3:
        raise ValueError(
            f"{name}: an array of {len(shape)} dims, shape {shape}, expected 3: (time, y, x). Load "
            "it with numpy.load, take or add an axis, and save it anew"
        )
    needed = offset + math.prod(shape) * dtype.itemsize
    if stamp.size < needed:
        raise ValueError(
            f"{name}: {stamp.size} bytes, but shape {shape} of {dtype} needs {needed}: "
            "the file was cut"
        )
    layout = FortranFrames if fortran else RawFrames
    return layout(stamp, (shape[0], shape[1], shape[2]), dtype.str, offset)


def check_dtype(dtype: np.dtype[Any], name: str) -> None:
    """Raise unless the dtype is one of real numbers."""
    if dtype.kind not in "biuf":
        raise ValueError(
            f"{name}: dtype {dtype}, expected real numbers such as int16, uint16 or float32"
        )


def _checked_dtype(dtype: DTypeLike | None) -> np.dtype[Any] | None:
    if dtype is None:
        return None
    try:
        return np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError) as error:
        raise ValueError(
            f"dtype={dtype!r}: expected a number type, such as 'int16' or 'float32'"
        ) from error


def _checked_fs(fs: float | None) -> float | None:
    if fs is None:
        return None
    if not (
        isinstance(fs, float | int | np.number) and fs is not True and math.isfinite(fs) and fs > 0
    ):
        raise ValueError(f"fs={fs!r}: expected frames per second in Hz, finite and above 0")
    return float(fs)


def checked_shape(shape: Sequence[int] | None) -> tuple[int, int] | None:
    """Give ``(Ly, Lx)`` as two ints, or raise."""
    if shape is None:
        return None
    values = tuple(shape) if isinstance(shape, Iterable) else ()
    if len(values) != 2 or not all(is_whole(n) and n > 0 for n in values):
        raise ValueError(
            f"shape={shape!r}: expected (Ly, Lx), two whole numbers of pixels from 1 on, "
            "as in shape=(512, 512)"
        )
    return int(values[0]), int(values[1])


def is_whole(number: Any) -> bool:
    """Whether something is a whole number, of Python or of numpy."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def _check_agreement(
    movie: xr.DataArray, name: str, frame: tuple[int, int] | None, dtype: DTypeLike | None
) -> None:
    if frame is not None and movie.shape[1:] != frame:
        raise ValueError(
            f"shape={frame} disagrees with {name!r}, whose frames are (Ly, Lx) = "
            f"{movie.shape[1:]}; leave shape out, the file knows it"
        )
    if dtype is not None and np.dtype(dtype).newbyteorder("=") != movie.dtype:
        raise ValueError(
            f"dtype={np.dtype(dtype)} disagrees with {name!r}, which holds {movie.dtype}; leave "
            f"dtype out and convert with .astype({str(np.dtype(dtype))!r}) where you need it"
        )


def _labelled(movie: xr.DataArray, name: str, fs: float | None) -> xr.DataArray:
    defaults = {
        "units": "a.u.",
        "long_name": "fluorescence movie",
        "description": "Frames as the file holds them, opened by xs2p.open_movie.",
    }
    movie = movie.rename("movie").assign_attrs({**defaults, **movie.attrs, "source": name})
    if fs is None:
        return movie
    seconds = np.arange(movie.sizes["time"]) / fs
    return movie.assign_attrs(fs=fs).assign_coords(time=("time", seconds, TIME))
