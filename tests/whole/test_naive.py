"""The naive versions reproduce the reference, so comparing a kernel with them means something."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from loaders import DATA, REFERENCE, names, reference, stat_of

TOLERANCE = {"rtol": 1e-4, "atol": 1e-2}
RENAMED = {
    "inner_neuropil_radius": "inner_radius",
    "min_neuropil_pixels": "min_pixels",
    "circular_neuropil": "circular",
}


def split(values, counts):
    return np.split(values, np.cumsum(counts)[:-1])


def naive_masks(stat, shape, options):
    cells = naive.cell_image(stat, shape, options.get("lam_percentile", 50.0))
    cell = [naive.cell_mask(roi, shape, options.get("allow_overlap", False)) for roi in stat]
    ring = {RENAMED[key]: value for key, value in options.items() if key in RENAMED}
    return cells, cell, [naive.neuropil_mask(roi, cells, **ring) for roi in stat]


@pytest.mark.parametrize("name", names("masks_*"))
def test_masks(name):
    z, stat, shape, options = reference(name)
    cells, cell, neuropil = naive_masks(stat, shape, options)
    np.testing.assert_array_equal(cells, z["cell_mask_image"])
    np.testing.assert_array_equal([len(pixels) for pixels, _ in cell], z["cell_n"])
    np.testing.assert_array_equal(np.concatenate([pixels for pixels, _ in cell]), z["cell_pix"])
    np.testing.assert_array_equal(np.concatenate([weights for _, weights in cell]), z["cell_lam"])
    if "neu_pix" in z.files:
        np.testing.assert_array_equal([pixels.size for pixels in neuropil], z["neu_n"])
        np.testing.assert_array_equal(np.concatenate(neuropil), z["neu_pix"])


@pytest.mark.parametrize("name", names("masks_*"))
def test_overlap(name):
    z, stat, shape, _ = reference(name)
    np.testing.assert_array_equal(np.concatenate(naive.overlap(stat, shape)), z["overlap"])


@pytest.mark.parametrize("name", names("extract_*"))
def test_extract(name):
    z, stat, shape, options = reference(name)
    _, cell, neuropil = naive_masks(stat, shape, options)
    rings = [naive.mean_weights(pixels) for pixels in neuropil]
    for suffix in ("", "_chan2"):
        F = naive.extract(z[f"movie{suffix}"], cell)
        assert (np.isnan(F).all(axis=1) == [not len(pixels) for pixels, _ in cell]).all()
        np.testing.assert_allclose(np.nan_to_num(F), z[f"F{suffix}"], **TOLERANCE)
        Fneu = naive.extract(z[f"movie{suffix}"], rings)
        np.testing.assert_allclose(Fneu, z[f"Fneu{suffix}"], **TOLERANCE)


@pytest.mark.parametrize("name", names("dcnv_*"))
def test_baseline(name):
    z = np.load(REFERENCE / f"{name}.npz")
    options = {key: z[key].item() for key in ("win_baseline", "sig_baseline", "prctile_baseline")}
    methods = {"maximin": "maximin", "constant": "constant_global", "prctile": "prctile"}
    for stored, method in methods.items():
        corrected = z["F"] - naive.baseline(z["F"], method, z["fs"].item(), **options)
        np.testing.assert_allclose(corrected, z[stored], **TOLERANCE)


@pytest.mark.parametrize("name", names("dcnv_*"))
def test_oasis_to_the_last_bit(name):
    z = np.load(REFERENCE / f"{name}.npz")
    for stored, spikes in (("F", "spks_raw"), ("maximin", "spks_maximin")):
        for trace, expected in zip(z[stored][:6], z[spikes][:6], strict=True):
            np.testing.assert_array_equal(naive.oasis(trace, z["tau"], z["fs"]), expected)


@pytest.mark.parametrize("name", ["nape_ofc_vta_2p", "pynapple_a0662_1p"])
def test_real_folders(name):
    z = np.load(DATA / f"{name}.npz")
    fs, tau = z["ops_fs"].item(), z["ops_tau"].item()
    Fc = z["F"] - np.float32(z["ops_neucoeff"]) * z["Fneu"]
    np.testing.assert_allclose(naive.std(Fc), z["std"], rtol=1e-5)
    varied = naive.std(Fc) > 0
    np.testing.assert_allclose(naive.skew(Fc[varied]), z["skew"][varied], rtol=1e-5, atol=1e-5)

    stat = stat_of(z, z["roi_offsets"])
    shape = (z["ops_Ly"].item(), z["ops_Lx"].item())
    cells = naive.cell_image(stat, shape)
    stored = split(z["neuropil_ipix"], np.diff(z["neuropil_offsets"]))
    for n in range(0, len(stat), 9):
        np.testing.assert_array_equal(naive.neuropil_mask(stat[n], cells), stored[n])

    some = Fc[:5].astype(np.float32)
    corrected = (some - naive.baseline(some, "maximin_legacy", fs)).astype(np.float32)
    spikes = [naive.oasis(trace, tau, fs) for trace in corrected]
    np.testing.assert_allclose(spikes, z["spks"][:5], **TOLERANCE)


def test_radius_of_a_stored_stat():
    stat = np.load(DATA / "suite2p-folder-2p" / "stat.npy", allow_pickle=True)
    radius = [naive.radius(roi) for roi in stat]
    np.testing.assert_allclose(radius, [roi["radius"] for roi in stat], rtol=1e-6)


def test_snr_of_a_slow_trace_and_of_noise():
    noise = np.random.default_rng(0).normal(size=20_000)
    slow = np.cumsum(noise)
    np.testing.assert_allclose(naive.snr(np.array([slow, noise])), [1, 0], atol=0.02)
