"""Pixels of the regions that ImageJ and Fiji save as ``.roi`` and ``RoiSet.zip``.

An outline is filled as ImageJ itself does: pixel ``(y, x)`` is the square from ``(x, y)`` to
``(x + 1, y + 1)``, and belongs to the region where its centre is inside. A centre on the very
outline counts as inside on the right and the lower side, not on the left and the upper.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.io.rois.runs import Runs, runs_of_box, runs_of_outlines, runs_of_oval

if TYPE_CHECKING:
    import xarray as xr

MADE_BY = "xs2p write_rois"  # where a format has a place to say so
# Of an ImagejRoi: the numbers of the file format (ij.io.RoiDecoder, public domain).
POLYGON, RECTANGLE, OVAL, FREEHAND, TRACED, POINT = 0, 1, 2, 7, 8, 10
TEXT, IMAGE = 1, 4
SPLINE = 1
LINES = {
    3: "a straight line",
    4: "a freehand line",
    5: "a polyline",
    6: "no selection",
    9: "an angle",
}
# So near to a curve, in pixels, is what ImageJ fills in its place.
FLATNESS = 0.01
_POINTS = 2**17  # of the outlines of a region
_PIXELS = 2**22  # of a region that goes elsewhere, and which no frame bounds yet
_ROOM = 2**24  # bytes that may be unpacked of an archive, beside 4 times its own
Pixels = tuple[np.ndarray, np.ndarray]


def pixels_of(roi: Any) -> Pixels:
    """``(ypix, xpix)`` of one `roifile.ImagejRoi`, row by row; int64.

    Raises
    ------
    ValueError
        For what has no area, such as lines, and what ImageJ does not fill either.
    """
    return runs_of(roi, None).pixels()


def runs_of(roi: Any, frame: tuple[int, int] | None) -> Runs:
    """Pixels of a region as runs; what is far outside of a frame may be left out."""
    kind, subtype = int(roi.roitype), int(roi.subtype)
    if subtype in (TEXT, IMAGE):
        raise ValueError(f"{'a text' if subtype == TEXT else 'an image'}, and no area: take it out")
    if kind in LINES:
        raise ValueError(
            f"{LINES[kind]}, and no area: take it out, or make an area of it (in ImageJ, Edit > "
            "Selection > Line to Area)"
        )
    if kind == POINT:
        return _points(_vertices(roi))
    if roi.shape_roi_size > 0:
        if roi.multi_coordinates is None:
            raise ValueError("damaged (it is to be of several outlines, and has none)")
        paths = flatten(np.asarray(roi.multi_coordinates, np.float64))
        return runs_of_outlines(paths, frame)
    box = (int(roi.top), int(roi.left), int(roi.bottom), int(roi.right))
    if kind == OVAL:
        return runs_of_oval(*box)
    if kind == RECTANGLE:
        return _rectangle(*box, int(roi.rounded_rect_arc_size), frame)
    if kind not in (POLYGON, FREEHAND, TRACED):
        raise ValueError(f"of a kind that is not known here (ImageJ's number {kind})")
    if int(roi.options) & SPLINE:
        raise ValueError(
            "a spline through its points, which is not followed here: make a plain polygon of it "
            "(in ImageJ, Edit > Selection > Interpolate)"
        )
    return runs_of_outlines([_vertices(roi)], frame)


def _vertices(roi: Any) -> np.ndarray:
    """Outline of a polygon or points, ``(n, 2)`` of x and y in the frame."""
    if roi.subpixel_coordinates is not None:
        return np.asarray(roi.subpixel_coordinates, np.float64)
    return np.asarray(roi.integer_coordinates, np.float64) + [roi.left, roi.top]


def fill(outlines: list[np.ndarray]) -> Pixels:
    """Pixels whose centres are inside an odd number of closed outlines ``(n, 2)`` of x, y."""
    return runs_of_outlines(outlines, None).pixels()


def _rectangle(
    top: int, left: int, bottom: int, right: int, arc: int, frame: tuple[int, int] | None
) -> Runs:
    """All pixels of a box, or of one whose corners are quarters of circles of diameter ``arc``."""
    if not arc:
        return runs_of_box(top, left, bottom, right)
    ry, rx = min(arc, bottom - top) / 2, min(arc, right - left) / 2
    centres = (
        (right - rx, bottom - ry),
        (left + rx, bottom - ry),
        (left + rx, top + ry),
        (right - rx, top + ry),
    )
    corners: list[np.ndarray] = []
    for k, centre in enumerate(centres):
        angle = (np.arange(65) / 64 + k) * np.pi / 2
        x, y = centre[0] + rx * np.cos(angle), centre[1] + ry * np.sin(angle)
        corners.append(np.stack([x, y], 1))
    return runs_of_outlines([np.concatenate(corners)], frame)


def _points(points: np.ndarray) -> Runs:
    """Return the pixel that each point is in, each pixel once."""
    if not np.isfinite(points).all():
        raise ValueError("damaged (coordinates of its points are not finite)")
    places = np.floor(points[:, ::-1]).clip(-(2.0**40), 2.0**40)
    y, x = np.unique(places.astype(np.int64), axis=0).T
    return Runs(y, x, x + 1)


def flatten(path: np.ndarray) -> list[np.ndarray]:
    """Outlines of a composite region: its list of moves, lines and curves, in x and y."""
    outlines: list[list[np.ndarray]] = []
    numbers = {0: 2, 1: 2, 2: 4, 3: 6, 4: 0}  # to move, line, and curves of order 2 and 3; to close
    n = 0
    while n < path.size:
        what = int(path[n])
        stop = n + 1 + numbers.get(what, path.size)
        if stop > path.size or (what and not outlines):
            raise ValueError(f"damaged (step {what} of its outline, number {n} of {path.size})")
        points = list(path[n + 1 : stop].reshape(-1, 2))
        n = stop
        if what == 0:
            outlines.append([])
        if what in (2, 3):
            points = _chords([outlines[-1][-1], *points])
        outlines[-1].extend(points)
        if sum(map(len, outlines)) > _POINTS:
            raise ValueError(f"damaged, or of curves beyond any frame (more than {_POINTS} points)")
    return [np.array(outline) for outline in outlines]


def _chords(curve: list[np.ndarray], depth: int = 10) -> list[np.ndarray]:
    """Return the ends of the chords that stand for a Bézier curve, halved as Java's shapes are."""
    start, chord = curve[0], curve[-1] - curve[0]
    length = max(float(chord @ chord), 1e-300)
    along = [min(max(float((p - start) @ chord) / length, 0.0), 1.0) for p in curve[1:-1]]
    away = [np.hypot(*(p - start - t * chord)) for p, t in zip(curve[1:-1], along, strict=True)]
    if depth == 0 or max(away) < FLATNESS:
        return [curve[-1]]
    first, second, points = [start], [curve[-1]], curve
    while len(points) > 1:
        points = [(p + q) / 2 for p, q in itertools.pairwise(points)]
        first.append(points[0])
        second.append(points[-1])
    return _chords(first, depth - 1) + _chords(second[::-1], depth - 1)


