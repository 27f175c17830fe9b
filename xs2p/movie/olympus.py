"""Olympus' ``.oif``, a text and a folder of TIFF files, and ``.oib``, both in one: by oiffile.

A TIFF is a frame of one channel, plane and time, which its name says (``s_C001Z002T003.tif``), and
a text beside it (``.pty``) says when it was taken.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.movie.compound import check_chains
from xs2p.movie.frames import Stamp, check_page
from xs2p.movie.microscopes import PlacedFrames, advice, library, whole_times

if TYPE_CHECKING:
    from xs2p.movie.turns import Stack

_NAME = re.compile(r"s_((?:[A-Z]\d+)+)\.tif", re.IGNORECASE)
_PLACE = re.compile(r"([A-Z])(\d+)", re.IGNORECASE)
_ORDER = "LATZC"  # slowest first
_WHOLE = advice("oiffile.imread(path)")


@dataclass(frozen=True)
class OifFrames(PlacedFrames):
    """Frames that are TIFF files each, in the order of `_ORDER`.

    ``told`` is of their names, ``newest`` when the last of them was written, in ns.
    """

    told: str = ""
    newest: int = 0

    def fill(self, wanted: np.ndarray[Any, Any], out: np.ndarray[Any, Any]) -> None:
        """Read the TIFFs of these frames."""
        import tifffile

        _, names, _ = _found(self.stamp, _changed(self.stamp.path))
        if _digest(names) != self.told:
            raise OSError(
                "files beside it were added or are gone since it was opened; open it anew with "
                "xs2p.open_movie"
            )
        read = [names[number] for number in wanted.tolist()]
        self._check_times(read)
        with _opened(self.stamp.path) as file:
            for i, name in enumerate(read):
                with (
                    contextlib.closing(file.open_file(name)) as stream,
                    tifffile.TiffFile(stream, name=name) as tif,
                ):
                    check_page(self, tif.pages[0])
                    out[i] = self.check(tif.pages[0].asarray(maxworkers=1))
        self._check_times(read)

    def _check_times(self, read: list[str]) -> None:
        """Raise where TIFFs beside the OIF were written since it was opened."""
        folder = f"{self.stamp.path}.files"
        if not os.path.isdir(folder) or not self.stamp.is_here():
            return
        names = [re.split(r"[\\/]", name)[-1] for name in read]
        if _newest([folder, *(os.path.join(folder, name) for name in names)]) > self.newest:
            raise OSError(
                f"TIFFs in {folder} were replaced since it was opened; open it anew with "
                "xs2p.open_movie"
            )


def oif_stack(name: str, variable: str | None) -> Stack:
    """Find the frames of an OIF or OIB file."""
    from xs2p.movie.turns import Stack

    if variable is not None:
        raise ValueError(
            f"variable={variable!r} picks one of several images, and {name} holds one movie only: "
            "call open_movie without it"
        )
    stamp = Stamp.of(name)
    axes, names, lacks = _found(stamp, _changed(name))
    with _opened(name) as file:
        shape, stored = _first(file, name, names[0])
        rate = _rate(file, names, dict(axes))
        said = _said(file)
    size = (said.get("Y", shape[0]), said.get("X", shape[1]))
    if size != shape:
        raise ValueError(
            f"{name}: its frames are {shape}, but it says {size} lines and pixels: it is damaged, "
            f"or no movie of frames. {_WHOLE}"
        )
    frames = OifFrames(stamp, (len(names), *shape), stored, _digest(names), _newest(_beside(name)))
    return Stack(frames, axes, said=True, lacks=lacks, fs=rate, mend=_WHOLE)


@contextlib.contextmanager
def _opened(name: str) -> Iterator[Any]:
    """Open an OIF or OIB file, to be closed."""
    oiffile = library("oiffile", name)
    beside = f"{name}.files"
    if name.lower().endswith(".oif") and not os.path.isdir(beside):
        raise FileNotFoundError(
            f"{name}: the folder with its frames, {beside!r}, is not beside it; put it back"
        )
    if name.lower().endswith(".oib"):
        check_chains(name)
    try:
        file = oiffile.OifFile(name)
    except Exception as error:  # whatever damage makes of the parser
        raise ValueError(
            f"{name}: no OIF or OIB file can be read: it was cut, or is none "
            f"({type(error).__name__}: {error})"
        ) from error
    with file:
        yield file


def _changed(name: str) -> tuple[int, ...]:
    """When files were last added to the folder of an OIF, or taken away, and how many there are."""
    beside = f"{name}.files"
    if not os.path.isdir(beside):
        return ()
    return os.stat(beside).st_mtime_ns, len(os.listdir(beside))


def _digest(names: tuple[str, ...]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _beside(name: str) -> list[str]:
    """Return the folder beside an OIF and the files in it; none of an OIB."""
    folder = f"{name}.files"
    if not os.path.isdir(folder):
        return []
    return [folder, *(os.path.join(folder, inside) for inside in os.listdir(folder))]


def _newest(paths: Iterable[str]) -> int:
    """Tell when the last of some files was written, in ns."""
    return max((os.stat(path).st_mtime_ns for path in paths), default=0)


@functools.lru_cache(maxsize=8)
def _found(
    stamp: Stamp, changed: tuple[int, ...]
) -> tuple[tuple[tuple[str, int], ...], tuple[str, ...], str]:
    """Axes of a recording but Y and X, its TIFFs in their order, and what it lacks.

    Kept for each process: there may be many thousands of them. ``changed`` is that of the folder.
    """
    name = stamp.path
    with _opened(name) as file:
        said, order = _said(file), str(file.mainfile["Axis Parameter Common"]["AxisOrder"])
        files = list(file.glob("*"))
    if not order.startswith("XY"):
        raise ValueError(f"{name}: it has the axes {order[::-1]!r}, expected frames YX. {_WHOLE}")
    every: dict[str, dict[tuple[int, ...], str]] = {}
    for path in files:
        match = _NAME.fullmatch(re.split(r"[\\/]", path)[-1])
        place = {d.upper(): int(n) for d, n in _PLACE.findall(match[1])} if match else {}
        letters = sorted(place, key=lambda d: (_ORDER.find(d), d))
        if place:
            every.setdefault("".join(letters), {})[tuple(place[d] for d in letters)] = path
    if not every:
        raise ValueError(f"{name}: holds no frames named as Olympus does, s_C001T001.tif")
    named, at = max(every.items(), key=lambda item: len(item[1]))
    places, lacks = whole_times(name, sorted(at), named)
    sizes = [len(set(column)) for column in zip(*places, strict=True)]
    axes = dict(zip(named, sizes, strict=True))
    less = {d: said[d] for d in order[2:] if said.get(d, 0) > max(1, axes.get(d, 1))}
    if set(less) - {"T"}:
        raise ValueError(f"{name}: it tells of {less}, and TIFFs of {axes} are here: some are lost")
    if less and not lacks:
        lacks = f"it tells of {less['T']} times, and TIFFs of {axes.get('T', 1)} are here"
    return tuple(axes.items()), tuple(at[place] for place in places), lacks


def _said(file: Any) -> dict[str, int]:
    """Sizes of the axes as the settings have them; 0 of one that is not used."""
    found = (file.mainfile.get(f"Axis {i} Parameters Common", {}) for i in range(9))
    return {str(axis["AxisCode"]): int(axis["MaxSize"]) for axis in found if "AxisCode" in axis}


def _first(file: Any, name: str, first: str) -> tuple[tuple[int, int], str]:
    """Size of a frame and its dtype, in the first TIFF; the others must be like it when read."""
    import tifffile

    from xs2p.movie.tiff_file import check_codec, headers

    with contextlib.closing(file.open_file(first)) as stream, headers(f"{name}: {first}"):
        tif = tifffile.TiffFile(stream, name=first)
        page, number = tif.pages[0], len(tif.pages)
        shape, stored = page.shape, np.dtype(page.dtype).newbyteorder("=")
    if len(shape) != 2 or number != 1:
        raise ValueError(
            f"{name}: {first} has {number} pages of {shape}, expected one frame (y, x). {_WHOLE}"
        )
    with contextlib.closing(file.open_file(first)) as stream:
        with tifffile.TiffFile(stream, name=first) as tif:
            check_codec(f"{name}: {first}", tif.pages[0])
    return (int(shape[0]), int(shape[1])), stored.str


def _rate(file: Any, names: tuple[str, ...], axes: dict[str, int]) -> float | None:
    """Find times per second, in Hz, by the times of some frames that their ``.pty`` have.

    None where these are not there, or are half a frame off one rate, as with pauses.
    """
    oiffile = library("oiffile", file.filename)
    number = axes.get("T", 1)
    others = [n for d, n in axes.items() if d not in "TZC" and n > 1]
    if number < 2 or others:
        return None
    some = sorted({0, 1, number // 2, number - 1})
    times = []
    with contextlib.suppress(Exception):  # settings are free text
        axis = next(
            i
            for i in range(9)
            if file.mainfile.get(f"Axis {i} Parameters Common", {}).get("AxisCode") == "T"
        )
        for time in some:
            path = names[time * (len(names) // number)][:-4] + ".pty"
            said = oiffile.SettingsFile(file.open_file(path), path)[f"Axis {axis} Parameters"]
            unit = {"ms": 1e-3, "s": 1.0}[str(said["AbsPositionUnitName"])]
            times.append(float(said["AbsPositionValue"]) * unit)
    if len(times) < len(some) or not times[-1] > times[0]:
        return None
    step = (times[-1] - times[0]) / (number - 1)
    off = [abs(t - times[0] - i * step) for i, t in zip(some, times, strict=True)]
    return 1 / step if max(off) <= step / 2 else None
