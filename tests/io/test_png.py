"""Label images in PNG files, as Pillow writes them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xs2p

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def labels():
    image = np.zeros((6, 9), np.int64)
    image[1:3, 2:5], image[4, 7], image[5, :2] = 3, 200, 17
    return image


@pytest.mark.parametrize("mode", ["L", "I;16", "P"])
def test_numbers_are_labels(tmp_path, labels, mode):
    path = tmp_path / "a.png"
    if mode == "I;16":
        labels = labels * 256  # beyond 8 bits
    image = Image.fromarray(labels.astype("u2" if mode == "I;16" else "u1"))
    if mode == "P":
        image.putpalette(np.random.default_rng(0).permutation(768).astype("u1").tolist())
    image.save(path)
    xr.testing.assert_identical(xs2p.read_rois(path, shape=(6, 9)), xs2p.rois_from_labels(labels))


def test_what_is_no_label_image(tmp_path, labels):
    path = tmp_path / "a.png"
    Image.fromarray(np.stack([labels] * 3, -1).astype("u1")).save(path)
    with pytest.raises(ValueError, match=r"its pixels are colours \(RGB\)"):
        xs2p.read_rois(path)
    Image.fromarray(labels.astype("u1")).save(path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"a\.png: no PNG image can be read"):
        xs2p.read_rois(path)


def test_a_grey_image_is_asked_about(tmp_path):
    path = tmp_path / "mean.png"
    grey = np.random.default_rng(0).integers(1, 256, (20, 20)).astype("u1")
    Image.fromarray(grey).save(path)
    with pytest.raises(ValueError, match=r"labels=True"):
        xs2p.read_rois(path)
    assert xs2p.read_rois(path, labels=True).sizes["roi"] == len(np.unique(grey))


def test_checksums_are_looked_at(tmp_path, labels):
    """Pillow reads pixels whatever their checksum: other labels, and no word of it."""
    path, other = tmp_path / "a.png", tmp_path / "other.png"
    Image.fromarray(labels.astype("u1")).save(path, compress_level=0)
    Image.fromarray(labels.T.copy().reshape(6, 9).astype("u1")).save(other, compress_level=0)
    mine, others = path.read_bytes(), other.read_bytes()
    at = mine.find(b"IDAT") + 4
    end = at + int.from_bytes(mine[at - 8 : at - 4], "big")
    path.write_bytes(mine[:at] + others[at:end] + mine[end:])
    with pytest.raises(ValueError, match=r"a\.png: no PNG image can be read"):
        xs2p.read_rois(path)