def read_imagej(path: str, shape: tuple[int, int] | None, moved: bool) -> xr.Dataset:
    """ROI set of a ``.roi`` file or of all regions of a ``RoiSet.zip``."""
    import zipfile

    ours = False
    if not path.lower().endswith(".zip"):
        with open(path, "rb") as file:
            stored = [(os.path.basename(path), file.read())]
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                listed = archive.infolist()
                inside = [entry for entry in listed if _is_region(archive, entry)]
                _check_room(path, inside)
                ours = archive.comment == MADE_BY.encode()
                stored = [(entry.filename, archive.read(entry)) for entry in inside]
        except Exception as error:  # damaged data fail in the decompressor, each in its own way
            raise ValueError(f"{path}: no zip archive can be read ({error})") from error
        _check_number(path, len(listed))
        if not stored:
            raise ValueError(
                f"{path}: no .roi is in it (of {len(listed)} files), expected the RoiSet.zip that "
                "ImageJ's ROI manager saves"
            )
    regions = [decoded(data, entry, path) for entry, data in stored]
    return rois_of_imagej(regions, shape, path, moved, ours)


def _is_region(archive: Any, entry: Any) -> bool:
    """Whether an entry is a region, whatever its name, and not what the Mac puts beside it."""
    if entry.is_dir() or entry.filename.startswith("__MACOSX/"):
        return False
    if entry.filename.lower().endswith(".roi"):
        return True
    with archive.open(entry) as file:  # a name that is damaged is not that in the file: it raises
        return bool(file.read(4) == b"Iout")


def _check_room(path: str, inside: list[Any]) -> None:
    """Raise where what is packed is far more than regions are."""
    packed, room = sum(entry.file_size for entry in inside), _ROOM + 4 * os.path.getsize(path)
    if packed > room:
        raise ValueError(
            f"its {len(inside)} regions are {packed} bytes unpacked, and of an archive of "
            f"{os.path.getsize(path)} bytes no more than {room} are expected"
        )


