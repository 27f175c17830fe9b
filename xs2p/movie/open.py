"""Open movies lazily: files of any of their formats, stores, and arrays."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._attrs import ARBITRARY, time_attrs
from xs2p._frames import with_frames
from xs2p._time import compare_rate
from xs2p.disk.reads import naming
from xs2p.movie.check import PLANES, checked_shape, is_whole
from xs2p.movie.dims import checked_dims
from xs2p.movie.formats import is_store, open_object, open_source, refuse, without_times_of_a_rate

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import DTypeLike

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
    dims: str | Sequence[str] | None = None,
    segments: Any = None,
    registration: Any = None,
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
          and ScanImage), ``.h5`` or ``.hdf5``, ``.nwb``, CaImAn's ``.mmap``,
          grey ``.avi`` and ``.mkv`` of Miniscopes (``pip install "xs2p[video]"``; an MKV is gone
          through once, to count its frames),
          Scanbox's ``.sbx`` with its ``.mat`` beside it, Nikon's ``.nd2``, Leica's ``.lif``,
          Zeiss's ``.czi`` and Olympus' ``.oib`` or ``.oif`` (``pip install "xs2p[microscopes]"``),
          MATLAB's ``.mat`` (of version 7.3, whose ``(y, x, time)`` HDF5 has reversed; an older one
          that is compressed is read whole);
        - several files that are one recording: a list of them, in their order, or a pattern such
          as ``"rec_*.tif"``, whose files are taken in natural order (``rec_2`` before
          ``rec_10``);
        - suite2p's folder, ``"suite2p"`` or ``"suite2p/plane0"``, or a list of the plane folders
          in it, or of the ``data.bin`` in these: its registered movies;
        - a folder of Bruker's Prairie View, or the ``.xml`` file in it, which says channels,
          planes and times;
        - a folder of Thorlabs' ThorImage LS, or a ``.raw`` file or the ``Experiment.xml`` in it,
          which says size, channels, planes with fly-back and rate;
        - a Zarr store: a ``.zarr`` folder, a group in one, a ``.zarr.zip`` file, a URL such as
          ``"s3://…"``, or a store of ``zarr.storage``; OME-Zarr too;
        - an array ``(time, y, x)``: a DataArray, of numpy, of Dask, a memory map, an
          ``h5py.Dataset``, a ``zarr.Array``, or whatever else has a shape and a dtype and can be
          sliced. Nothing of it is copied; memory maps are read from their file, where that has
          what they have;
        - an ``ImagingExtractor`` of roiextractors. Its last frame is read to know what all are.
    shape : (int, int), optional
        ``(Ly, Lx)``, the size of a frame in pixels. Needed for ``.bin`` and ``.raw`` unless
        suite2p's ``ops.npy`` or ``db.npy``, or an ``Experiment.xml``, lies beside them; checked for
        the other formats.
    fs : float, optional
        Frames per second, in Hz, of each plane: volumes per second where there are several. It is
        never guessed: without it there is no ``fs`` and no ``time`` coordinate but what the
        ops of suite2p (also beside its ``data.bin``), a ``.sbx``, the XML of Prairie View or
        ThorImage, an extractor, an NWB file, a TIFF of ImageJ (``finterval``) or OME
        (``TimeIncrement``), a Zarr store (OME's scale too), a microscope's file (measured times of
        frames; of LIF else the length of its time axis) or a DataArray has of its own.
        The timestamps of these are kept with it, and where the two are half a frame apart, one
        warning says so; of an NWB file with a rate alone, the time of the first frame is kept.
    dtype : dtype, optional
        The dtype of the frames of ``.bin`` and ``.raw``, by default little-endian int16 as
        suite2p writes them; checked for the other formats.
    chunks : int, optional
        Frames per chunk, of one channel and plane. By default whole frames of 64 to 128 MB
        together, for Zarr and HDF5 a multiple of the file's own chunks of about that size. The
        logger ``xs2p`` tells at level INFO what was chosen.
    variable : str, optional
        Which array of a Zarr store, dataset of an HDF5 file or series of an NWB file is the
        movie, where there are several, as ``"group/name"``; which position of an ND2 file, image of
        a LIF or scene of a CZI, by its name.
    channels, planes : int, optional
        How many channels and planes come in turn in the files, where the files do not say it
        themselves; where they do, these must agree. Frames of the fly-back count as planes:
        leave them out with ``movie.isel(plane=slice(0, 3))``. Turns go on from one file of a
        recording to the next.
    order : sequence of str, optional
        In which order ``"time"``, ``"plane"`` and ``"channel"`` change from frame to frame, the
        slowest first; by default as the file says, else ``("time", "plane", "channel")``: all
        channels of a plane, then the next plane. Given, it is believed together with
        ``channels`` and ``planes``, whatever the file says, and whatever is missing of it. Of NWB
        (HDF5 or Zarr): ``"xy"``, as the schema has frames and as is taken without it, or ``"yx"``
        where the writer had the rows first; ``attrs["nwb_order"]`` says what was taken.
    dims : str or sequence of str, optional
        The axes of an array as it is stored, as numpy, h5py or tifffile show its shape (MATLAB
        shows it reversed), the slowest first: letters ``t``, ``c`` (channel), ``z`` (plane), ``y``
        and ``x``, as in ``dims="tczyx"``, or names. For HDF5, ``.npy``, TIFF, Zarr and arrays,
        whatever they say themselves; needed where there are four or five axes and nothing says
        which is which. An axis of length 1 goes.
    segments : {"files", "folders", "gaps"} or array, optional
        Where a session, epoch or file ends and the next begins, as the coordinate
        ``segment(time)``: nothing over time, such as baselines, crosses from one to the next.
        ``"files"``: each file of a recording of several is one, numbered from 0, their names in
        ``segment.attrs["names"]``; of suite2p's folders and binaries those that suite2p joined
        (``frames_per_file`` of its ops); of Prairie View each cycle of a T-series, as the XML file
        tells them (``"cycle 1"``), whose ``fs`` is then that within cycles. ``"folders"``: those
        that the files lie in, of suite2p's ``frames_per_folder``. ``"gaps"``: a segment ends where
        time steps on by more than 1.5 frames. Or a label for each frame ``(time,)``. Without it
        none are made.
    registration : path or list of paths, optional
        Read a raw recording as suite2p registered it: its plane folder, as in ``"suite2p/plane0"``,
        or the folder of all planes, with ``ops.npy`` or ``reg_outputs.npy``. Each chunk is moved as
        it is read, to the frames that suite2p has in ``data.bin``: int16, rigid shifts to the bit,
        non-rigid ones of suite2p 1.1.0 to rounding. All channels are moved alike; of a movie of
        several planes the folder's own is taken. ``tau`` and ``badframes`` are
        those of ops, and the rate, where the recording has none.

    Returns
    -------
    xarray.DataArray
        ``movie`` with dims ``(time, y, x)``, in front of them ``channel`` and ``plane`` where
        there are several, over Dask (an array in memory stays one), in the byte order of this
        machine (arrays of numpy and Dask and DataArrays keep theirs). With ``fs``: a ``time``
        coordinate in s, and ``attrs["fs"]``. Planes carry their number as the coordinate
        ``plane``; so does the movie of one of suite2p's plane folders, as a scalar.
        ``attrs["tau"]`` is the decay time of the indicator in s that suite2p was told, which
        :func:`xs2p.extract` takes unless it is given another. ``attrs["line_period"]`` is the time
        from line to line in s, ``attrs["plane_period"]`` that from plane to plane, as ScanImage has
        them: ROIs get their ``time_offset`` by them. Of suite2p's folders and binaries
        ``badframes(time)`` is True where its ops call a frame bad, in any plane; it is used only
        where ``valid="badframes"`` is given.

    Raises
    ------
    FileNotFoundError
        There is no such file, or none that matches.
    ValueError
        The suffix is unknown; ``shape``, ``dtype``, ``channels`` or ``planes`` is missing or
        disagrees with the file; files of one recording differ in frame size, dtype, channels or
        planes; a file is empty, cut or no movie; an argument has no meaning for the format; or
        ``segments`` are not known, or not of as many frames as the movie.
    ImportError
        Another package is needed to read it; the message has the call that installs it.

    Warns
    -----
    UserWarning
        The recording ends before all channels and planes have had their turn: frames of the last
        turn are left out, and their number is said. Or ``fs`` is not the rate of the times that
        the file or array has.

    UserWarning
        Some chunks of an HDF5 dataset were never written, so that HDF5 has its fill value there.

    UserWarning
        Metadata of a TIFF tell of frames that are not there, as of a recording that was stopped or
        of which one channel's files were kept: the movie is of those that are.

    Notes
    -----
    A TIFF stack whose first axis is called channels or slices, as writers do that are told
    nothing, is taken for a movie where there are no frames beside them, and of channels more than
    four. An OME-TIFF could have said time: of one, that is said in a warning, and up to 32 images
    that are called channels are an error that asks for ``channels=`` or ``dims="tyx"``.

    An ``.npy`` file in Fortran order is read correctly but slowly, since every frame is
    spread over the whole file: store it anew with ``numpy.save(path, movie.copy("C"))``.

    Damaged files are named, with what is wrong, before anything is made room for that they only
    claim. Frames of an HDF5 file that lie in another folder (virtual datasets, external storage,
    links) are read where HDF5's own environment variables name that folder: ``HDF5_VDS_PREFIX``,
    ``HDF5_EXTFILE_PREFIX`` or ``HDF5_EXT_PREFIX``.

    suite2p's planes may differ by one frame; the last one of the longer is then left out, with a
    warning. Planes that it was told to ignore (``ignore_flyback``) are left out of its folder, with
    a warning; alone, or in a list, they are opened.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "data.bin")
    >>> np.zeros((100, 4, 6), "<i2").tofile(path)
    >>> movie = open_movie(path, shape=(4, 6), fs=30.0)
    >>> movie.dims, movie.shape, str(movie.dtype)
    (('time', 'y', 'x'), (100, 4, 6), 'int16')

    The same frames as two channels in turn:

    >>> movie = open_movie(path, shape=(4, 6), channels=2)
    >>> movie.dims, movie.shape
    (('channel', 'time', 'y', 'x'), (2, 50, 4, 6))
    """
    from xs2p.movie import sources as _files
    from xs2p.movie.segments import by_source, refuse_segments

    fs = _checked_fs(fs)
    if chunks is not None and not (is_whole(chunks) and chunks > 0):
        raise ValueError(f"chunks={chunks!r}: expected frames per chunk, a whole number from 1 on")
    frame = checked_shape(shape)
    kind = _checked_dtype(dtype)
    if not isinstance(variable, str | None):
        raise ValueError(
            f"variable={variable!r}: expected the name of an array, as in variable='group/name'"
        )
    # Of NWB it says which axis of a frame comes first.
    of_frame: dict[str, Any] = {"order": order} if order in ("xy", "yx") else {}
    turns = _checked_turns(channels, planes, None if of_frame else order)
    axes, by = checked_dims(dims), by_source(segments)
    if axes is not None and order is not None:
        raise ValueError(f"order={order!r} and dims={dims!r} both say it: leave order out")
    if not _files.is_paths(path):
        refuse(turns, variable if not is_store(path) else None, "an array or a store")
        refuse_segments(by, "an array or a store")
        movie, told = open_object(path, chunks, variable, axes, fs, **of_frame), None
        sources: Sequence[str] = ()
    else:
        source = _files.find(path)
        told, sources = source.told, source.names
        with naming(told, *source.names):
            movie, rate = open_source(
                source, frame, kind, chunks, fs, variable, turns, axes, of_frame, by
            )
        if source.kind != "zarr" or "nwb_order" in movie.attrs:
            movie = without_times_of_a_rate(movie, told, fs)
        fs = rate if fs is None else fs
    _check_order(movie, of_frame, told or type(path).__name__)
    _check_agreement(movie, told or type(path).__name__, frame, kind)
    if registration is not None:
        from xs2p.movie.registration import registered

        movie, rate = registered(movie, registration, told or type(path).__name__, sources)
        fs = rate if fs is None and "fs" not in movie.attrs else fs
    movie = _labelled(movie, told, fs, None if by else segments)
    _tell(movie, told or type(path).__name__, chunks)
    return movie


