"""Choices of ROIs: which are accepted, by hand; kept in a table and in ``iscell``."""

from __future__ import annotations

import csv
import functools
import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from xs2p._warnings import names
from xs2p.disk.replace import check_place, foreign_file, put_bytes

ISCELL = "iscell"
_ATTRS = {
    "long_name": "accepted as a cell",
    "description": "Whether the ROI is accepted, by hand where somebody chose.",
}
_OTHERS = ("accepted", "Accepted")  # as other programs call it
FLAGS = (ISCELL, *_OTHERS)
_HEADER = b"roi,iscell"
_WORDS = {"1": True, "0": False, "true": True, "false": False, "1.0": True, "0.0": False}


def curated(ds: xr.Dataset, choices: Any) -> xr.Dataset:
    """Set ``iscell`` by choices that were made by hand, in the browser or elsewhere.

    Parameters
    ----------
    ds
        Traces or an ROI set, with a dim ``roi``.
    choices
        The path of a CSV file with the columns ``roi`` and ``iscell`` (1 or 0, True or False), as
        the browser saves it; or a mapping of labels to True or False; or a boolean DataArray over
        ``roi``. ROIs that are not in it keep the ``iscell`` that they have, or are accepted.

    Returns
    -------
    Dataset
        With the coordinate ``iscell``, bool ``(roi,)``: ``ds.sel(roi=ds.iscell)`` are the cells.
        ``accepted``, ``Accepted`` and ``Rejected`` of other programs are left out.

    Raises
    ------
    ValueError
        If the choices are of ROIs that ``ds`` does not have, a label stands twice, or a value is
        neither true nor false, also of ``iscell`` in ``ds``.

    Examples
    --------
    >>> import xs2p
    >>> rois = xs2p.curated(xs2p.sample_rois(), {3: False, 7: False})
    >>> int(rois.iscell.sum()), rois.sizes["roi"]
    (96, 98)
    """
    if "roi" not in ds.coords or ds["roi"].dims != ("roi",):
        raise ValueError("curated needs a Dataset with labels over the dim roi")
    labels = ds["roi"].values.tolist()
    place = {str(label): i for i, label in enumerate(labels)}
    if len(place) < len(labels):
        twice = [label for label in dict.fromkeys(labels) if labels.count(label) > 1]
        raise ValueError(
            f"labels of roi stand in ds more than once ({names(twice)}), so that a choice would be "
            "of several; ds.assign_coords(roi=range(n)) numbers them anew"
        )
    flags = accepted_of(ds)
    absent = []
    for label, value in _chosen(choices):
        if label not in place:
            absent.append(label)
        else:
            flags[place[label]] = value
    if absent:
        raise ValueError(
            f"choices are of {len(absent)} ROIs that are not in ds (roi {names(absent)}); they are "
            "of another recording, or ds is a selection"
        )
    # What other programs said would contradict it from now on.
    ds = ds.drop_vars([n for n in (*_OTHERS, "Rejected") if n in ds.variables])
    return ds.assign_coords({ISCELL: ("roi", flags, _ATTRS)})


def accepted_of(ds: xr.Dataset) -> np.ndarray:
    """Which ROIs are accepted, bool ``(roi,)``: all where nobody chose."""
    found = accepted_in(ds)
    return np.ones(ds.sizes["roi"], bool) if found is None else found


def accepted_in(ds: xr.Dataset) -> np.ndarray | None:
    """Which ROIs are accepted, as somebody said before; None where nobody did.

    A ValueError where ``iscell`` says neither of some, as after a join with other ROIs.
    """
    for name in FLAGS:
        if name not in ds.variables or ds[name].dims != ("roi",):
            continue
        values = ds[name].values
        if values.dtype.kind in "biu":
            return np.array(values != 0)
        known = np.array([isinstance(v, int | float | np.bool) and v in (0, 1) for v in values])
        if known.all():
            return np.array([bool(v) for v in values], bool)
        if name == ISCELL:
            raise ValueError(
                f"iscell must be True or False of each ROI; of roi "
                f"{names(ds['roi'].values[~known])} it is {names(values[~known])}"
            )
    return None


def write_choices(
    labels: np.ndarray, flags: np.ndarray, path: str | os.PathLike[str], overwrite: bool
) -> None:
    """Write a table of choices, which :func:`curated` reads; no other file is replaced."""
    target = os.fspath(path)
    foreign = functools.partial(foreign_file, ours=_ours, what="table of choices")
    check_place(target, overwrite=overwrite, foreign=foreign, step="write_choices")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["roi", ISCELL])
    writer.writerows(zip(labels.tolist(), flags.astype(int).tolist(), strict=True))
    put_bytes(text.getvalue().encode(), target)


def _ours(head: bytes) -> bool:
    return head[: len(_HEADER) + 1].strip() == _HEADER


def _chosen(choices: Any) -> list[tuple[str, bool]]:
    """Labels, as text, and what was chosen of each."""
    if isinstance(choices, xr.DataArray):
        if choices.dims != ("roi",) or choices.dtype != bool or "roi" not in choices.coords:
            raise ValueError(
                f"choices must be True or False over roi, with labels; got {choices.dtype} over "
                f"{choices.dims}"
            )
        pairs = zip(choices["roi"].values.tolist(), choices.values.tolist(), strict=True)
        found, told = [(str(a), str(b)) for a, b in pairs], "choices"
    elif isinstance(choices, Mapping):
        found, told = [(str(a), str(b)) for a, b in choices.items()], "choices"
    elif isinstance(choices, str | os.PathLike):
        found, told = _read(os.fspath(choices)), os.fspath(choices)
    else:
        raise ValueError(
            "choices must be the path of a CSV file, a mapping of labels to True or False, or a "
            f"DataArray over roi; got {type(choices).__name__}"
        )
    wrong = [value for _, value in found if value.strip().lower() not in _WORDS]
    if wrong:
        raise ValueError(f"{told}: iscell must be 1 or 0, True or False; got {names(wrong)}")
    labels = [label for label, _ in found]
    if len(set(labels)) < len(labels):
        twice = [label for label in dict.fromkeys(labels) if labels.count(label) > 1]
        raise ValueError(f"{told}: ROIs stand in it more than once: {names(twice)}")
    return [(label, _WORDS[value.strip().lower()]) for label, value in found]


def _read(path: str) -> list[tuple[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no text ({error})") from None
    header = [cell.strip() for cell in rows[0]] if rows else []
    if not {"roi", ISCELL} <= set(header):
        raise ValueError(
            f"{path}: a table of choices has the columns roi and iscell; this has "
            f"{', '.join(header[:8]) or 'none'}"
        )
    at, of = header.index("roi"), header.index(ISCELL)
    short = [k for k, row in enumerate(rows[1:], 2) if row and len(row) <= max(at, of)]
    if short:
        raise ValueError(f"{path}: line {short[0]} has {len(rows[short[0] - 1])} columns")
    return [(row[at], row[of]) for row in rows[1:] if row]
