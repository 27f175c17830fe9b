"""Which files a movie is in: one, a list of them, a pattern, or suite2p's plane folders."""

from __future__ import annotations

import glob
import os
import pathlib
import re
from typing import Any, Literal, NamedTuple

HDF5 = (".h5", ".hdf5", ".mat")
# Formats of one program or microscope each, read by movie/labs.py.
VIDEOS = (".avi", ".mkv")
MICROSCOPES = (".nd2", ".lif", ".czi", ".oib", ".oif")
LABS = (".mmap", ".sbx", *VIDEOS, *MICROSCOPES)
STACKS = (".bin", ".raw", ".npy", ".tif", ".tiff", ".btf", *HDF5, *LABS)
SUFFIXES = (*STACKS, ".nwb", ".zarr")
# What opens or exports files of formats that are not read here, of movies and of ROIs.
ADVICE = {
    ".isxd": "export it as TIFF in Inscopix Data Processing (Export > Movie)",
    ".lsm": "save it as TIFF in Fiji (File > Save As > Tiff)",
}
ADVICE |= dict.fromkeys(
    (".mp4", ".mov", ".wmv"),
    "write it anew without loss: ffmpeg -i in -pix_fmt gray -c:v ffv1 out.avi",
)
# What suite2p calls its binaries, with what it says of them beside; folders of its TIFFs.
BINARIES = ("data.bin", "data_raw.bin", "data_chan2.bin", "data_chan2_raw.bin")
_REGISTERED = ("reg_tif", "reg_tif_chan2")
_OF_PLANE = {"ops.npy", "db.npy", "settings.npy"}
_THOR = re.compile(r"Image_\d+_\d+\.raw", re.IGNORECASE)
_PLANE = re.compile(r"plane[ _-]?(\d+)$")


class Source(NamedTuple):
    """Where a movie is, and by which reader it is opened."""

    kind: Literal["stack", "nwb", "zarr", "suite2p", "prairie", "thor"]
    names: list[str]
    told: str  # as the user gave it, for attrs and messages


def find(path: Any) -> Source:
    """Tell what a path, a pattern or a list of them stands for; only names are looked at."""
    if isinstance(path, str | os.PathLike):
        name = os.fspath(path)
        if "://" in name:
            return Source("zarr", [name], name)
        if not os.path.exists(name) and glob.has_magic(name):
            names = sorted(_matching(name), key=natural)
            if not names:
                raise FileNotFoundError(f"open_movie: no file matches {name!r}")
            if len(names) == 1 and suffix_of(names[0]) not in STACKS:
                return _of_one(names[0])
            return _of_several(names, name)
        return _of_one(name)
    names = [os.fspath(part) for part in path]
    if not names:
        raise ValueError("open_movie: an empty list of files")
    if len(names) == 1:
        return _of_one(names[0])
    for name in names:
        if not os.path.exists(name):
            raise FileNotFoundError(f"open_movie: no file or folder {name!r}")
    told = ", ".join(names) if len(names) < 4 else f"{names[0]} … {names[-1]} ({len(names)} files)"
    return _of_several(names, told)


def _matching(pattern: str) -> list[str]:
    """Files that match a pattern; brackets in names of folders and files may be just brackets."""
    found = pathlib.PurePath(pattern).parts
    there = len(found)
    while there and not os.path.isdir(os.path.join(*found[:there])):
        there -= 1
    folder = glob.escape(os.path.join("", *found[:there]))
    rest = os.path.join("", *found[there:])
    names = glob.glob(os.path.join(folder, rest), recursive=True)
    return names or glob.glob(os.path.join(folder, rest.replace("[", "[[]")), recursive=True)


def is_paths(path: Any) -> bool:
    """Whether something is a path, or a list of paths."""
    if isinstance(path, list | tuple):
        return all(isinstance(part, str | os.PathLike) for part in path)
    return isinstance(path, str | os.PathLike)


