"""Where files, folders and suite2p's parts begin, as the coordinate ``segment``; bad frames."""

import numpy as np
import pytest
import tifffile
import xarray as xr

import xs2p

LY, LX = 12, 16
MADE = {"neucoeff": 0.7, "baseline": "maximin", "win_baseline": 60.0, "sig_baseline": 10.0}


def frames(n, seed=0):
    return np.random.default_rng(seed).integers(0, 900, (n, LY, LX)).astype("i2")


def plane(folder, n, **ops):
    """Write suite2p's folder of a plane, of ``n`` frames."""
    folder.mkdir(parents=True)
    frames(n).tofile(folder / "data.bin")
    rng = np.random.default_rng(1)
    for key in ("F", "Fneu", "spks"):
        np.save(folder / f"{key}.npy", rng.random((2, n)).astype("f4"))
    ypix, xpix = np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3)
    stat = [{"ypix": ypix + at, "xpix": xpix + at, "lam": np.ones(9, "f4")} for at in (1, 6)]
    np.save(folder / "stat.npy", np.array(stat))
    np.save(folder / "ops.npy", {"Ly": LY, "Lx": LX, "fs": 10.0, "tau": 1.0, **MADE, **ops})
    return folder


def starts(array):
    """First frame of each segment, plainly."""
    labels = array.segment.values.tolist()
    return [n for n, label in enumerate(labels) if n == 0 or labels[n - 1] != label]


