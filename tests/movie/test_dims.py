"""Axes that are said, that MATLAB turns round, or that are nobody's time."""

from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr

from xs2p import open_movie

SIZES = {"t": 6, "c": 2, "z": 3, "y": 4, "x": 5}


def stored(order):
    """Make an array of axes in this order, and what open_movie makes of it."""
    first = "".join(a for a in "cztyx" if a in order)
    frames = np.arange(np.prod([SIZES[a] for a in first]), dtype="i2").reshape(
        [SIZES[a] for a in first]
    )
    return np.ascontiguousarray(frames.transpose([first.index(a) for a in order])), frames


def write(tmp_path, kind, array):
    path = tmp_path / f"{array.ndim}.{kind}"
    if kind == "npy":
        np.save(path, array)
    elif kind == "f.npy":
        np.save(path, np.asfortranarray(array))
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("m", data=array, chunks=tuple(min(2, n) for n in array.shape))
    elif kind == "zarr":
        zarr.create_array(path, data=array)
    elif kind == "group.zarr":
        zarr.create_group(path).create_array("m", data=array)
    else:
        tifffile.imwrite(path, array, photometric="minisblack")
    return path


@pytest.mark.parametrize("kind", ["npy", "f.npy", "h5", "zarr", "group.zarr", "tif", "array"])
@pytest.mark.parametrize("order", ["tczyx", "tzyxc", "ztyx", "tcxy", "xyt", "cztyx"])
def test_any_order_that_is_said(tmp_path, kind, order):
    array, frames = stored(order)
    path = array if kind == "array" else write(tmp_path, kind, array)
    if kind == "tif" and set(order[-2:]) != {"y", "x"}:
        with pytest.raises(ValueError, match=r"\.tif is a TIFF.*yx or xy"):
            open_movie(path, dims=order)
        return
    movie = open_movie(path, dims=order, fs=10.0)
    names = {"c": "channel", "z": "plane"}
    assert movie.dims == (*(names[a] for a in "cz" if a in order), "time", "y", "x")
    np.testing.assert_array_equal(movie, frames)
    np.testing.assert_array_equal(movie.isel(time=slice(1, None, 2)), frames[..., 1::2, :, :])
    assert movie.time.values[-1] == 0.5


def test_axes_of_one_and_what_is_said_of_others(tmp_path):
    frames = np.arange(6 * 4 * 5, dtype="i2").reshape(6, 4, 5)
    for kind in ("npy", "h5", "zarr", "group.zarr"):
        path = write(tmp_path, kind, frames[:, None, :, :, None])  # as SIMA writes them
        np.testing.assert_array_equal(open_movie(path), frames)
        path = write(tmp_path, kind, np.stack([frames] * 2, 1))
        with pytest.raises(ValueError, match=r"4\.\w+.* shape \(6, 2, 4, 5\).*dims='tzyx'"):
            open_movie(path, planes=2) if kind in ("npy", "h5") else open_movie(path)
        assert open_movie(path, dims=["time", "channel", "y", "x"]).dims[0] == "channel"
        with pytest.raises(ValueError, match="dims='(tyx|tczyx)'"):
            open_movie(path, dims="tyx") if kind != "h5" else open_movie(
                path, dims="tyx", variable="m"
            )


@pytest.mark.parametrize("dims", ["tyy", "yx", "tqyx", "", 5, ["time", "y"]])
def test_dims_that_are_none(tmp_path, dims):
    path = write(tmp_path, "npy", np.zeros((6, 4, 5)))
    with pytest.raises(ValueError, match=r"dims=.*expected the axes.*dims='tczyx'"):
        open_movie(path, dims=dims)


def test_where_dims_have_no_meaning(tmp_path):
    (tmp_path / "m.bin").write_bytes(bytes(240))
    with pytest.raises(ValueError, match=r"dims='tyx'.*m\.bin.*order="):
        open_movie(tmp_path / "m.bin", shape=(4, 5), dims="tyx")
    path = write(tmp_path, "npy", np.zeros((6, 4, 5)))
    with pytest.raises(ValueError, match="leave order out"):
        open_movie(path, dims="tyx", order="time")
    with pytest.raises(ValueError, match="channels=3 disagrees"):
        open_movie(write(tmp_path, "npy", stored("tcyx")[0]), dims="tcyx", channels=3)


