"""Open movies lazily: files of any of their formats, stores, and arrays."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import DTypeLike

    from xs2p.io._files import Source
    from xs2p.io._interleaved import Stack
    from xs2p.io._lazy import _Frames

DIMS = ("time", "y", "x")
log = logging.getLogger("xs2p")
log.addHandler(logging.NullHandler())


def open_movie(
    path: Any,
    *,
    shape: Sequence[int] | None = None,
    fs: float | None = None,
    dtype: DTypeLike | None = None,
    chunks: int | None = None,
    variable: str | None = None,
    channels: int | None = None,
    planes: int | None = None,
    order: str | Sequence[str] | None = None,
) -> xr.DataArray:
    """Open a movie lazily, in its own dtype.

    Only headers are read here; each chunk is read once, when it is computed, and of a channel or
    plane that is selected only its own frames.

    Parameters
    ----------
    path : path, list of paths, store or array
        The movie, in one of these:

        - a file, its format told by its suffix: ``.bin`` or ``.raw`` (frames one after the
          other, no header), ``.npy``, ``.tif``, ``.tiff`` or ``.btf`` (also BigTIFF, OME, ImageJ
          and ScanImage), ``.h5`` or ``.hdf5``, ``.nwb``;
        - several files that are one recording: a list of them, in their order, or a pattern such
          as ``"rec_*.tif"``, whose files are taken in natural order (``rec_2`` before
          ``rec_10``);
        - suite2p's folder, ``"suite2p"`` or ``"suite2p/plane0"``, or a list of plane folders, or
          of the ``data.bin`` in them: its registered movies;
        - a Zarr store: a ``.zarr`` folder, a group in one, a ``.zarr.zip`` file, a URL such as
          ``"s3://…"``, or a store of ``zarr.storage``; OME-Zarr too;
        - an array ``(time, y, x)``: a DataArray, of numpy, of Dask, a memory map, an
          ``h5py.Dataset``, a ``zarr.Array``, or whatever else has a shape and a dtype and can be
          sliced. Nothing of it is copied; memory maps are read from their file.
    shape : (int, int), optional
        ``(Ly, Lx)``, the size of a frame in pixels. Needed for ``.bin`` and ``.raw`` unless
        suite2p's ``ops.npy`` lies beside them; checked for the other formats.
    fs : float, optional
        Frames per second, in Hz, of each plane: volumes per second where there are several. It is
        never guessed: without it there is no ``fs`` and no ``time`` coordinate but what the
        ``ops.npy`` of a suite2p folder, an NWB file, a Zarr store or a DataArray has of its own.
    dtype : dtype, optional
        The dtype of the frames of ``.bin`` and ``.raw``, by default little-endian int16 as
        suite2p writes them; checked for the other formats.
    chunks : int, optional
        Frames per chunk. By default whole frames of 64 to 128 MB together, for Zarr and HDF5 a
        multiple of the file's own chunks of about that size. The logger ``xs2p`` tells at level
        INFO what was chosen.
    variable : str, optional
        Which array of a Zarr store, dataset of an HDF5 file or series of an NWB file is the
        movie, where there are several, as ``"group/name"``.
    channels, planes : int, optional
        How many channels and planes come in turn in the files, where the files do not say it
        themselves; where they do, these must agree. Frames of the fly-back count as planes:
        leave them out with ``movie.isel(plane=slice(0, 3))``. Turns go on from one file of a
        recording to the next.
    order : sequence of str, optional
        In which order ``"time"``, ``"plane"`` and ``"channel"`` change from frame to frame, the
        slowest first; by default as the file says, else ``("time", "plane", "channel")``: all
        channels of a plane, then the next plane. Given, it is believed together with
        ``channels`` and ``planes``, whatever the file says.

    Returns
    -------
    xarray.DataArray
        ``movie`` with dims ``(time, y, x)``, in front of them ``channel`` and ``plane`` where
        there are several, over Dask (an array in memory stays one), in the byte order of this
        machine. With ``fs``: a ``time`` coordinate in s, and ``attrs["fs"]``. Planes of suite2p
        carry their number as the coordinate ``plane``.

    Raises
    ------
    FileNotFoundError
        There is no such file, or none that matches.
    ValueError
        The suffix is unknown; ``shape``, ``dtype``, ``channels`` or ``planes`` is missing or
        disagrees with the file; files of one recording differ in frame size, dtype, channels or
        planes; a file is empty, cut or no movie; or an argument has no meaning for the format.
    ImportError
        Another package is needed to read it; the message has the call that installs it.

    Warns
    -----
    UserWarning
        The recording ends before all channels and planes have had their turn: frames of the last
        turn are left out, and their number is said.

    Notes
    -----
    A TIFF stack whose first axis is called channels or slices, as writers do that are told
    nothing, is taken for a movie where there are no frames beside them, and of channels more than
    four.

    An ``.npy`` file in Fortran order is read correctly but slowly, since every frame is
    spread over the whole file: store it anew with ``numpy.save(path, movie.copy("C"))``.

    suite2p's planes may differ by one frame; the last one of the longer is then left out, with a
    warning.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "data.bin")
    >>> np.zeros((100, 4, 6), "<i2").tofile(path)
    >>> movie = open_movie(path, shape=(4, 6), fs=30.0)
    >>> movie.dims, movie.shape, str(movie.dtype)
    (('time', 'y', 'x'), (100, 4, 6), 'int16')

    Two channels of three planes in turn, the last turn not complete:

    >>> movie = open_movie(path, shape=(4, 6), channels=2, planes=3)  # doctest: +SKIP
    >>> movie.dims, movie.shape                                       # doctest: +SKIP
    (('channel', 'plane', 'time', 'y', 'x'), (2, 3, 16, 4, 6))
    """
    from xs2p.io import _files

    fs = _checked_fs(fs)
    if chunks is not None and not (is_whole(chunks) and chunks > 0):
        raise ValueError(f"chunks={chunks!r}: expected frames per chunk, a whole number from 1 on")
    frame = checked_shape(shape)
    kind = _checked_dtype(dtype)
    turns = _checked_turns(channels, planes, order)
    if not _files.is_paths(path):
        _refuse(turns, variable if not _is_store(path) else None, "an array or a store")
        movie, told = _open_object(path, chunks, variable), None
    else:
        source = _files.find(path)
        told = source.told
        if source.kind == "stack":
            movie = _open_stacks(source, frame, kind, chunks, variable, turns)
        else:
            _refuse(turns, variable if source.kind == "suite2p" else None, repr(told))
            if source.kind == "suite2p":
                from xs2p.io._binaries import open_planes

                given = fs
                movie, fs = open_planes(source.names, told, frame, kind, chunks, fs)
                if given is None and fs is not None:
                    log.info("%s: fs=%g Hz, from its ops.npy", told, fs)
            elif source.kind == "nwb":
                from xs2p.io.nwb import open_nwb_movie

                movie = open_nwb_movie(source.names[0], chunks=chunks, variable=variable)
            else:
                from xs2p.io._zarr import open_zarr_movie

                movie = open_zarr_movie(source.names[0], told, chunks, variable)
    _check_agreement(movie, told or type(path).__name__, frame, kind)
    movie = _labelled(movie, told, fs)
    _tell(movie, told or type(path).__name__, chunks)
    return movie


def _is_store(path: Any) -> bool:
    """Whether something is a store or a group of Zarr's, without importing it."""
    return type(path).__module__.partition(".")[0] == "zarr" and not hasattr(path, "shape")