class TestFiles:
    def test_a_file_is_a_segment(self, tmp_path):
        for name, n in (("rec_2", 5), ("rec_10", 20), ("rec_1", 7)):
            tifffile.imwrite(tmp_path / f"{name}.tif", frames(n), photometric="minisblack")
        movie = xs2p.open_movie(str(tmp_path / "rec_*.tif"), fs=10.0, segments="files")
        assert movie.segment.values.tolist() == [0] * 7 + [1] * 5 + [2] * 20
        assert movie.segment.attrs["names"] == ["rec_1.tif", "rec_2.tif", "rec_10.tif"]
        assert movie.chunks is not None
        assert "segment" not in xs2p.open_movie(str(tmp_path / "rec_*.tif"), fs=10.0).coords
        # A pattern that one file matches is one of several files all the same.
        movie = xs2p.open_movie(str(tmp_path / "rec_2*.tif"), segments="files")
        assert movie.segment.values.tolist() == [0] * 5

    @pytest.mark.parametrize("n", [6, 7])
    def test_channels_in_turn_go_on_from_file_to_file(self, tmp_path, n):
        paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
        for path, count in zip(paths, (n, 32 - n), strict=True):
            np.save(path, frames(count))
        movie = xs2p.open_movie(paths, channels=2, segments="files")
        # Frame t begins with frame 2t of all: whose file it is counts.
        expected = [int(2 * t >= n) for t in range(16)]
        assert movie.segment.dims == ("time",) and movie.segment.values.tolist() == expected

    def test_files_that_are_channels_are_no_segments(self, tmp_path):
        paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
        for path in paths:
            np.save(path, frames(8))
        how = {"channels": 2, "order": ("channel", "time")}
        assert xs2p.open_movie(paths, **how).sizes["time"] == 8
        with pytest.raises(ValueError, match="do not follow each other in time: they hold chan"):
            xs2p.open_movie(paths, **how, segments="files")

    def test_an_ome_recording_of_several_files(self, tmp_path):
        head = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        head += '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="int16" SizeX="16" SizeY="12" '
        head += 'SizeC="1" SizeZ="1" SizeT="8">'
        for t in range(8):
            name = ("a.ome.tif", "b.ome.tif")[t >= 5]
            head += f'<TiffData FirstT="{t}" IFD="{t % 5}" PlaneCount="1"><UUID FileName="{name}">'
            head += f"urn:uuid:{name[0] * 8}-0000-0000-0000-000000000000</UUID></TiffData>"
        head += "</Pixels></Image></OME>"
        for name, n in (("a", 5), ("b", 3)):
            told = head.replace(
                "<OME ", f'<OME UUID="urn:uuid:{name * 8}-0000-0000-0000-000000000000" '
            )
            path = tmp_path / f"{name}.ome.tif"
            tifffile.imwrite(
                path, frames(n), description=told, metadata=None, photometric="minisblack"
            )
        movie = xs2p.open_movie(str(tmp_path / "*.ome.tif"), segments="files")
        assert movie.segment.values.tolist() == [0] * 5 + [1] * 3
        assert movie.segment.attrs["names"] == ["a.ome.tif", "b.ome.tif"]

    def test_folders_of_files(self, tmp_path):
        paths = []
        for name, n in (("day1/a", 4), ("day1/b", 5), ("day2/a", 6)):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            paths.append(str(tmp_path / f"{name}.npy"))
            np.save(paths[-1], frames(n))
        movie = xs2p.open_movie(paths, segments="folders")
        assert starts(movie) == [0, 9] and movie.segment.attrs["names"] == ["day1", "day2"]
        assert xs2p.open_movie(paths, segments="files").segment.attrs["names"] == paths
        with pytest.raises(ValueError, match="does not say of which folders"):
            xs2p.open_movie(paths[:2], segments="folders")

    def test_gaps_and_labels(self):
        times = np.concatenate([np.arange(20), 100 + np.arange(12)]) / 10
        movie = xr.DataArray(
            frames(32), {"time": ("time", times, {"units": "s"})}, ("time", "y", "x")
        )
        assert starts(xs2p.open_movie(movie, segments="gaps")) == [0, 20]
        # A pause before a segment is none of its times; what they are within one is told.
        assert starts(xs2p.open_movie(movie, fs=10.0, segments="gaps")) == [0, 20]
        late = movie.assign_coords(time=("time", times + (np.arange(32) >= 30) * 0.1))
        with pytest.warns(UserWarning, match=r"frame 30 is at 11.1 s, and by fs at 11 s"):
            xs2p.open_movie(late, fs=10.0, segments=np.repeat([0, 1], [20, 12]))
        labels = np.repeat(["rest", "task"], 16)
        assert starts(xs2p.open_movie(movie, segments=labels)) == [0, 16]

    @pytest.mark.parametrize("kind", ["npy", "zarr", "array"])
    def test_one_file_says_nothing(self, tmp_path, kind):
        movie = frames(4)
        if kind == "npy":
            movie = tmp_path / "a.npy"
            np.save(movie, frames(4))
        elif kind == "zarr":
            xr.DataArray(movie, dims=("time", "y", "x"), name="m").to_zarr(
                tmp_path / "a.zarr", consolidated=False
            )
            movie = tmp_path / "a.zarr"
        with pytest.raises(ValueError, match="does not say of which files its frames are; give a"):
            xs2p.open_movie(movie, segments="files")
        with pytest.raises(ValueError, match="expected 'files', 'folders', 'gaps' or a label"):
            xs2p.open_movie(movie, segments="file")
        with pytest.raises(ValueError, match="a label for each of 4 frames, got .* shape .3"):
            xs2p.open_movie(movie, segments=[0, 0, 1])


OPS = {
    "frames_per_file": np.array([10, 2, 20]),
    "frames_per_folder": np.array([12, 20], "i4"),
    "filelist": ["C:/a/day1\\f0.tif", "C:/a/day1\\f1.tif", "C:/a/day2\\f0.tif"],
    "first_tiffs": np.array([True, False, True]),
}