def _check_order(movie: xr.DataArray, order: dict[str, Any], what: str) -> None:
    if order and movie.attrs.get("nwb_order_source") != f"given: order={order['order']!r}":
        raise ValueError(
            f"order={order['order']!r} says which axis of its frames an NWB file has first, and "
            f"{what} is none; turn frames with movie.rename(y='x', x='y').transpose(..., 'y', 'x')"
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
        given = order.replace(",", " ").split() if isinstance(order, str) else order
        given = list(given) if isinstance(given, Iterable) else []
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


def _check_agreement(
    movie: xr.DataArray, name: str, frame: tuple[int, int] | None, dtype: DTypeLike | None
) -> None:
    if frame is not None and movie.shape[-2:] != frame:
        if movie.shape[-2:] == frame[::-1] and "nwb_order" in movie.attrs:
            other = "yx" if movie.attrs["nwb_order"] == "xy" else "xy"
            raise ValueError(
                f"shape={frame} disagrees with {name!r}, whose frames are (Ly, Lx) = "
                f"{movie.shape[-2:]} in the order {movie.attrs['nwb_order']!r}; if its writer had "
                f'the axes the other way round, give order="{other}"'
            )
        raise ValueError(
            f"shape={frame} disagrees with {name!r}, whose frames are (Ly, Lx) = "
            f"{movie.shape[-2:]}; leave shape out, the file knows it"
        )
    if dtype is not None and np.dtype(dtype).newbyteorder("=") != movie.dtype:
        raise ValueError(
            f"dtype={np.dtype(dtype)} disagrees with {name!r}, which holds {movie.dtype}; leave "
            f"dtype out and convert with .astype({str(np.dtype(dtype))!r}) where you need it"
        )


def _labelled(
    movie: xr.DataArray, told: str | None, fs: float | None, segments: Any
) -> xr.DataArray:
    defaults = {
        "units": ARBITRARY,
        "long_name": "fluorescence movie",
        "description": "Frames as the file holds them, opened by xs2p.open_movie.",
    }
    movie = movie.rename("movie").assign_attrs({**defaults, **movie.attrs})
    if told is not None:
        movie = movie.assign_attrs(source=told)
        if "plane" in movie.dims and "plane" not in movie.coords:
            # So that a plane that is selected knows which it is.
            movie = movie.assign_coords(plane=("plane", np.arange(movie.sizes["plane"]), PLANES))
    movie = movie if fs is None else movie.assign_attrs(fs=fs)
    told_times = "time" in movie.coords
    if fs is not None and not told_times:
        seconds = np.arange(movie.sizes["time"]) / fs
        movie = movie.assign_coords(time=("time", seconds, time_attrs()))
    movie = with_frames(movie, segments=segments)
    if fs is not None and told_times:
        compare_rate(fs, movie)
    return movie


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
