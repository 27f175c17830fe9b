"""Columns of tables of ROIs: their names, and how a variable is known again when it is read.

A column has a name, values and a description, and no more. What another program's user has to know
is said there in words, the meaning of flags too. Of a data variable, such as ``noise`` or
``dff_flag``, its attributes follow in brackets as JSON: by them it comes back as it was.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import HISTORY
from xs2p._flags import meanings_of

# Columns of the table of ROIs that are no data of the ROI's own.
_NOT_COLUMNS = ("roi", "roi_id", "npix")
_OTHERWISE = "xs2p_"  # before the name of a column that NWB's table uses for something else
OBSERVED = "obs_intervals"  # when an ROI counts, as the table of Units calls it
_NOT_KEPT = ("ops", "xs2p_run", HISTORY)  # attributes as long as a book
_VARIABLE = re.compile(r"(.*?) ?\[xs2p variable (\{.*\})\]", re.DOTALL)


def _is_of_tables(name: str) -> bool:
    """Whether a table of ROIs has an attribute, dataset or mask of that name."""
    from pynwb.ophys import PlaneSegmentation

    own = {column["name"] for column in PlaneSegmentation.__columns__}
    plain = name.removesuffix("_index")
    return plain in own or plain == OBSERVED or hasattr(PlaneSegmentation, name)


def stored_name(name: str) -> str:
    """Name of a column in the file; ``xs2p_<name>`` where the table needs the name itself."""
    plain = name
    while plain.startswith(_OTHERWISE):
        plain = plain.removeprefix(_OTHERWISE)
    return _OTHERWISE + name if _is_of_tables(plain) else name


def name_here(column: str) -> str:
    """Give a column of a file the name that `stored_name` was asked for."""
    name = column.removeprefix(_OTHERWISE)
    return name if name != column and stored_name(name) == column else column


def column_names(rois: xr.Dataset) -> list[str]:
    """Variables over ``roi`` that become columns, checked: HDF5 does not take every name."""
    found = [
        str(name)
        for name, variable in rois.variables.items()
        if variable.dims == ("roi",)
        and name not in _NOT_COLUMNS
        and variable.dtype.kind in "biufOSUT"
    ]
    odd = [name for name in found if not name or name == "." or set(name) & set("/:")]
    if odd:
        raise ValueError(
            f"write_nwb: {odd[0]!r} cannot be the name of a column of an NWB file, which must not "
            f"be empty nor hold '/' or ':'; rename it: ds.rename({{{odd[0]!r}: 'other_name'}})"
        )
    return found


def by_channel(ds: xr.Dataset) -> xr.Dataset:
    """Make of a variable ``(channel, roi)`` one over ``roi`` for each channel, as of traces.

    That of the first keeps its name, that of the second ends in ``_chan2``.
    """
    of_both = [str(n) for n, v in ds.variables.items() if set(v.dims) == {"channel", "roi"}]
    for name in of_both:
        parts, kept = ds[name], name in ds.coords
        ds = ds.drop_vars(name)
        for n in range(parts.sizes["channel"]):
            part = parts.isel(channel=n).variable
            here = {f"{name}_chan{n + 1}" if n else name: part}
            ds = ds.assign_coords(here) if kept else ds.assign(here)
    return ds


def column_text(name: str, rois: xr.Dataset) -> str:
    """Describe a column: what it is, what its flags mean, and the attributes of a data variable."""
    attrs = rois[name].attrs
    text = str(attrs.get("description") or attrs.get("long_name") or name)
    flags = ", ".join(f"{bit} = {word}" for bit, word in meanings_of(rois[name]).items())
    text += f" Flags, which add up: {flags}." if flags else ""
    if name not in rois.data_vars:
        return text
    unit = attrs.get("units", "")
    text += f" Unit: {str(unit).rstrip('.')}." if unit not in ("", "1") else ""
    kept = {str(key): value for key, value in attrs.items() if key not in _NOT_KEPT}
    return f"{text} [xs2p variable {as_json(kept)}]"


def column_attrs(name: str, description: str) -> dict[str, Any]:
    """Attributes of a column: as they were, of a data variable of ours; else its description."""
    of_variable = _VARIABLE.fullmatch(description)
    if of_variable:
        try:
            return dict(json.loads(of_variable[2]))
        except ValueError:
            description = of_variable[1]
    return {"long_name": name, "description": description}


def variables_in(table: Any) -> list[str]:
    """Names of the data variables of ours that a table has as columns."""
    found = [c.name for c in table.columns if _VARIABLE.fullmatch(str(c.description))]
    return [name_here(name) for name in found]


def as_json(attrs: dict[str, Any]) -> str:
    """Write attributes as JSON; arrays become lists, what JSON has no form for becomes text."""
    return json.dumps(
        attrs,
        default=lambda value: value.tolist() if hasattr(value, "tolist") else str(value),
    )


def plain_values(values: np.ndarray) -> Any:
    """Give values as hdmf takes them for a column: text as a list."""
    if values.dtype.kind in "OSUT":
        return [str(value) for value in values]
    return values
