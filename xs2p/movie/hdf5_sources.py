"""Other files that have the frames of an HDF5 dataset: virtual ones, external storage, links.

HDF5 follows them wherever they lead, into other folders too, shows zeros for what is not there,
and dies where a virtual dataset is a part of itself.
"""

from __future__ import annotations

import glob
import math
import os
import re
from typing import Any

import numpy as np

from xs2p._warnings import warn
from xs2p.disk.hdf5_damage import check_heaps, check_types, objects_in
from xs2p.disk.hdf5_texts import check_references
from xs2p.disk.reads import check_claim
from xs2p.movie.chunks import is_all

_DEEPEST = 16  # virtual datasets of virtual ones
_UNSEEN = 2**25  # bytes that a dataset of results may have whatever the size of its file
_PACKED = 4000  # bytes that one may have been packed from
_PREFIXES = ("HDF5_VDS_PREFIX", "HDF5_EXTFILE_PREFIX", "HDF5_EXT_PREFIX")


def other_files(
    stored: Any,
    name: str,
    above: tuple[tuple[str, str], ...] = (),
    done: set[tuple[str, str]] | None = None,
) -> list[str]:
    """Other files that have a dataset's frames; all must be whole, HDF5 fills in zeros silently.

    ``above`` are the virtual datasets that this one is a part of: HDF5 crashes where it is one of
    them itself. ``done`` are those that were gone through.
    """
    done = set() if done is None else done
    here = (os.path.realpath(stored.file.filename), stored.name)
    if here in above:
        raise ValueError(f"{name} is a virtual dataset of which it is a part itself")
    if len(above) >= _DEEPEST:
        raise ValueError(f"{name} is a virtual dataset of virtual ones, more than {_DEEPEST} deep")
    _check_chunks(stored, name)
    folder = os.path.dirname(os.path.abspath(stored.file.filename))
    found: dict[str, None] = {}
    for part in stored.virtual_sources() if stored.is_virtual else ():
        inside = part.file_name == "."
        paths = _named(stored, part.file_name, "HDF5_VDS_PREFIX", [folder, os.curdir])
        for path in paths if not inside else ():
            _check_near(stored, path, name)
        for path in [stored.file.filename] if inside else paths:
            found |= dict.fromkeys(_of_part(part, path, name, (*above, here), done))
        if not inside and not paths:
            raise _gone(name, "virtual dataset", part.file_name, "beside it")
        found |= dict.fromkeys([] if inside else paths)
    has, needed = 0, stored.size * stored.dtype.itemsize
    for file_name, offset, size in stored.external or ():
        paths = _named(stored, file_name, "HDF5_EXTFILE_PREFIX", [os.curdir])
        if not paths:
            where = "where it was; a name without a folder is of the current folder"
            raise _gone(name, "dataset with external storage", file_name, where)
        _check_near(stored, paths[0], name)
        has += min(max(0, os.path.getsize(paths[0]) - offset), size)
        found |= dict.fromkeys(paths)
    if stored.external and has < needed:
        raise ValueError(
            f"{name}: its frames take {needed} bytes, and the files that hold them, "
            f"{', '.join(found)}, have {has}; HDF5 would show zeros for the rest"
        )
    done.add(here)
    return list(found)


def _of_part(
    part: Any, path: str, name: str, above: tuple[tuple[str, str], ...], done: set[tuple[str, str]]
) -> list[str]:
    """Other files of one source of a virtual dataset, which must have what is taken of it."""
    import h5py

    first = re.sub("%[0-9]*b", "0", part.dset_name)
    problem = "which has no such dataset or fewer frames"
    found: list[str] = []
    try:
        with h5py.File(path, "r") as file:
            source, key, n = file.get(first), first, 0
            if isinstance(source, h5py.Dataset) and _reaches(part, source.shape):
                while isinstance(source, h5py.Dataset):  # it may be virtual itself
                    if (os.path.realpath(path), source.name) not in done:
                        found += other_files(source, f"{path}/{key}", above, done)
                    n += 1
                    key = re.sub("%[0-9]*b", str(n), part.dset_name)
                    source = file.get(key) if key != first else None
                return found
    except OSError as error:
        problem = f"which cannot be opened ({error})"
    raise ValueError(
        f"{name} is a virtual dataset, and some of its frames are {first} of {path}, {problem}; "
        "HDF5 would show zeros instead"
    )


