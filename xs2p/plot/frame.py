"""The image of a browser: the ROIs of one plane over what the plane looks like."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xs2p.plot.drawing import outline_paths
from xs2p.plot.images import finished, pictures
from xs2p.plot.outlines import owners, some_pixels
from xs2p.plot.panels import by_plane
from xs2p.plot.reader import pick_roi
from xs2p.rois.pixels import PixelTable

_EDGES = 40_000  # of pixels that are drawn at most, else the ROIs are only tinted
_CHOSEN = "#F0E442"


class FrameMap:
    """Image and ROIs of the plane of the ROI that is chosen, as a figure of bokeh's.

    Attributes
    ----------
    planes
        Labels of the planes; empty where the ROIs are of one, or nobody says it.
    figure
        bokeh's figure.
    outline
        bokeh's data source of the outline of the ROI that is chosen.
    """

    def __init__(self, ds: xr.Dataset, table: PixelTable, background: Any) -> None:
        from bokeh.models import ColumnDataSource

        self._table = table
        parts = by_plane(ds)
        self.planes = list(parts)
        self._rois = list(parts.values()) or [np.arange(table.roi.size)]
        self._pictures = pictures(ds, background, None, table.shape)
        self._paths = outline_paths(table)
        self._shown: int | None = None
        self._rgba = np.zeros((table.roi.size, 4))
        self._behind = np.zeros(table.roi.size, bool)
        self._sources: dict[str, Any] = {n: ColumnDataSource({n: []}) for n in ("image", "tint")}
        sides = ("x0", "y0", "x1", "y1")
        self._edges, self.outline = (ColumnDataSource({s: [] for s in sides}) for _ in range(2))
        self.figure = self._make()

    def plane_of(self, place: int) -> int:
        """Position of the plane that an ROI is of."""
        return next(n for n, rois in enumerate(self._rois) if place in rois)

    def rois_of(self, plane: Any) -> np.ndarray:
        """Positions of the ROIs of the plane of that label."""
        return self._rois[self.planes.index(plane)]

    def pick(self, y: float, x: float, place: int) -> int | None:
        """Position of the ROI at a place of the plane that is shown; of several the next one."""
        return pick_roi(self._of(self.plane_of(place)), y, x, place)

    def show(self, place: int) -> None:
        """Show the plane of an ROI, and outline the ROI."""
        plane = self.plane_of(place)
        if plane != self._shown:
            self._show_plane(plane)
        self.outline.data = _ends(self._paths[place].vertices)

    def _show_plane(self, n: int) -> None:
        self._shown = n
        table, rois = self._of(n), self._rois[n]
        picture = self._pictures[n if self.planes else 0]
        image = picture.image
        image = image.compute().data if isinstance(image, xr.DataArray) else image
        _, image = finished(picture, image, table)
        finite = image[np.isfinite(image)]
        low, high = np.percentile(finite, (1, 99.5)) if finite.size else (0.0, 1.0)
        grey = np.clip((image - low) / max(high - low, 1e-30), 0, 1)
        shown = np.uint8(np.round(255 * np.nan_to_num(grey)))
        pixels = np.stack([shown, shown, shown, np.full_like(shown, 255)], axis=-1)
        self._sources["image"].data = {"image": [pixels.view(np.uint32)[..., 0]]}
        self._tint(n)
        points = np.concatenate([self._paths[k].vertices for k in rois])
        self._edges.data = _ends(points if len(points) <= 2 * _EDGES else points[:0])
        where = f"Plane {self.planes[n]}: " if self.planes else ""
        self.figure.title.text = f"{where}{rois.size} ROIs: click on one"

    def paint(self, rgba: np.ndarray, behind: np.ndarray) -> None:
        """Give the ROIs colours ``(roi, 4)``; some of them stand behind the others."""
        self._rgba, self._behind = rgba, behind
        if self._shown is not None:
            self._tint(self._shown)

    def _tint(self, n: int) -> None:
        of = owners(self._of(n), self._behind)
        tint = np.where((of >= 0)[..., None], self._rgba[of], 0.0)
        small = np.ascontiguousarray(np.uint8(np.round(255 * tint)))
        self._sources["tint"].data = {"tint": [small.view(np.uint32)[..., 0]]}

    def _of(self, n: int) -> PixelTable:
        """Pixels of the ROIs of a plane; those of the others are left out, and they stay."""
        if not self.planes:
            return self._table
        table = self._table
        here = np.isin(table.owner, self._rois[n])
        return some_pixels(table, here)

    def _make(self) -> Any:
        from bokeh.plotting import figure

        ly, lx = self._table.shape
        side = 420 / max(ly, lx)
        plot = figure(
            sizing_mode="scale_width",
            aspect_ratio=(max(lx * side, 120) + 60) / (max(ly * side, 120) + 60),
            min_width=300,
            max_width=int(900 * max(min(lx / ly, 2), 0.4)),
            x_range=(-0.5, lx - 0.5),
            y_range=(ly - 0.5, -0.5),
            match_aspect=True,
            tools="pan,wheel_zoom,box_zoom,reset,tap",
            active_scroll="wheel_zoom",
            title=" ",
            x_axis_label="x (pixels)",
            y_axis_label="y (pixels)",
        )
        where = {"x": -0.5, "y": -0.5, "dw": lx, "dh": ly}
        for name, source in self._sources.items():
            plot.image_rgba(name, source=source, **where)
        ends = ("x0", "y0", "x1", "y1")
        plot.segment(*ends, source=self._edges, color="white", alpha=0.4, line_width=0.7)
        plot.segment(*ends, source=self.outline, color=_CHOSEN, line_width=2)
        return plot


def _ends(points: np.ndarray) -> dict[str, np.ndarray]:
    """Give the ends of the lines that two points each make, as bokeh has them."""
    return dict(zip(("x0", "y0", "x1", "y1"), points.reshape(-1, 4).T, strict=True))
