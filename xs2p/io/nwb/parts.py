"""The parts of an NWB file that results go to: imaging planes, tables of ROIs, series, images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._attrs import (
    ARBITRARY,
    HISTORY,
    parameters_by_variable,
    parameters_in,
    restated,
    unit_shown,
)
from xs2p._version import __version__
from xs2p._warnings import warn
from xs2p.io.nwb.columns import as_json, column_names, column_text, plain_values, stored_name
from xs2p.rois.pixels import PixelTable, pixel_table

if TYPE_CHECKING:
    import xarray as xr

MADE_BY = "ROIs of xs2p"  # what the description of a table of ours begins with
IMAGES = {"meanImg": "mean"}  # suite2p's name -> roiextractors'
_PIXEL = np.dtype([("x", "u4"), ("y", "u4"), ("weight", "f4")])
_TILE = 64  # pixels a side of a chunk of the image masks: only those that an ROI touches are stored
_CHUNK = (16384, 64)  # frames and ROIs of a chunk of traces


def new_imaging_plane(
    pynwb: Any, nwbfile: Any, suffix: str, n_channels: int, optics: dict[str, Any]
) -> Any:
    """Add the imaging plane that a table of ROIs needs."""
    name = f"ImagingPlane{suffix}"
    if name in nwbfile.imaging_planes:
        return nwbfile.imaging_planes[name]
    device = nwbfile.devices.get("Microscope") or nwbfile.create_device(
        name="Microscope", description="microscope that recorded the movie; nothing more is known"
    )
    channels = [
        pynwb.ophys.OpticalChannel(
            name=f"OpticalChannel{n + 1}" if n_channels > 1 else "OpticalChannel",
            description=f"channel {n + 1}" if n_channels > 1 else "the channel of the movie",
            emission_lambda=optics["emission_lambda"],
        )
        for n in range(n_channels)
    ]
    return nwbfile.create_imaging_plane(
        name=name,
        description=f"imaging plane {suffix.removeprefix('Plane')}".strip(),
        optical_channel=channels,
        device=device,
        excitation_lambda=optics["excitation_lambda"],
        indicator=optics["indicator"],
        location=optics["location"],
        imaging_rate=optics["rate"],
    )


def is_ours(table: Any) -> bool:
    """Whether `write_nwb` made a table of ROIs."""
    return str(table.description).startswith(MADE_BY)


def roi_table(
    pynwb: Any,
    module: Any,
    rois: xr.Dataset,
    suffix: str,
    imaging_plane: Any,
    image_masks: bool,
    more: list[Any],
) -> Any:
    """Make the table of ROIs, with its pixels, columns, and ``more`` of these."""
    from hdmf.common import ElementIdentifiers, VectorData, VectorIndex

    table = pixel_table(rois)
    pixels = np.empty(table.lam.size, _PIXEL)
    pixels["x"], pixels["y"], pixels["weight"] = table.xpix, table.ypix, table.lam
    mask = VectorData(
        name="pixel_mask", description="pixels (x, y, weight) of each ROI", data=pixels
    )
    index = VectorIndex(name="pixel_mask_index", data=table.offsets[1:], target=mask)
    columns = [index, mask, *more]
    if image_masks:
        ly, lx = table.shape
        shape = (table.roi.size, lx, ly)
        tiles = (1, min(lx, _TILE), min(ly, _TILE))
        data = _written(_boxes(table), shape, tiles)
        columns += [VectorData(name="image_mask", description="weights (x, y)", data=data)]
    for name in column_names(rois):
        data, text = plain_values(rois[name].values), column_text(name, rois)
        columns.append(VectorData(name=stored_name(name), description=text, data=data))
    if "iscell" in rois.variables and not {"Accepted", "Rejected"} & set(rois.variables):
        flags = rois["iscell"].values.astype(bool)
        for name, some in (("Accepted", flags), ("Rejected", ~flags)):
            text = f"{name.lower()} as a cell (iscell)"
            columns.append(VectorData(name=name, description=text, data=some))
    made = pynwb.ophys.PlaneSegmentation(
        name=f"PlaneSegmentation{suffix}",
        description=f"{MADE_BY} {__version__}; weights as the ROI set has them",
        imaging_plane=imaging_plane,
        id=ElementIdentifiers(name="id", data=table.roi.astype(np.int64)),
        columns=columns,
        colnames=[c.name for c in columns if not isinstance(c, VectorIndex)],
    )
    segmentation = module.data_interfaces.get("ImageSegmentation")
    if segmentation is None:
        segmentation = pynwb.ophys.ImageSegmentation(name="ImageSegmentation")
        module.add(segmentation)
    segmentation.add_plane_segmentation(made)
    return made


def _written(
    pieces: Iterator[tuple[Any, np.ndarray]],
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    **options: Any,
) -> Any:
    """Let hdmf write a float32 dataset piece by piece; what no piece covers takes no space."""
    from hdmf.backends.hdf5.h5_utils import H5DataIO
    from hdmf.data_utils import AbstractDataChunkIterator, DataChunk

    class Pieces(AbstractDataChunkIterator):  # type: ignore[misc]
        dtype = np.dtype(np.float32)
        maxshape = shape

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            where, values = next(pieces)
            return DataChunk(data=values, selection=where)

        def recommended_chunk_shape(self) -> tuple[int, ...]:
            return chunks

        def recommended_data_shape(self) -> tuple[int, ...]:
            return shape

    return H5DataIO(data=Pieces(), chunks=chunks, compression="gzip", fillvalue=0.0, **options)


def _boxes(table: PixelTable) -> Iterator[tuple[Any, np.ndarray]]:
    """Weights ``(x, y)`` of each ROI, where it has pixels."""
    for n, (a, b) in enumerate(zip(table.offsets[:-1], table.offsets[1:], strict=True)):
        if a == b:
            continue
        y, x, weight = table.ypix[a:b], table.xpix[a:b], table.lam[a:b]
        box = np.zeros((np.ptp(x) + 1, np.ptp(y) + 1), np.float32)
        box[x - x.min(), y - y.min()] = weight
        yield np.s_[n, x.min() : x.max() + 1, y.min() : y.max() + 1], box


def _blocks(
    traces: Any, rois: np.ndarray, chunks: tuple[int, int]
) -> Iterator[tuple[Any, np.ndarray]]:
    """Chunks ``(time, roi)`` of traces ``(roi, time)``."""
    frames, width = chunks
    for start in range(0, traces.shape[1], frames):
        for first in range(0, rois.size, width):
            block = np.asarray(traces[rois[first : first + width], start : start + frames])
            block = np.ascontiguousarray(block.T, dtype=np.float32)
            (n, m) = block.shape
            yield np.s_[start : start + n, first : first + m], block


def add_series(
    pynwb: Any,
    module: Any,
    traces: dict[tuple[str, str], xr.DataArray],
    held: dict[tuple[str, str], Any],
    ds: xr.Dataset,
    where: np.ndarray,
    suffix: str,
    table: Any,
    clock: dict[str, Any],
) -> None:
    """Add traces of some ROIs, each to the container of its kind."""
    n_frames = int(ds.sizes["time"])
    for (container, name), array in traces.items():
        attrs = array.attrs
        into = module.data_interfaces.get(container)
        if into is None:
            into = getattr(pynwb.ophys, container)(name=container)
            module.add(into)
        chunks = (min(n_frames, _CHUNK[0]), min(where.size, _CHUNK[1]))
        pieces = _blocks(held[container, name], where, chunks)
        data = _written(pieces, (n_frames, where.size), chunks, shuffle=True)
        series = pynwb.ophys.RoiResponseSeries(
            name=f"{name}{suffix}",
            data=data,
            rois=table.create_roi_table_region(
                description="all ROIs of the table", region=list(range(where.size))
            ),
            unit=unit_shown(str(array.name), attrs) or ARBITRARY,
            description=str(attrs.get("long_name", array.name)),
            comments=_parameters(_said_of(ds, str(array.name)) | attrs),
            **clock,
        )
        into.add_roi_response_series(series)


def _said_of(ds: xr.Dataset, name: str) -> dict[str, Any]:
    """Take from the Dataset what made a variable; a result of xs2p says it itself."""
    if "xs2p_version" in ds[name].attrs:
        return {}
    said = parameters_in(ds)
    made = parameters_by_variable(said, [name]).get(name, {})
    return {key: value for key, value in restated(ds).attrs.items() if key not in said} | made


def _parameters(attrs: dict[str, Any]) -> str:
    """Write what made a variable as JSON; not suite2p's ops, which are as long as a book."""
    left_out = ("ops", "long_name", "units", "xs2p_run", HISTORY)
    return as_json({str(k): v for k, v in attrs.items() if k not in left_out})