def _reaches(part: Any, shape: tuple[int, ...]) -> bool:
    """Whether a source of this shape has what a virtual dataset takes of it."""
    from h5py import h5s

    if part.src_space.get_select_type() == h5s.SEL_ALL:
        everything = part.vspace.get_select_type() == h5s.SEL_ALL
        return everything or math.prod(shape) >= part.vspace.get_select_npoints()
    try:
        _, last = part.src_space.get_select_bounds()
    except (RuntimeError, ValueError):  # it has no limit
        return True
    return all(at < n for at, n in zip(last, shape, strict=False))


def _named(stored: Any, file_name: str, prefix: str, places: list[str]) -> list[str]:
    """Find the files that HDF5 finds by a name, in the places where it looks."""
    folder = os.path.dirname(os.path.abspath(stored.file.filename))
    prefixes = os.environ.get(prefix, "").replace("${ORIGIN}", folder).split(":")
    for place in [*filter(None, prefixes), *places]:
        path = os.path.join(place, file_name)
        # A pattern of HDF5's: one file after the other, by number.
        numbered = re.sub("%[0-9]*b", "[0-9]*", glob.escape(path))
        found = [path] if os.path.isfile(path) else sorted(glob.glob(numbered))
        if found:
            return found
    base = os.path.join(folder, os.path.basename(file_name))
    return [base] if folder in places and os.path.isabs(file_name) and os.path.isfile(base) else []


def _gone(name: str, what: str, file_name: str, where: str) -> ValueError:
    return ValueError(
        f"{name} is a {what}, and some of its frames are in {file_name!r}, which is not there; "
        f"HDF5 would show zeros instead. Put the file back {where}"
    )


def _check_near(stored: Any, path: str, name: str) -> None:
    """Raise where frames are in another folder than their file, and nobody asked for that."""
    if not _is_asked(path, stored.file.filename):
        raise ValueError(
            f"{name}: some of its frames are in {os.path.abspath(path)}, outside of its folder: "
            "files of others could show anything on this disk by that, so it is only read where "
            "you ask for it: set the environment variable HDF5_VDS_PREFIX to the folder of that "
            "file (HDF5_EXTFILE_PREFIX of external storage), or open that file itself"
        )


def _is_asked(path: str, opened: str) -> bool:
    """Whether a file is in the folder of that which was opened, or in one that the user named."""
    folder = os.path.dirname(os.path.abspath(opened))
    named = [
        place.replace("${ORIGIN}", folder)
        for prefix in _PREFIXES
        for place in os.environ.get(prefix, "").split(":")
        if place
    ]
    return any(_is_in(path, place) for place in (folder, *named))


def _is_in(path: str, folder: str) -> bool:
    for form in (os.path.abspath, os.path.realpath):
        below = os.path.join(form(folder), "")
        if form(path).startswith(below):
            return True
    return False


def check_dataset(stored: Any, opened: str) -> Any:
    """Raise where a dataset cannot be read safely: of another folder, or a part of itself.

    ``opened`` is the file that was opened: a link in it may lead to another.
    """
    name = f"{opened}{stored.name}"
    _check_link(name, stored.file.filename, opened)
    other_files(stored, name)
    return stored


def _check_link(name: str, target: str, opened: str) -> None:
    if not _is_asked(target, opened):
        raise ValueError(
            f"{name} is a link to {target}, outside of the folder of this file: "
            "open that file itself, if you trust the link, or set the environment variable "
            "HDF5_EXT_PREFIX to its folder"
        )


def check_hdf5(path: str, within: str = "/") -> None:
    """Raise a ValueError where an HDF5 file cannot be read safely: what is in one of its groups.

    It is damaged so that its library hangs or ends the process, or its datasets are in other
    folders or claim much more than they can have been packed from. Arrays are not read.
    """
    import h5py

    check_heaps(path)
    with h5py.File(path, "r") as file:
        items = objects_in(file)
        check_types(items, path)
        check_references(items, path)
        group = file.get(within)
        if not isinstance(group, h5py.Group):
            return

        links: list[tuple[str, Any]] = []
        # Out of what HDF5 calls itself no error comes as it is.
        group.visititems_links(lambda name, link: links.append((name, link)))
        for name, link in links:
            _check_found(group, name, link, path)


