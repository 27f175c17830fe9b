"""Other tools' own libraries read what xs2p wrote, and xs2p what they wrote.

Those that are too large for the tests' extra are tried where they are installed; what NeuroConv
writes is also made here by hand.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xs2p
from xs2p.testing import simulate

ROOT = Path(__file__).parents[2]
N, LY, LX, T = 9, 32, 41, 120
START = datetime(2024, 5, 1, 14, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def ds():
    movie, rois, _ = simulate(N, (LY, LX), T, fs=10.0)
    made = movie.s2p.extract(rois, tau=1.0, min_neuropil_pixels=60, dff=True).compute()
    images = movie.s2p.summary_images(("mean", "max", "correlation"), progress=False)
    made["meanImg"], made["max_proj"] = images["mean"], images["max"]
    made["Vcorr"] = images.correlation
    made["refImg"] = made.meanImg.astype("i2")
    return made.assign_coords(iscell=("roi", np.arange(N) % 2 > 0))


@pytest.fixture(scope="module")
def folder(ds, tmp_path_factory):
    path = tmp_path_factory.mktemp("suite2p") / "suite2p"
    xs2p.write_suite2p(ds, path / "plane0")
    return path


class TestDataJoint:
    """The loader of element-calcium-imaging."""

    def test_it_loads_a_folder(self, ds, folder):
        loader = pytest.importorskip("element_interface.suite2p_loader")
        plane = loader.Suite2p(folder).planes[0]
        for key in ("F", "Fneu", "spks"):
            np.testing.assert_array_equal(getattr(plane, key), ds[key])
        np.testing.assert_array_equal(plane.iscell, ds.iscell)
        assert plane.cell_prob.shape == (N,) and plane.ops["fs"] == 10.0
        assert [one["npix"] for one in plane.stat] == ds.npix.values.tolist()
        assert (plane.alignment_channel, plane.segmentation_channel) == (0, 0)
        for name, key in (
            ("mean_image", "meanImg"),
            ("ref_image", "refImg"),
            ("max_proj_image", "max_proj"),
            ("correlation_map", "Vcorr"),
        ):
            np.testing.assert_array_equal(getattr(plane, name), ds[key])

    def test_ops_have_what_it_asks_for(self, ds, folder, tmp_path):
        ops = np.load(folder / "plane0" / "ops.npy", allow_pickle=True).item()
        assert {"refImg", "meanImg", "max_proj", "Vcorr", "align_by_chan", "functional_chan"} <= {
            *ops
        }
        assert (ops["yrange"], ops["xrange"]) == ([0, LY], [0, LX])
        back = xs2p.read_suite2p(folder / "plane0")
        part = back.assign_attrs(
            ops=back.attrs["ops"].replace('"yrange": [0, 32]', '"yrange": [2, 30]')
        )
        xs2p.write_suite2p(part, tmp_path)
        ops = np.load(tmp_path / "ops.npy", allow_pickle=True).item()
        np.testing.assert_array_equal(ops["Vcorr"], ds.Vcorr[2:30])


class TestNeuroConv:
    def test_there_and_back(self, ds, folder, tmp_path):
        """NeuroConv writes lists of pixels with y first, and its mean image with x first."""
        interfaces = pytest.importorskip("neuroconv.datainterfaces")
        made = interfaces.Suite2pSegmentationInterface(folder_path=folder)
        metadata = made.get_metadata()
        metadata["NWBFile"]["session_start_time"] = START
        made.run_conversion(nwbfile_path=tmp_path / "a.nwb", metadata=metadata)
        self.check(ds, xs2p.read_nwb(tmp_path / "a.nwb"))

    def check(self, ds, found):
        assert (found.attrs["Ly"], found.attrs["Lx"]) == (LY, LX)
        assert "NeuroConv" in found.attrs["nwb_order_source"]
        for key in ("F", "ypix", "xpix", "lam", "meanImg"):
            np.testing.assert_array_equal(found[key], ds[key])

    @pytest.mark.parametrize("square", [False, True])
    def test_as_it_writes_them(self, ds, tmp_path, square):
        """The same by hand, with the columns and texts of its release 0.10.2."""
        pynwb = pytest.importorskip("pynwb")
        text = "NeuroConv provenance record\nneuroconv_version: 0.10.2\n"
        file = pynwb.NWBFile(
            "a test", "id", START, source_script=text, source_script_file_name="a.py"
        )
        channel = pynwb.ophys.OpticalChannel(name="c", description="c", emission_lambda=520.0)
        plane = file.create_imaging_plane(
            name="ImagingPlane", description="", optical_channel=channel,
            device=file.create_device(name="m"), excitation_lambda=920.0, indicator="unknown",
            location="unknown",
        )  # fmt: skip
        table = pynwb.ophys.PlaneSegmentation(
            description="Segmentation data from Suite2p.", imaging_plane=plane,
            name="PlaneSegmentation",
        )  # fmt: skip
        table.add_column(name="roi_name", description="The unique identifier for each ROI.")
        ends = np.cumsum(ds.npix.values)
        for n, (a, b) in enumerate(zip([0, *ends], ends, strict=False)):
            own = zip(ds.ypix.values[a:b], ds.xpix.values[a:b], ds.lam.values[a:b], strict=True)
            table.add_roi(id=n, roi_name=str(n), pixel_mask=[tuple(row) for row in own])
        image = ds.meanImg.values
        if square:
            image = np.pad(image, ((0, LX - LY), (0, 0)))
        module = file.create_processing_module("ophys", "ophys")
        segmentation = pynwb.ophys.ImageSegmentation()
        segmentation.add_plane_segmentation(table)
        module.add(segmentation)
        module.add(
            pynwb.base.Images(
                name="SegmentationImages",
                images=[pynwb.image.GrayscaleImage(name="MeanImage", data=image.T)],
            )
        )
        region = table.create_roi_table_region(description="all", region=[*range(N)])
        series = pynwb.ophys.RoiResponseSeries(
            name="RoiResponseSeries", data=ds.F.values.T, rois=region, unit="n.a.", rate=10.0
        )
        module.add(pynwb.ophys.Fluorescence())
        module["Fluorescence"].add_roi_response_series(series)
        with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "w") as io:
            io.write(file)
        found = xs2p.read_nwb(tmp_path / "a.nwb")
        if square:
            assert found.attrs["Ly"] == LX
            found = found.isel(y=slice(LY)).assign_attrs(Ly=LY)
        self.check(ds, found)


def test_roiextractors_reads_our_nwb(ds, tmp_path):
    roiextractors = pytest.importorskip("roiextractors")
    xs2p.write_nwb(ds, tmp_path / "a.nwb", session_start_time=START)
    extractor = roiextractors.NwbSegmentationExtractor(tmp_path / "a.nwb")
    traces = extractor.get_traces_dict()
    for name, key in (
        ("raw", "F"),
        ("neuropil", "Fneu"),
        ("deconvolved", "spks"),
        ("baseline", "F0"),
        ("dff", "dFF"),
    ):
        np.testing.assert_array_equal(np.asarray(traces[name][:]), ds[key].T, err_msg=name)
    assert extractor.get_sampling_frequency() == 10.0
    rois = xs2p.read_rois(extractor)
    for key in ("npix", "ypix", "xpix", "lam"):
        np.testing.assert_array_equal(rois[key], ds[key])


@pytest.mark.parametrize(
    "session",
    ["mouse1", "derivatives/sub-001_m1/ses-001_date-20240501/funcimg"],
    ids=["as printed", "photon-mosaic"],
)
def test_the_snakemake_rule_of_the_page_runs(session, tmp_path):
    """The store is made, and a second call has nothing to do; also in photon-mosaic's folders."""
    pytest.importorskip("snakemake")
    page = (ROOT / "docs" / "tools.md").read_text()
    (rule,) = re.findall(r"^```text\n(rule .*?)^```", page, re.M | re.S)
    (tmp_path / "Snakefile").write_text(rule)
    movie, rois, _ = simulate(N, (LY, LX), T, fs=10.0)
    plane = tmp_path / session / "suite2p" / "plane0"
    plane.mkdir(parents=True)
    np.asarray(movie.values, "i2").tofile(plane / "data.bin")
    np.save(plane / "stat.npy", np.array(rois.s2p.to_stat(), object))
    ops = {"Ly": LY, "Lx": LX, "fs": 10.0, "nframes": T}
    np.save(plane / "ops.npy", np.array(ops, object))
    command = tmp_path / "bin" / "xs2p"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m xs2p.cli "$@"\n')
    command.chmod(0o755)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env["PATH"] = f"{command.parent}{os.pathsep}{env['PATH']}"
    call = [sys.executable, "-m", "snakemake", "--cores", "2"]
    if session != "mouse1":
        call.append(f"{session}/traces_plane0.zarr")
    for said in ("1 of 1|2 of 2 steps", "Nothing to be done"):
        done = subprocess.run(
            call, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        assert re.search(said, done.stderr + done.stdout)
    store = tmp_path / session / "traces_plane0.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Zarr's, of the file that Snakemake put into it
        found = xr.open_zarr(store, consolidated=False)
        assert xs2p.check_store(store).empty
    want = movie.astype("i2").s2p.extract(rois, tau=1.0)
    np.testing.assert_array_equal(found.spks, want.spks)