def frame_images(ds: xr.Dataset) -> dict[str, xr.DataArray]:
    """Images ``(y, x)`` by the name that they get in the file; warns of those that go nowhere."""
    frame = (ds.attrs["Ly"], ds.attrs["Lx"])
    found, left = {}, []
    for name, array in ds.data_vars.items():
        if not {"y", "x"} <= set(array.dims):
            continue
        image = array.transpose("y", "x") if array.ndim == 2 else array
        if image.shape == frame and image.dtype.kind in "biuf":
            found[IMAGES.get(str(name), str(name))] = image
        else:
            left.append(f"{name} {array.dims} of shape {array.shape} and dtype {array.dtype}")
    if left:
        warn(
            f"write_nwb: {'; '.join(left)}: left out, for an image in an NWB file holds numbers "
            f"over ('y', 'x') of the ROIs' frame {frame}"
        )
    return found


def add_images(pynwb: Any, module: Any, images: dict[str, xr.DataArray]) -> None:
    """Add images of the field of view, if there are any."""
    if not images:
        return
    module.add(
        pynwb.base.Images(
            name="SegmentationImages",
            description="images of the field of view, (x, y)",
            images=[
                pynwb.image.GrayscaleImage(
                    name=name,
                    description=str(image.attrs.get("long_name", name)),
                    data=np.ascontiguousarray(image.values.T),
                )
                for name, image in images.items()
            ],
        )
    )