def _check_found(group: Any, name: str, link: Any, path: str) -> None:
    """Raise where what a link of a file leads to cannot be read safely."""
    import h5py

    if isinstance(link, h5py.ExternalLink):
        target = os.path.join(os.path.dirname(os.path.abspath(path)), link.filename)
        _check_link(f"{path}{group.name.rstrip('/')}/{name}", target, path)
    item = group.get(name)
    if isinstance(item, h5py.Dataset):
        check_dataset(item, path)
        own = not (item.is_virtual or item.external)
        needed = math.prod(item.shape or ()) * item.id.get_type().get_size()
        most = _UNSEEN + _PACKED * os.path.getsize(path)
        check_claim(f"{path}{item.name}", "bytes", needed if own else 0, most)


def _check_chunks(stored: Any, name: str) -> None:
    """Warn where some chunks of a dataset are not in its file: HDF5 has its fill value for them.

    Of a dataset without any the file may have been made to be filled later.
    """
    if stored.chunks is None:
        return
    if stored.name.endswith("/image_mask"):  # of NWB: most of a mask is 0, and may be left out
        return
    needed = math.prod(-(-n // size) for n, size in zip(stored.shape, stored.chunks, strict=True))
    there = _chunks(stored, name)
    if 0 < there < needed:
        warn(
            f"{name}: {needed - there} of its {needed} chunks were never written, or are lost, as "
            f"of a recording that was stopped; HDF5 has {stored.fillvalue} for their pixels"
        )


def _chunks(stored: Any, name: str) -> int:
    """Count the chunks that a file has, at places where the dataset has chunks.

    HDF5 dies of one that is compressed to no bytes.
    """
    if not hasattr(stored.id, "chunk_iter"):
        return int(stored.id.get_num_chunks())
    found: list[Any] = []
    stored.id.chunk_iter(found.append)
    size = os.path.getsize(stored.file.filename)
    for chunk in found:
        if not chunk.size or (chunk.byte_offset or 0) + chunk.size > size:
            raise ValueError(
                f"{name}: its chunk at {chunk.chunk_offset} has {chunk.size} bytes from "
                f"{chunk.byte_offset} on, in a file of {size}: it is damaged, or was cut"
            )
    bounds = [
        (int(n), int(n_chunk)) for n, n_chunk in zip(stored.shape, stored.chunks, strict=True)
    ]
    right = [
        all(at < n and at % step == 0 for at, (n, step) in zip(place, bounds, strict=True))
        for place in {tuple(chunk.chunk_offset) for chunk in found}
    ]
    return sum(right)


def check_found(stored: Any, key: Any, part: np.ndarray[Any, Any]) -> None:
    """Raise where HDF5 has its fill value for chunks that the file has: it did not find them.

    ``part`` is what it read for ``key``. A damaged index can tell of a chunk and not lead to it.
    """
    if stored.chunks is None or not part.size:
        return
    spans = [s.indices(n) for s, n in zip(key, stored.shape, strict=True)]
    if any(step != 1 for _, _, step in spans):
        return
    grid = list(zip(spans, stored.chunks, strict=True))
    firsts = [
        np.unique([start, *range(start // n * n + n, stop, n)]) for (start, stop, _), n in grid
    ]
    corners = part[
        np.ix_(*(at - start for at, ((start, _, _), _) in zip(firsts, grid, strict=True)))
    ]
    told: set[tuple[int, ...]] | None = None
    for where in np.argwhere(corners == stored.fillvalue):
        at = [int(first[n]) for first, n in zip(firsts, where, strict=True)]
        place = tuple(n // size * size for n, size in zip(at, stored.chunks, strict=True))
        inside = tuple(
            slice(n - start, min(corner + size, stop) - start)
            for n, corner, ((start, stop, _), size) in zip(at, place, grid, strict=True)
        )
        if not is_all(part[inside], stored.fillvalue):
            continue
        told = _told(stored) if told is None else told
        if place not in told:
            continue
        try:
            stored.id.read_direct_chunk(place)
        except Exception as error:
            raise OSError(
                f"its chunk at {place} is in the file, and its index does not lead there: the "
                f"file is damaged ({error})"
            ) from error


def _told(stored: Any) -> set[tuple[int, ...]]:
    """Places of the chunks that a file tells of."""
    found: list[Any] = []
    if hasattr(stored.id, "chunk_iter"):
        stored.id.chunk_iter(found.append)
    return {tuple(chunk.chunk_offset) for chunk in found}