def _open_object(source: Any, chunks: int | None, variable: str | None) -> xr.DataArray:
    if _is_store(source):
        from xs2p.io._zarr import open_zarr_movie

        movie: xr.DataArray = open_zarr_movie(source, str(source), chunks, variable)
        return movie
    from xs2p.io._array import open_array

    return open_array(source, chunks)


def _refuse(turns: dict[str, Any], variable: str | None, what: str) -> None:
    if variable is not None:
        raise ValueError(
            f"variable={variable!r} picks an array of a Zarr store, an HDF5 or an NWB file; {what} "
            "holds one movie only: call open_movie without it"
        )
    for name, value in turns.items():
        if value is not None:
            raise ValueError(
                f"{name}={value!r} tells how frames come in turn in files of {_stacks()}, not "
                f"in {what}; select frames with movie.isel(time=slice(0, None, 2))"
            )


def _stacks() -> str:
    from xs2p.io._files import STACKS

    return ", ".join(STACKS)


def _open_stacks(
    source: Source,
    frame: tuple[int, int] | None,
    dtype: np.dtype[Any] | None,
    chunks: int | None,
    variable: str | None,
    turns: dict[str, Any],
) -> xr.DataArray:
    import xarray as xr

    from xs2p.io._files import suffix_of
    from xs2p.io._interleaved import lay_out
    from xs2p.io._recording import recordings_to_dask

    h5 = suffix_of(source.names[0]) in (".h5", ".hdf5")
    if variable is not None and not h5:
        _refuse({}, variable, repr(source.told))
    alone = len(source.names) == 1
    plain = turns["order"] is not None
    stacks = [_stack(n, frame, dtype, variable, alone, plain) for n in source.names]
    first = stacks[0].frames
    for stack in stacks:
        _check_alike(stack, stacks[0])
    if any(stack.note for stack in stacks):
        log.info("%s: %s; give fs= to use it", source.told, stacks[0].note)
    dims, grid = lay_out(stacks, **turns)
    data: Any
    if alone and not dims and grid[()].shape == first.shape:
        from xs2p.io._hdf5 import H5Frames, h5_to_dask
        from xs2p.io._lazy import to_dask

        data = h5_to_dask(first, chunks) if isinstance(first, H5Frames) else to_dask(first, chunks)
    else:
        data = recordings_to_dask(grid, chunks)
    return xr.DataArray(data, dims=(*dims, *DIMS), name="movie")