def natural(name: str) -> tuple[list[Any], str]:
    """Sort numbers in names by their value: ``rec_2`` before ``rec_10``; equal ones by the name."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if part.isdecimal() else part.lower() for part in parts], name


def _of_one(name: str) -> Source:
    suffix = suffix_of(name)
    if not os.path.exists(name):
        raise FileNotFoundError(f"open_movie: no file or folder {name!r}")
    if os.path.isdir(name):
        inside = set(os.listdir(name))
        if suffix == ".zarr" or {"zarr.json", ".zarray", ".zgroup"} & inside:
            return Source("zarr", [name], name)
        planes = plane_folders(name)
        if planes:
            return Source("suite2p", planes, name)
        described = prairie_file(name)
        if described:
            return Source("prairie", [described], name)
        if thor_xml(name):
            return Source("thor", _thor_files(name), name)
        if suffix in SUFFIXES:
            raise ValueError(f"open_movie: expected {name!r} to be a file as its suffix says")
        raise ValueError(
            f"open_movie: the folder {name!r} is neither a Zarr store nor one of suite2p's, with "
            f"data.bin or plane0 in it; for the files in it give a pattern, as in "
            f"open_movie({os.path.join(name, '*.tif')!r})"
        )
    if suffix == ".xml" and _begins_with(name, b"<ThorImageExperiment"):
        return Source("thor", _thor_files(os.path.dirname(name)), name)
    if suffix == ".xml":
        return Source("prairie", [name], name)
    if name.lower().endswith(".zip"):
        return Source("zarr", [name], name)
    if suffix == ".zarr":
        raise ValueError(f"open_movie: expected {name!r} to be a folder as its suffix says")
    if suffix not in SUFFIXES:
        raise ValueError(
            f"open_movie: {name!r} has the suffix {suffix!r}, expected one of "
            f"{', '.join(SUFFIXES)}; {advice(suffix)}give open_movie(frames), an array (time, y, x)"
        )
    return Source("nwb" if suffix == ".nwb" else "stack", [name], name)


def _of_several(names: list[str], told: str) -> Source:
    folders = [os.path.abspath(name) for name in names]
    if all(os.path.basename(name) == "data.bin" for name in names):
        folders = [os.path.dirname(folder) for folder in folders]
    if all(os.path.isdir(folder) and plane_number(folder) is not None for folder in folders):
        numbers = {plane_number(folder) for folder in folders}
        above = {os.path.dirname(folder) for folder in folders}
        if len(above) == 1 and len(numbers) == len(names):
            return Source("suite2p", folders, told)
        if len(numbers) > 1 or folders == [os.path.abspath(name) for name in names]:
            raise ValueError(
                f"open_movie: {told}: several plane folders are the planes of one recording where "
                "they lie in one folder; open each alone, and join recordings of one plane with "
                "xs2p.concat(movies)"
            )
    suffixes = {suffix_of(name) for name in names}
    odd = sorted(suffixes - set(STACKS))
    if odd or any(os.path.isdir(name) for name in names):
        raise ValueError(
            f"open_movie: {told}: several files are opened as one recording where they are of "
            f"{', '.join(STACKS)}, and plane folders of suite2p's as its planes; open each of "
            "these and join them with xs2p.concat(movies)"
        )
    alike = {".tiff": ".tif", ".btf": ".tif", ".raw": ".bin", ".hdf5": ".h5", ".mat": ".h5"}
    alike |= {".oif": ".oib"}
    if len({alike.get(suffix, suffix) for suffix in suffixes}) > 1:
        raise ValueError(
            f"open_movie: {told}: files of {', '.join(sorted(suffixes))}, expected one recording "
            "in files of one format"
        )
    if len({os.path.realpath(name) for name in names}) < len(names):
        raise ValueError(f"open_movie: {told}: the same file is given twice")
    return Source("stack", names, told)


def advice(suffix: str) -> str:
    """Say what helps with files of a suffix that is not read here, up to giving its array."""
    known = ADVICE.get(suffix)
    return f"{known}, and " if known else "load it with the library that wrote it, and "


def prairie_file(folder: str) -> str | None:
    """Find the XML file of a folder of Prairie View's; it goes by the folder's name."""
    own = os.path.basename(os.path.abspath(folder)) + ".xml"
    names = sorted(name for name in os.listdir(folder) if name.lower().endswith(".xml"))
    for name in sorted(names, key=lambda name: name != own):
        if _begins_with(os.path.join(folder, name), b"<PVScan"):
            return os.path.join(folder, name)
    return None


def thor_xml(folder: str) -> str | None:
    """Find the ``Experiment.xml`` of a folder of ThorImage's."""
    for name in sorted(os.listdir(folder or ".")):
        path = os.path.join(folder, name)
        if name.lower() == "experiment.xml" and _begins_with(path, b"<ThorImageExperiment"):
            return path
    return None


