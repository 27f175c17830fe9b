"""Programs whose NWB files number pixels in another order than the schema, and how they are told.

The schema has x before y. suite2p's and Minian's own writers have y before x. NeuroConv has it so
in lists of pixels, which it takes as roiextractors numbers them, but not in images and movies.
CaImAn's reshapes pixels that it numbers down the columns of a frame as if they ran along its rows,
and is known by the
description "CNMF_ROIs" of its table, together with its columns ``r`` and ``snr`` or its name in a
text of the file.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from xs2p._warnings import warn
from xs2p.io.nwb.parts import MADE_BY

LISTED = ("pixel_mask", "voxel_mask")


class Order(NamedTuple):
    """How the pixels of a table are numbered, and who says so."""

    axes: str  # "xy" or "yx"
    source: str
    columns_first: bool = False  # image masks of CaImAn
    given: bool = False
    lists_only: bool = False  # images and movies are as the schema has them

    @property
    def frame_axes(self) -> str:
        """Order of the axes of images and movies."""
        return "xy" if self.lists_only else self.axes

    @property
    def attrs(self) -> dict[str, str]:
        """What the result says of it."""
        return {"nwb_order": self.axes, "nwb_order_source": self.source}


def pixel_order(table: Any, kind: str, order: str | None, where: str) -> Order:
    """Order of a table's pixels: as it was asked for, as its writer has it, or the schema's."""
    if order not in (None, "xy", "yx"):
        raise ValueError(
            f"order={order!r}: expected 'xy', as the NWB schema has pixels, 'yx' for files whose "
            "writer had y first, or None to tell it by the writer"
        )
    lists = kind in LISTED and _by_neuroconv(table)
    if order is not None:
        return Order(order, f"given: order={order!r}", given=True, lists_only=lists)
    if lists:
        told = "written by NeuroConv, which has y before x in lists of pixels"
        return Order("yx", told, lists_only=True)
    about = _plain(table.description)
    file = table.get_ancestor("NWBFile")
    session = _plain(getattr(file, "session_description", ""))
    script = _plain(getattr(file, "source_script", ""))
    other = about.startswith(MADE_BY.lower()) or "neuroconv" in script
    if kind in LISTED and (about == "suite2p output" or (session == "suite2p_proc" and not other)):
        return Order("yx", "written by suite2p, which has y before x")
    if kind == "image_mask" and about == "cnmf_rois" and not other:
        if _names_caiman(table, file, (session, script)):
            return Order("yx", "written by CaImAn, pixels down the columns", columns_first=True)
        warn(
            f"{where}: the table {table.name!r} is described as CNMF_ROIs, as by CaImAn, which "
            "numbers pixels down the columns, but nothing else says that CaImAn wrote the file: "
            "its masks are read as the NWB schema has them. If they are CaImAn's, read its own "
            ".hdf5 of results"
        )
    names = [about, _plain(table.name), _plain(getattr(table.parent, "name", "")), session, script]
    if not other and any("minian" in name for name in names):
        return Order("yx", "written by Minian, which has y before x")
    if about.startswith(MADE_BY.lower()):
        return Order("xy", "written by xs2p, as the NWB schema has them")
    return Order("xy", "the NWB schema; the writer is not one that is known to differ")


def _by_neuroconv(table: Any) -> bool:
    """Whether NeuroConv wrote a table itself, not only the file: it has columns of its own."""
    file = table.get_ancestor("NWBFile")
    if "neuroconv" not in _plain(getattr(file, "source_script", "")):
        return False
    if _plain(table.description).startswith(MADE_BY.lower()):
        return False
    own = set(table.colnames)
    return bool({"roi_name", "ROICentroids"} & own) or {"Accepted", "Rejected"} <= own


def _names_caiman(table: Any, file: Any, said: tuple[str, ...]) -> bool:
    """Whether columns or texts of the file are CaImAn's: other programs have a CNMF too."""
    if {"r", "snr"} <= {name.lower() for name in table.colnames}:
        return True
    texts = [
        getattr(file, key, "") for key in ("experiment_description", "notes", "data_collection")
    ]
    above = [getattr(part, "description", "") for part in (table.parent, table.imaging_plane)]
    module = table.get_ancestor("ProcessingModule")
    names = [table.name, getattr(table.parent, "name", ""), getattr(module, "description", "")]
    return any("caiman" in _plain(text) for text in (*said, *texts, *above, *names))


def _plain(text: Any) -> str:
    return str(text or "").strip().lower()