def _check_number(path: str, listed: int) -> None:
    """Raise where the end of an archive counts other entries than its directory lists."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 2**16 - 22))
        end = file.read()
    at = end.rfind(b"PK\5\6")
    counted = int.from_bytes(end[at + 10 : at + 12], "little") if at >= 0 else listed
    if counted not in (listed % 2**16, 2**16 - 1):  # the largest says that there are more
        raise ValueError(
            f"{path}: the archive is damaged: it counts {counted} entries, and {listed} are listed"
        )


def decoded(data: bytes, entry: str, path: str) -> Any:
    """Read a region; ``entry`` is where in the file it is."""
    import roifile

    try:
        region = roifile.ImagejRoi.frombytes(data)
    except Exception as error:  # a damaged file fails in any way it likes
        raise ValueError(f"{path}: {entry} is no region of ImageJ's ({error})") from error
    region.name = region.name or os.path.basename(entry).removesuffix(".roi")
    return region


def rois_of_imagej(
    regions: list[Any],
    shape: tuple[int, int] | None,
    name: str,
    moved: bool = False,
    ours: bool = False,
) -> xr.Dataset:
    """ROI set of regions; ``moved``: they go elsewhere, and ``shape`` does not bound them yet."""
    from xs2p.rois.assemble import Fields, assemble, cut_to_frame, status_of, warn_of_lost
    from xs2p.rois.pixels import frame_shape

    if shape is None:
        raise ValueError(
            f"{name}: regions of ImageJ do not say the size of the frame; give it in pixels: "
            "shape=(Ly, Lx)"
        )
    frame = frame_shape(shape)
    found = []
    for region in regions:
        try:
            found.append(_bounded(region, frame, moved))
        except ValueError as error:
            raise ValueError(f"{name}: the region {region.name!r} is {error}") from error
    ypix, xpix = (np.concatenate([runs.pixels()[k] for runs, _ in found]) for k in (0, 1))
    if moved and ypix.size:
        frame = (max(frame[0], int(ypix.max()) + 1), max(frame[1], int(xpix.max()) + 1))
    titles = [str(region.name) for region in regions]
    labels = labels_of(titles)
    left = np.array([runs.number() for runs, _ in found], np.int64)
    owner = np.repeat(np.arange(len(found)), left)
    cut = cut_to_frame(owner, ypix, xpix, len(found), frame, np.array([n for _, n in found]))
    warn_of_lost(cut, np.array(titles, object), str(frame), f"{name}: ", kind="")
    return assemble(
        roi=labels,
        npix=cut.npix,
        ypix=ypix[cut.inside],
        xpix=xpix[cut.inside],
        lam=np.ones(cut.npix.sum()),
        shape=frame,
        fields=Fields(
            per_roi=_columns(regions, titles, ours), status=status_of(cut.npix, cut.gone)
        ),
    )


def _bounded(region: Any, frame: tuple[int, int], moved: bool) -> tuple[Runs, int]:
    """Pixels of a region in the frame, or all where it goes elsewhere; how many are left out."""
    runs = runs_of(region, None if moved else frame)
    if not moved:
        inside = runs.within(frame)
        return inside, runs.number() - inside.number() + runs.beyond
    if runs.number() > _PIXELS or runs.beyond:
        raise ValueError(
            f"of {runs.number()} pixels, and one that is shifted or scaled may have {_PIXELS}: it "
            "is damaged, or not of a frame"
        )
    return runs, 0


def _columns(regions: list[Any], titles: list[str], ours: bool) -> dict[str, xr.Variable]:
    """Columns over ``roi`` of what ImageJ says of each region; ``ours``: `write_rois` made them."""
    import xarray as xr

    text = np.array(titles, dtype=object)
    found = {"name": xr.Variable("roi", text, {"long_name": "name in ImageJ"})}
    for key in ("position", "c_position", "z_position", "t_position"):
        values = np.array([getattr(region, key) for region in regions])
        if values.any():
            attrs = {"long_name": f"{key} in ImageJ, from 1; 0 for none"}
            found[key] = xr.Variable("roi", values, attrs)
    z = found["z_position"].values if "z_position" in found else np.zeros(0)
    if z.size and z.min() > 0 and (ours or np.unique(z).size > 1):
        # One z for all may be what ImageJ says of a stack of times, whatever the plane.
        about = {"long_name": "plane of the ROI", "description": "z position in ImageJ, less 1."}
        found["plane"] = xr.Variable("roi", z - 1, about)
    return found


def labels_of(titles: list[str]) -> np.ndarray:
    """ROI labels: the names where all are different whole numbers, as `write_rois` has them."""
    plain = all(t.isascii() and t.isdigit() and str(int(t)) == t and len(t) < 19 for t in titles)
    if plain and len(set(titles)) == len(titles):
        return np.array([int(t) for t in titles], dtype=np.int64)
    return np.arange(len(titles))