def thor_file(name: str) -> str | None:
    """Find the ``Experiment.xml`` that describes a raw file of ThorImage's; None: there is none."""
    if os.path.basename(name).lower() == "roimask.raw":
        return None
    return thor_xml(os.path.dirname(name))


def _begins_with(path: str, tag: bytes) -> bool:
    with open(path, "rb") as file:
        return tag in file.read(2000)


def _thor_files(folder: str) -> list[str]:
    """Raw files of ThorImage's in a folder, in natural order; it stores movies as TIFF too."""
    inside = os.listdir(folder or ".")
    names = [name for name in inside if _THOR.fullmatch(name)]
    if names:
        return [os.path.join(folder, name) for name in sorted(names, key=natural)]
    tiffs = [name for name in inside if suffix_of(name) in (".tif", ".tiff")]
    helps = f"{len(tiffs)} TIFF files are there; give those of one channel as a pattern, as in "
    raise FileNotFoundError(
        f"open_movie: beside Experiment.xml in {folder or '.'!r} lies no Image_001_001.raw; "
        + (
            f"{helps}open_movie({os.path.join(folder, 'ChanA_*.tif')!r})"
            if tiffs
            else "put it back"
        )
    )


def suffix_of(name: str) -> str:
    """Return the suffix of a path in lower case, also that of a folder."""
    return os.path.splitext(name.rstrip("/" + os.sep))[1].lower()


def plane_number(folder: str) -> int | None:
    """Return the number in the name of a plane folder such as ``plane3``."""
    found = _PLANE.fullmatch(os.path.basename(folder.rstrip("/" + os.sep)))
    return int(found[1]) if found else None


def plane_of_files(names: list[str]) -> int | None:
    """Plane of the files that suite2p keeps in a plane folder: its binaries and its TIFFs."""
    folders = {os.path.dirname(os.path.abspath(name)) for name in names}
    if len(folders) != 1:
        return None
    (folder,) = folders
    if os.path.basename(folder) in _REGISTERED:
        return plane_number(os.path.dirname(folder))
    binaries = all(os.path.basename(name) in BINARIES for name in names)
    return plane_number(folder) if binaries else None


def plane_folders(name: str) -> list[str]:
    """Plane folders of suite2p's in a folder, by number; the folder itself where it is one."""
    here = set(os.listdir(name))
    if {"data.bin", "data_raw.bin"} & here or (
        _OF_PLANE & here and plane_number(os.path.abspath(name)) is not None
    ):
        return [name]
    for top in (name, os.path.join(name, "suite2p")):
        inside = os.listdir(top) if os.path.isdir(top) else []
        planes = [
            os.path.join(top, plane)
            for plane in inside
            if plane_number(plane) is not None and os.path.isdir(os.path.join(top, plane))
        ]
        if planes:
            return sorted(planes, key=natural)
    return []