def _stack(
    name: str,
    frame: tuple[int, int] | None,
    dtype: np.dtype[Any] | None,
    variable: str | None,
    alone: bool,
    plain: bool,
) -> Stack:
    from xs2p.io._files import suffix_of
    from xs2p.io._interleaved import Stack

    suffix = suffix_of(name)
    if os.path.isdir(name):
        raise ValueError(f"open_movie: expected {name!r} to be a file as its suffix says")
    if suffix in (".bin", ".raw"):
        stack = Stack(raw_frames(name, frame, dtype))
    elif suffix == ".npy":
        stack = Stack(_npy_frames(name))
    elif suffix in (".h5", ".hdf5"):
        from xs2p.io._hdf5 import find_movie

        stack = Stack(find_movie(name, variable))
    else:
        from xs2p.io._tiff import tiff_stack

        stack = tiff_stack(name, alone, plain)
    check_dtype(stack.frames.dtype, name)
    if 0 in stack.frames.shape:
        raise ValueError(f"{name}: holds no pixels, its shape is {stack.frames.shape}")
    return stack


def _check_alike(stack: Stack, first: Stack) -> None:
    for what, has, wanted in (
        ("frames (Ly, Lx) =", stack.frames.shape[1:], first.frames.shape[1:]),
        ("dtype", stack.frames.dtype, first.frames.dtype),
    ):
        if has != wanted:
            raise ValueError(
                f"{stack.name} has {what} {has}, but {first.name} has {wanted}: files of one "
                "recording must agree; open those of each kind by themselves"
            )


def raw_frames(name: str, frame: tuple[int, int] | None, dtype: DTypeLike | None) -> Any:
    """Find the frames of a file without a header."""
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


def _checked_turns(
    channels: int | None, planes: int | None, order: str | Sequence[str] | None
) -> dict[str, Any]:
    for name, count in (("channels", channels), ("planes", planes)):
        if count is not None and not (is_whole(count) and count > 0):
            raise ValueError(
                f"{name}={count!r}: expected how many {name} come in turn, a whole number from 1 on"
            )
    if order is not None:
        given = order.replace(",", " ").split() if isinstance(order, str) else list(order)
        if set(given) - {"time", "plane", "channel"} or len(set(given)) < len(given):
            given = []
        needed = {
            "time",
            *(["channel"] if (channels or 1) > 1 else []),
            *(["plane"] if (planes or 1) > 1 else []),
        }
        if not needed <= set(given):
            raise ValueError(
                f"order={order!r}: expected {', '.join(sorted(needed))}, the slowest first, as in "
                "order=('time', 'plane', 'channel'), with channels= and planes= to say how many"
            )
        order = tuple(given)
    return {"channels": channels, "planes": planes, "order": order}


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
    if frame is not None and movie.shape[-2:] != frame:
        raise ValueError(
            f"shape={frame} disagrees with {name!r}, whose frames are (Ly, Lx) = "
            f"{movie.shape[-2:]}; leave shape out, the file knows it"
        )
    if dtype is not None and np.dtype(dtype).newbyteorder("=") != movie.dtype:
        raise ValueError(
            f"dtype={np.dtype(dtype)} disagrees with {name!r}, which holds {movie.dtype}; leave "
            f"dtype out and convert with .astype({str(np.dtype(dtype))!r}) where you need it"
        )


def _labelled(movie: xr.DataArray, told: str | None, fs: float | None) -> xr.DataArray:
    defaults = {"units": "a.u.", "long_name": "fluorescence movie"}
    movie = movie.rename("movie").assign_attrs({**defaults, **movie.attrs})
    if told is not None:
        movie = movie.assign_attrs(source=told)
    if fs is None:
        return movie
    seconds = np.arange(movie.sizes["time"]) / fs
    attrs = {"units": "s", "long_name": "time"}
    return movie.assign_attrs(fs=fs).assign_coords(time=("time", seconds, attrs))


def _tell(movie: xr.DataArray, told: str, asked: int | None) -> None:
    """Log what was opened and how it is chunked."""
    if not log.isEnabledFor(logging.INFO):
        return
    sizes = ", ".join(f"{dim} {n}" for dim, n in movie.sizes.items())
    if movie.chunks is None:
        log.info("%s: (%s) %s, in memory, not chunked", told, sizes, movie.dtype)
        return
    chunk = [max(part) for part in movie.chunks]
    log.info(
        "%s: (%s) %s; %d chunks of %s (%.1f MB), %s",
        told,
        sizes,
        movie.dtype,
        math.prod(map(len, movie.chunks)),
        " x ".join(map(str, chunk)),
        math.prod(chunk) * movie.dtype.itemsize / 1e6,
        "as asked for"
        if asked
        else "of whole frames where they fit into 134 MB; chunks= changes it",
    )
