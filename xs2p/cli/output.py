"""Where the command line writes to."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterable, Iterator

import xarray as xr

from xs2p.disk.replace import hidden, put_in_place


def check_output(
    out: str, overwrite: bool, sources: Iterable[str] = (), resume: bool = False
) -> None:
    """Refuse an output that cannot or must not be written, before any work."""
    from xs2p.pipeline.store import partial_path

    if not out.rstrip("/" + os.sep).lower().endswith(".zarr"):
        raise ValueError(f"the output {out!r} must be a folder whose name ends in .zarr")
    folder = os.path.dirname(os.path.abspath(out))
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"no folder {folder!r} to write {os.path.basename(out)} into")
    growing = partial_path(out)
    if os.path.lexists(growing) and not (overwrite or resume):
        raise FileExistsError(
            f"{growing} exists, from a run that did not end; --resume goes on with it, "
            "--overwrite starts anew"
        )
    if resume and not overwrite and os.path.lexists(out) and os.path.lexists(growing):
        raise FileExistsError(
            f"{growing} is from a run that did not end and was to replace {out}; "
            "--resume --overwrite goes on with it"
        )
    if not os.path.lexists(out) or (resume and not overwrite):
        return
    if not overwrite:
        raise FileExistsError(f"{out} exists; give --overwrite to replace it, or another name")
    if not any(os.path.exists(os.path.join(out, name)) for name in ("zarr.json", ".zgroup")):
        raise FileExistsError(f"{out} exists and is no Zarr store; it is left as it is")
    inside = os.path.realpath(out)
    for source in sources:
        if os.path.commonpath([inside, os.path.realpath(source)]) == inside:
            raise FileExistsError(f"{out} holds the input {source}; choose another output")


def write_store(ds: xr.Dataset, store: str) -> None:
    """Write traces with consolidated metadata, so that opening them is quick and silent."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        ds.to_zarr(store, mode="w", consolidated=True)


@contextlib.contextmanager
def partial(out: str, overwrite: bool) -> Iterator[str]:
    """Give a folder to write to, and give it its final name once it is complete."""
    out = os.path.realpath(out)
    store = hidden(out, ".partial")
    try:
        os.mkdir(store)  # now, so that a folder that cannot be written to is known before the work
        yield store
        put_in_place(store, out, overwrite)
    except OSError as error:
        within = str(error.filename).startswith(store)
        if within or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            error.filename = out  # its final name, not that of a part of it
        raise
    finally:
        shutil.rmtree(store, ignore_errors=True)