def test_pages_of_a_tiff_whose_axes_are_not_there(tmp_path):
    array, frames = stored("tczyx")
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, array.reshape(-1, 4, 5), photometric="minisblack", metadata=None)
    np.testing.assert_array_equal(open_movie(path, dims="tczyx", channels=2, planes=3), frames)
    with pytest.raises(ValueError, match="36 pages.*how many channels and planes"):
        open_movie(path, dims="tczyx")


@pytest.mark.parametrize("letter", "RPJKMVA")
def test_unknown_axes_of_a_tiff_are_never_time(tmp_path, letter):
    frames = np.arange(6 * 4 * 5, dtype="u2").reshape(6, 4, 5)
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, frames, photometric="minisblack", metadata={"axes": f"{letter}YX"})
    with pytest.raises(ValueError, match=rf"axes '{letter}YX'.*dims="):
        open_movie(path)
    np.testing.assert_array_equal(open_movie(path, dims="tyx"), frames)
    np.testing.assert_array_equal(open_movie(path, order="time"), frames)


def test_positions_of_ome_are_not_time(tmp_path):
    frames = np.arange(6 * 4 * 5, dtype="u2").reshape(6, 4, 5)
    with tifffile.TiffWriter(tmp_path / "m.ome.tif") as file:
        for frame in frames:  # six images of a page
            file.write(frame, photometric="minisblack", metadata={"axes": "YX"})
    with pytest.raises(ValueError, match="holds 6 series"):
        open_movie(tmp_path / "m.ome.tif")
    np.testing.assert_array_equal(open_movie(tmp_path / "m.ome.tif", order="time"), frames)