class TestSuite2p:
    @pytest.mark.parametrize("parts", [False, True])  # one ops.npy, and as suite2p 1.x has it
    def test_files_and_folders(self, tmp_path, parts):
        folder = plane(tmp_path / "suite2p" / "plane0", 32, **OPS)
        if parts:
            (folder / "ops.npy").unlink()
            db = {"file_list": OPS["filelist"], "first_files": OPS["first_tiffs"], "Ly": LY}
            db |= {"frames_per_file": OPS["frames_per_file"], "Lx": LX, "nframes_per_folder": None}
            np.save(folder / "db.npy", {**db, "frames_per_folder": [12, 20]})
        opened = [
            xs2p.open_movie,
            lambda path, **how: xs2p.open_movie(path / "data.bin", **how),
            xs2p.read_suite2p,
        ]
        for opens in opened:
            found = opens(folder, segments="folders")
            assert starts(found) == [0, 12] and found.segment.attrs["names"] == ["day1", "day2"]
            found = opens(folder, segments="files")
            assert starts(found) == [0, 10, 12] and found.segment.attrs["names"][1].endswith(
                "f1.tif"
            )
            assert "segment" not in opens(folder).coords
            assert starts(opens(folder, segments=np.repeat([4, 2], 16))) == [0, 16]

    def test_what_is_not_said_or_does_not_add_up(self, tmp_path):
        folder = plane(tmp_path / "plane0", 32, frames_per_folder=np.array([12, 21]))
        for opens in (xs2p.open_movie, xs2p.read_suite2p):
            with pytest.raises(ValueError, match="has no frames_per_file; give a label"):
                opens(folder, segments="files")
            with pytest.raises(ValueError, match="2 folders of .* 33 frames together, .* are 32"):
                opens(folder, segments="folders")
        np.save(folder / "ops.npy", {"Ly": LY, "Lx": LX, "nframes_per_folder": np.array([32])})
        assert starts(xs2p.open_movie(folder, segments="folders")) == [0]

    def test_planes(self, tmp_path):
        bad = np.zeros(32, bool)
        bad[5] = True
        top = tmp_path / "suite2p"
        plane(top / "plane0", 33, frames_per_folder=[13, 20], badframes=np.append(bad, True))
        plane(top / "plane1", 32, frames_per_folder=[12, 20], badframes=np.roll(bad, 2))
        plane(top / "plane2", 32, frames_per_folder=[12, 20])
        for opens in (xs2p.open_movie, xs2p.read_suite2p):
            with pytest.warns(UserWarning, match="within a volume"):
                found = opens(top, segments="folders")
            assert np.flatnonzero(found.badframes).tolist() == [5, 7]
            assert "bad in any plane;" in found.badframes.attrs["description"]
            assert starts(found) == [0, 13]
        np.save(top / "plane2" / "ops.npy", {"Ly": LY, "Lx": LX, "frames_per_folder": [5, 27]})
        with pytest.warns(UserWarning, match="within a volume"):
            with pytest.raises(ValueError, match="begin up to 8 frames apart"):
                xs2p.open_movie(top, segments="folders")

    def test_bad_frames(self, tmp_path):
        bad = np.zeros(32, bool)
        bad[[3, 9]] = True
        folder = plane(tmp_path / "plane0", 32, badframes=bad)
        np.save(tmp_path / "bad_frames.npy", [1, 2])  # of the raw data: read where it is given
        for found in map(lambda f: f(folder), (xs2p.open_movie, xs2p.read_suite2p)):
            assert found.badframes.dtype == bool and found.badframes.dims == ("time",)
            np.testing.assert_array_equal(found.badframes, bad)
            assert "valid='badframes'" in found.badframes.attrs["description"]
            assert "valid" not in found.coords
        np.testing.assert_array_equal(xs2p.open_movie(folder / "data.bin").badframes, bad)
        ds = xs2p.open_movie(folder).s2p.extract(xs2p.read_rois(folder))
        np.testing.assert_array_equal(ds.badframes, bad)

    @pytest.mark.parametrize("wrong", [np.zeros(31, bool), np.full(32, 2), np.full(32, "x")])
    def test_bad_frames_that_are_not_of_the_movie(self, tmp_path, wrong):
        folder = plane(tmp_path / "plane0", 32, badframes=wrong)
        for opens in (xs2p.open_movie, xs2p.read_suite2p):
            with pytest.warns(
                UserWarning, match="expected True or False for each of 32 fr"
            ) as told:
                found = opens(folder)
            assert len(told) == 1 and "badframes" not in found.coords

    def test_version_1_says_bad_frames_beside(self, tmp_path):
        bad = np.arange(32) == 4
        folder = plane(tmp_path / "plane0", 32)
        np.save(folder / "reg_outputs.npy", {"badframes": bad})
        np.testing.assert_array_equal(xs2p.open_movie(folder).badframes, bad)
        np.testing.assert_array_equal(xs2p.read_suite2p(folder).badframes, bad)

    def test_written_back(self, tmp_path):
        bad = np.arange(32) % 10 == 4
        said = {"frames_per_folder": np.array([12, 20]), "badframes": bad}
        ds = xs2p.read_suite2p(plane(tmp_path / "plane0", 32, **said))

        def ops_of(some):
            xs2p.write_suite2p(some, tmp_path / "out", overwrite=True)
            return np.load(tmp_path / "out" / "ops.npy", allow_pickle=True).item()

        ops = ops_of(ds)
        assert ops["badframes"].tolist() == bad.tolist()
        assert ops["frames_per_folder"].tolist() == [12, 20]
        ops = ops_of(ds.isel(time=slice(20)))
        assert ops["badframes"].tolist() == bad[:20].tolist() and "frames_per_folder" not in ops
        assert "badframes" not in ops_of(ds.drop_vars("badframes").isel(time=slice(20)))

        # What counts goes before; frames that do not are NaN in spks, and zeros in a file.
        valid = np.arange(32) != 7
        used = ds.assign_coords(valid=("time", valid))
        used["spks"] = used.spks.where(used.valid)
        used["spks"][1] = np.nan  # an ROI without spikes
        for some in (used, used.chunk(time=10)):
            assert ops_of(some)["badframes"].tolist() == (~valid).tolist()
            spks = np.load(tmp_path / "out" / "spks.npy")
            np.testing.assert_array_equal(spks[0], np.where(valid, ds.spks[0], 0))
            assert not spks[1].any()
        used["spks"][0, 8] = np.nan
        with pytest.raises(ValueError, match="spks is NaN in 1 of 32 frames of roi 0"):
            ops_of(used)

    def test_frames_of_single_rois_are_told_to_be_lost(self, tmp_path, recwarn):
        top = tmp_path / "suite2p"
        for name in ("plane0", "plane1"):
            plane(top / name, 32)
        ds = xs2p.read_suite2p(top)
        valid = np.ones((4, 32), bool)
        valid[:2, 5] = False  # for none of a plane
        valid[0, 8:10] = False
        valid[3] = False  # nowhere
        ds = ds.assign_coords(valid=(("roi", "time"), valid))
        ds["spks"] = ds.spks.where(ds.valid)
        assert not recwarn.list
        for some in (ds, ds.chunk(roi=2, time=10)):
            xs2p.write_suite2p(some, tmp_path / "out", overwrite=True)
            told = [str(each.message) for each in recwarn.list]
            recwarn.clear()
            assert len(told) == 1, told
            assert (
                "2 of 4 ROIs have frames of their own" in told[0] and "as 0 where they" in told[0]
            )
            for n, bad in enumerate(([5], [])):
                folder = tmp_path / "out" / f"plane{n}"
                ops = np.load(folder / "ops.npy", allow_pickle=True).item()
                assert np.flatnonzero(ops["badframes"]).tolist() == bad
                of = slice(2 * n, 2 * n + 2)
                np.testing.assert_array_equal(np.load(folder / "F.npy"), ds.F[of])
                np.testing.assert_array_equal(np.load(folder / "spks.npy"), ds.spks[of].fillna(0))
        # Nothing is lost where all count alike.
        alike = np.tile(np.arange(32) != 7, (4, 1))
        xs2p.write_suite2p(
            ds.assign_coords(valid=(("roi", "time"), alike)).fillna(0), tmp_path / "out2"
        )
        assert not recwarn.list
        assert np.flatnonzero(xs2p.read_suite2p(tmp_path / "out2").badframes).tolist() == [7]

    def test_a_fall_names_itself(self, tmp_path):
        ds = xs2p.read_suite2p(plane(tmp_path / "plane0", 32, **OPS, badframes=np.arange(32) == 4))
        fall = tmp_path / "Fall.mat"
        xs2p.write_suite2p(ds, fall)
        back = xs2p.read_suite2p(fall, segments="folders")
        np.testing.assert_array_equal(back.badframes, ds.badframes)
        assert starts(back) == [0, 12] and back.segment.attrs["names"] == ["day1", "day2"]
        from scipy.io import loadmat, savemat

        held = {k: v for k, v in loadmat(fall).items() if not k.startswith("_")}
        savemat(fall, held | {key: held[key][:, :20] for key in ("F", "Fneu", "spks")})
        with pytest.warns(UserWarning, match=r"Fall.mat: badframes of its ops are 32"):
            xs2p.read_suite2p(fall)
