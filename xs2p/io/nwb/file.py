"""NWB files: how they are opened, and which tables and series are in them."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any

from xs2p.movie.hdf5_sources import check_hdf5


def require_pynwb() -> Any:
    """Import pynwb, or say how to install it."""
    try:
        import pynwb
    except ModuleNotFoundError as error:
        raise ImportError(
            'NWB files need pynwb, which is not installed: pip install "xs2p[nwb]"'
        ) from error
    return pynwb


def is_nwb_store(path: str) -> bool:
    """Whether a folder is an NWB file in Zarr form."""
    for name in (".zattrs", "zarr.json"):
        with contextlib.suppress(OSError), open(os.path.join(path, name), "rb") as file:
            if b'"nwb_version"' in file.read():
                return True
    return False


@contextlib.contextmanager
def opened(path: str) -> Iterator[Any]:
    """Open an NWB file, of HDF5 or in Zarr form, for as long as it is read."""
    reader = _reader(path)
    with warnings.catch_warnings():
        # Of files that were written with another release of the schema.
        warnings.filterwarnings("ignore", message="Ignoring.* cached namespace")
        # Of columns, which are read by name.
        warnings.filterwarnings("ignore", message="An attribute .* already exists on")
        # Of traces (roi, time), which read_nwb turns and tells of in words of its own.
        warnings.filterwarnings("ignore", message=".*dimension of data does not match")
        io = None
        try:
            if os.path.isfile(path):
                check_hdf5(path, "/processing")
            io = reader(path, "r")
            file = io.read()
        except Exception as error:
            if io is not None:
                io.close()
            raise ValueError(
                f"{path}: cannot be read as NWB ({type(error).__name__}: {error})"
            ) from error
    with io:
        yield file


def _reader(path: str) -> Any:
    """Class that reads the file: pynwb's, or of a folder hdmf-zarr's."""
    pynwb = require_pynwb()
    if not os.path.exists(path):
        raise FileNotFoundError(f"no file {path!r}")
    if not os.path.isdir(path):
        return pynwb.NWBHDF5IO
    if not is_nwb_store(path):
        raise ValueError(f"{path}: a folder that is no NWB file in Zarr form")
    try:
        import hdmf_zarr
    except ImportError as error:
        raise ImportError(
            f"{path}: of an NWB file in Zarr form, ROIs and traces need hdmf-zarr ({error}): "
            'pip install "xs2p[nwb-zarr]", with Python 3.12 or later. open_movie opens its movie '
            "without; or write it as HDF5, where hdmf-zarr is: with hdmf_zarr.NWBZarrIO(path, 'r') "
            "as src, pynwb.NWBHDF5IO(new, 'w') as out: out.export(src_io=src)"
        ) from error
    newer = os.path.exists(os.path.join(path, "zarr.json"))  # version 3 of Zarr
    return hdmf_zarr.NWBZarrIO if newer else hdmf_zarr.NWBZarrV2IO


def tables(file: Any) -> dict[str, Any]:
    """All tables of ROIs in a file, by name; two of one name by module and name."""
    from pynwb.ophys import PlaneSegmentation

    found = [item for item in file.objects.values() if isinstance(item, PlaneSegmentation)]
    plain = [table.name for table in found]
    return {
        table.name
        if plain.count(table.name) == 1
        else f"{table.parent.parent.name}/{table.parent.name}/{table.name}": table
        for table in found
    }


def pick(file: Any, name: str | None, path: str) -> Any:
    """Choose a table of ROIs, the only one or that of the name."""
    found = tables(file)
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if name in found:
        return found[name]
    if not found:
        raise ValueError(f"{path}: holds no PlaneSegmentation, so no ROIs")
    listing = ", ".join(f"{key} ({len(table)} ROIs)" for key, table in found.items())
    if name is None:
        raise ValueError(
            f"{path}: holds {len(found)} tables of ROIs: {listing}; pick one, as in "
            f"name={next(iter(found))!r}"
        )
    raise ValueError(f"name={name!r} is no PlaneSegmentation of {path}, which holds: {listing}")


# Variable -> container and name of the series there; the names that have one in roiextractors are
# RoiResponseSeries, Neuropil, Deconvolved and Baseline.
SERIES = {
    "F": ("Fluorescence", "RoiResponseSeries"),
    "Fneu": ("Fluorescence", "Neuropil"),
    "Fc": ("Fluorescence", "NeuropilCorrected"),
    "F0": ("Fluorescence", "Baseline"),
    "spks": ("Fluorescence", "Deconvolved"),
    "denoised": ("Fluorescence", "Denoised"),
    "dFF": ("DfOverF", "RoiResponseSeries"),
    "F_chan2": ("Fluorescence", "RoiResponseSeriesChan2"),
    "Fneu_chan2": ("Fluorescence", "NeuropilChan2"),
}
