"""Choices of ROIs back into suite2p's own folder."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import numpy as np

from xs2p._attrs import check_flag
from xs2p._warnings import names

if TYPE_CHECKING:
    import xarray as xr

_KEPT = "iscell_before_xs2p"


def write_iscell(
    ds: xr.Dataset, folder: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write which ROIs are accepted into the ``iscell.npy`` of a folder of suite2p's.

    Rows are those of ``stat.npy``. ROIs that ``ds`` lacks, as of ``cells_only=True``, keep theirs,
    and all keep the probability of the classifier.

    Parameters
    ----------
    ds
        Traces or an ROI set with ``iscell``, bool ``(roi,)``, whose labels are the positions of
        the ROIs in ``stat.npy``, as :func:`xs2p.read_suite2p` and :func:`xs2p.read_rois` number
        them.
    folder
        The plane folder, such as ``suite2p/plane0``; or the one above of a ``ds`` of all planes.
    overwrite
        Replace the ``iscell.npy`` that is there, also suite2p's own; what it was is kept beside it
        as ``iscell_before_xs2p.npy``, and later ones as ``iscell_before_xs2p_2.npy`` and so on.

    Raises
    ------
    FileExistsError
        If there is an ``iscell.npy`` and ``overwrite`` is False.
    FileNotFoundError
        If there is no ``stat.npy``.
    ValueError
        If ``ds`` has no ``iscell``, or one that is neither true nor false of some ROIs, or its ROIs
        are not those of the folder.

    Examples
    --------
    >>> ds = ds.s2p.curated("choices.csv")                       # doctest: +SKIP
    >>> write_iscell(ds, "suite2p/plane0", overwrite=True)  # doctest: +SKIP
    """
    from xs2p.disk.replace import put_bytes
    from xs2p.io.suite2p.folder import folders_in
    from xs2p.rois.curation import accepted_of

    check_flag("overwrite", overwrite)
    if "iscell" not in ds.variables or ds["iscell"].dims != ("roi",):
        raise ValueError("write_iscell: ds has no iscell over roi; ds.s2p.curated(...) makes it")
    name = os.fspath(folder)
    planes = folders_in(name)
    paths = [name] if planes is None else [planes[k] for k in sorted(planes)]
    tables, npix = zip(*map(_table, paths), strict=True)
    stops = np.cumsum([len(table) for table in tables])
    whole, known = np.concatenate(tables), np.concatenate(npix)
    _check(ds, known, name)
    whole[ds["roi"].values.astype(np.int64), 0] = accepted_of(ds)
    there = [os.path.join(path, "iscell.npy") for path in paths]
    found = [path for path in there if os.path.lexists(path)]
    if found and not overwrite:
        raise FileExistsError(
            f"write_iscell: {found[0]} exists; overwrite=True replaces it, and keeps what it was "
            f"before as {_KEPT}.npy"
        )
    for path, table in zip(there, np.split(whole, stops[:-1]), strict=True):
        if os.path.lexists(path):
            _keep(path)
        put_bytes(_npy(table), path)


def _keep(path: str) -> None:
    """Copy a file beside itself, unless an earlier copy is the same."""
    from xs2p.disk.replace import put_bytes

    with open(path, "rb") as file:
        data = file.read()
    for n in itertools.count(1):
        kept = os.path.join(os.path.dirname(path), f"{_KEPT}{f'_{n}' if n > 1 else ''}.npy")
        if not os.path.lexists(kept):
            put_bytes(data, kept)
            return
        with open(kept, "rb") as file:
            if file.read() == data:
                return


def _table(folder: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ``iscell.npy``, ones where there is none, and the size of each ROI of stat."""
    from xs2p.io.suite2p.stat import flags_in, load_stat

    path = os.path.join(folder, "stat.npy")
    if not os.path.exists(path):
        raise FileNotFoundError(f"write_iscell: there is no {path}")
    stat = load_stat(path)
    here = {"iscell.npy"} & set(os.listdir(folder))
    flags = flags_in(folder, here, {"stat.npy": len(stat)})
    columns = [flags[key][1] for key in ("iscell", "iscell_prob") if key in flags]
    kinds = [column.dtype for column in columns if column.dtype.kind == "f"]
    kind = np.result_type(np.float32, *kinds)  # a probability stays what it is
    table = np.stack(columns, 1).astype(kind) if columns else np.ones((len(stat), 2), kind)
    return table, np.array([np.size(one.get("ypix", ())) for one in stat], np.int64)


def _check(ds: xr.Dataset, npix: np.ndarray, folder: str) -> None:
    """Raise unless the ROIs are those of the folder, by label and size."""
    labels = ds["roi"].values
    if labels.dtype.kind not in "iu" or (labels.size and (labels.min() < 0)):
        raise ValueError(
            "write_iscell: the labels of ds are no positions in stat.npy, such as 0, 1, 2; they "
            f"are {names(labels)}"
        )
    if np.unique(labels).size < labels.size:
        raise ValueError("write_iscell: labels of ds stand in it more than once; which one counts?")
    beyond = labels[labels >= npix.size]
    if beyond.size:
        raise ValueError(
            f"write_iscell: {folder} has {npix.size} ROIs, and ds has roi {names(beyond)}"
        )
    if "npix" in ds.variables:
        own = ds["npix"].values
        other = labels[own != npix[labels]]
        if other.size:
            first = int(other[0])
            size = int(own[np.flatnonzero(labels == first)[0]])
            raise ValueError(
                f"write_iscell: {other.size} ROIs of ds are others than those of {folder}: roi "
                f"{first} has {size} pixels, and {npix[first]} in stat.npy"
            )


def _npy(table: np.ndarray) -> bytes:
    import io

    with io.BytesIO() as file:
        np.lib.format.write_array(file, table)
        return file.getvalue()