def matlab(path, **arrays):
    """Write arrays as MATLAB's save -v7.3 does: reversed, with its class, after a user block."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            item = file.create_dataset(name, data=array.T)
            item.attrs["MATLAB_class"] = np.bytes_(str(array.dtype).replace("float64", "double"))
        file.create_group("#refs#").create_dataset("a", data=np.zeros((3, 4, 5)))
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


@pytest.mark.parametrize("suffix", ["mat", "h5"])
def test_movies_of_matlab(tmp_path, suffix):
    frames = np.arange(6 * 4 * 5, dtype="i2").reshape(6, 4, 5)
    path = tmp_path / f"movie.{suffix}"
    matlab(path, Y=frames.transpose(1, 2, 0), fs=np.array([[30.0]]))
    movie = open_movie(path)
    assert movie.dims == ("time", "y", "x")
    np.testing.assert_array_equal(movie, frames)
    np.testing.assert_array_equal(open_movie(path, dims="tyx").transpose("time", "x", "y"), frames)
    with h5py.File(path, "r") as file:
        np.testing.assert_array_equal(open_movie(file["Y"]), frames)
    matlab(path, Y=frames.transpose(1, 2, 0)[:, :, None])  # y, x, 1, time
    np.testing.assert_array_equal(open_movie(path), frames)


@pytest.mark.parametrize("suffix", [".isxd", ".lsm", ".xyz"])
def test_formats_that_are_not_read_say_what_helps(tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    path.write_bytes(b"something")
    with pytest.raises(ValueError, match=r"suffix.*give open_movie\(frames\)") as said:
        open_movie(path)
    assert "rename the file" not in str(said.value)
    (tmp_path / "old.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(200))
    with pytest.raises(ValueError, match=r"old\.mat: no MAT-file .*-v7\.3"):
        open_movie(tmp_path / "old.mat")


def test_patterns_in_folders_with_brackets(tmp_path):
    frames = np.arange(6 * 4 * 5, dtype="i2").reshape(6, 4, 5)
    folder = tmp_path / "m12 [GCaMP]" / "day?"
    folder.mkdir(parents=True)
    for n in (2, 10):
        part = frames[:3] if n == 2 else frames[3:]
        tifffile.imwrite(folder / f"r[a]_{n}.tif", part, photometric="minisblack")
    for pattern in (folder / "*.tif", folder / "r[a]_*.tif", folder.parent / "*" / "*_*.tif"):
        np.testing.assert_array_equal(open_movie(pattern), frames)


def test_one_line_of_the_shell(tmp_path):
    """dims= on the command line; a file that cannot be read is one line, and code 2."""
    array, frames = stored("tcyx")
    path = write(tmp_path, "h5", array)
    rois = tmp_path / "labels.npy"
    np.save(rois, np.pad(np.ones((2, 2), int), ((1, 1), (1, 2))))
    call = [sys.executable, "-m", "xs2p.cli", "extract", str(path), str(rois)]
    bad = subprocess.run([*call, "o.zarr"], capture_output=True, text=True, cwd=tmp_path)
    assert bad.returncode == 2 and bad.stderr.count("\n") == 1 and "--dims" in bad.stderr
    assert "dims=" not in bad.stderr
    subprocess.run([*call, "o.zarr", "--dims", "tcyx", "--fs", "10", "-q"],
                   check=True, cwd=tmp_path)  # fmt: skip
    result = xr.open_zarr(tmp_path / "o.zarr")
    want = frames[:, :, 1:3, 1:3].mean((-1, -2))
    np.testing.assert_allclose(result.F.squeeze("roi").transpose("channel", "time"), want)


def ome_files(folder, here, n_times=6):
    """Write some of a recording's files of one page, which all name those of two channels."""
    names = {(c, t): f"r_Ch{c}_{t:03d}.ome.tif" for c in (1, 2) for t in range(n_times)}
    blocks = "".join(
        f'<TiffData FirstC="{c - 1}" FirstT="{t}" FirstZ="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:{c}{t:03d}</UUID></TiffData>'
        for (c, t), name in names.items()
    )
    frames = np.arange(2 * n_times * 20, dtype="u2").reshape(2, n_times, 4, 5)
    for c, t in here:
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/'
            f'Schemas/OME/2015-01" UUID="urn:uuid:{c}{t:03d}"><Image ID="Image:0"><Pixels '
            f'ID="Pixels:0" DimensionOrder="XYCZT" SizeC="2" SizeT="{n_times}" SizeX="5" SizeY="4" '
            f'SizeZ="1" Type="uint16">{blocks}</Pixels></Image></OME>'
        )
        tifffile.imwrite(
            folder / names[c, t], frames[c - 1, t], description=xml, metadata=None,
            photometric="minisblack",
        )  # fmt: skip
    return frames


def test_ome_files_of_one_channel_or_stopped(tmp_path, recwarn):
    both = [(c, t) for t in range(6) for c in (1, 2)]
    for name, here, channels, times, told in (
        ("all", both, [0, 1], 6, None),
        ("green", [(2, t) for t in range(6)], [1], 6, "12 frames, of which 6 are there: channel 2"),
        ("stopped", both[:7], [0, 1], 3, "the first 3 of 6 times; 1 more are left out"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        want = ome_files(folder, here)[channels, :times].squeeze()
        for path in (folder / "*.ome.tif", min(folder.iterdir())):
            recwarn.clear()
            np.testing.assert_array_equal(open_movie(path), want)
            assert [told in str(w.message) for w in recwarn] == [True] * (told is not None)
    # Of a recording that is whole, those that were asked for.
    recwarn.clear()
    np.testing.assert_array_equal(
        open_movie(tmp_path / "all" / "*Ch2*"), ome_files(tmp_path, [])[1]
    )
    assert not recwarn.list


def test_ome_files_that_lack_in_the_midst(tmp_path):
    frames = ome_files(tmp_path, [(2, t) for t in (0, 1, 3, 4, 5)])
    with pytest.raises(ValueError, match=r"r_Ch2_000.*times would be wrong.*order="):
        open_movie(tmp_path / "*.ome.tif")
    for path in (tmp_path / "*.ome.tif", tmp_path / "r_Ch2_000.ome.tif"):
        with pytest.warns(UserWarning, match="12 frames") as said:
            movie = open_movie(path, order="time")
        assert len(said) == 1
        np.testing.assert_array_equal(movie, frames[1, [0, 1, 3, 4, 5]])
