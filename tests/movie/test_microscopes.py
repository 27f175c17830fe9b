"""Files of Nikon, Leica, Zeiss and Olympus, against what their libraries read of them whole."""

from __future__ import annotations

import importlib.util
import pickle
import sys

import numpy as np
import pytest
from loaders import opened
from microscope_files import (
    lif_image,
    oif_files,
    write_czi,
    write_lif,
    write_nd2,
    write_oib,
    write_oif,
)

from xs2p.io import open_movie

nd2 = pytest.importorskip("nd2")
liffile = pytest.importorskip("liffile")
czifile = pytest.importorskip("czifile")
oiffile = pytest.importorskip("oiffile")

T, Z, C, LY, LX = 8, 3, 2, 12, 16
FORMATS = ("nd2", "lif", "czi", "oif", "oib")
SECONDS = 3.0 + np.arange(T) * 0.125  # measured, from some time on


@pytest.fixture
def volumes():
    """Counts (time, plane, channel, y, x), of which no two frames are alike."""
    return np.random.default_rng(0).integers(0, 4096, (T, Z, C, LY, LX)).astype("u2")


def blocks(volumes, **more):
    return [
        ({"C": c, "Z": z, "T": t} | more, volumes[t, z, c])
        for t, z, c in np.ndindex(volumes.shape[:3])
    ]


def write(folder, kind, volumes, seconds=SECONDS):
    path = folder / f"rec.{kind}"
    n, planes, channels = volumes.shape[:3]
    if kind == "nd2":
        frames = volumes.reshape(-1, *volumes.shape[2:])
        each = seconds[:, None] + np.arange(planes) * 0.01
        return write_nd2(path, frames, [("T", n), ("Z", planes)], times=each.ravel() * 1e3)
    if kind == "lif":
        each = np.repeat(seconds, planes * channels)
        return write_lif(path, lif_image("Series001", volumes, "TZCYX", stamps=each))
    if kind == "czi":
        return write_czi(path, blocks(volumes), times=seconds)
    files = oif_files(volumes, "TZCYX", seconds)
    return write_oif(path, *files) if kind == "oif" else write_oib(path, *files)


def whole(path):
    """The array (channel, plane, time, y, x) as the library of the format reads it."""
    kind = path.suffix[1:]
    if kind == "nd2":
        with nd2.ND2File(path) as file:
            array, axes = file.asarray(), "".join(file.sizes)
    elif kind == "lif":
        with liffile.LifFile(path) as file:
            array, axes = file.images[0].asarray(), "".join(file.images[0].dims)
    elif kind == "czi":
        with czifile.CziFile(str(path)) as file:
            array = file.asarray()
            axes = file.axes if hasattr(file, "axes") else "".join(file.scenes[0].dims)
    else:
        with oiffile.OifFile(path) as file:
            array, axes = file.asarray(), file.series[0].axes + "YX"
    kept = [i for i, letter in enumerate(axes) if letter in "CZTYX"]
    array = array.reshape([array.shape[i] for i in kept])
    axes = [axes[i] for i in kept]
    return np.transpose(array, [axes.index(letter) for letter in "CZTYX" if letter in axes])


@pytest.mark.parametrize("kind", FORMATS)
def test_every_pixel(tmp_path, volumes, kind):
    path = write(tmp_path, kind, volumes)
    expected = whole(path)
    np.testing.assert_array_equal(expected, volumes.transpose(2, 1, 0, 3, 4))
    movie = opened(path, chunks=3)
    assert movie.dims == ("channel", "plane", "time", "y", "x") and movie.dtype == np.uint16
    assert movie.chunks[:3] == ((1, 1), (1, 1, 1), (3, 3, 2))
    np.testing.assert_array_equal(movie, expected)
    np.testing.assert_array_equal(opened(path), expected)
    np.testing.assert_array_equal(movie[1, 2, 1:8:3, 2:5, 1:9], expected[1, 2, 1:8:3, 2:5, 1:9])
    assert movie.attrs["fs"] == pytest.approx(8)
    np.testing.assert_allclose(movie.time, np.arange(T) / 8, atol=1e-6)
    if kind in ("nd2", "lif", "czi"):
        assert f"{kind.upper()} file has" in movie.time.attrs["description"]
    sent = pickle.dumps(movie.data)
    assert len(sent) < 50_000
    path.rename(tmp_path / f"moved.{kind}")
    (tmp_path / f"moved.{kind}").rename(path)
    np.testing.assert_array_equal(pickle.loads(sent), expected)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_one_channel_and_plane(tmp_path, volumes, kind, dtype):
    frames = (volumes[:, :1, :1] % 256).astype(dtype)
    path = write(tmp_path, kind, frames)
    movie = opened(path, chunks=5, fs=8)
    assert movie.dims == ("time", "y", "x") and movie.dtype == dtype
    np.testing.assert_array_equal(movie, frames[:, 0, 0])
    np.testing.assert_array_equal(movie, whole(path).squeeze())
    with pytest.warns(UserWarning, match="fs=30 Hz is taken"):
        opened(path, fs=30) if kind in ("oif", "oib") else open_movie(path, fs=30)
    turns = open_movie(path, planes=2, order=("time", "plane"), fs=4)
    np.testing.assert_array_equal(turns[1], frames[1::2, 0, 0])
    with pytest.raises(ValueError, match="shape="):
        open_movie(path, shape=(LX, LY))
    with pytest.raises(ValueError, match="says its axes itself"):
        open_movie(path, dims="tyx")


@pytest.mark.parametrize("kind", FORMATS)
def test_several_files(tmp_path, volumes, kind):
    paths = []
    for i in range(2):
        (tmp_path / str(i)).mkdir()
        paths.append(write(tmp_path / str(i), kind, volumes[4 * i : 4 * i + 4], SECONDS[:4]))
    movie = opened(paths, chunks=3)
    np.testing.assert_array_equal(movie, volumes.transpose(2, 1, 0, 3, 4))
    assert movie.attrs["fs"] == pytest.approx(8) and movie.sizes["time"] == T


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("part", [0.03, 0.5, 0.9, "last"])
def test_cut(tmp_path, volumes, kind, part):
    """Told when it is opened, or when what is not there is read; never zeros."""
    path = write(tmp_path, kind, volumes)
    data = path.read_bytes()
    path.write_bytes(data[: -1 if part == "last" else int(len(data) * part)])
    try:
        movie = np.asarray(open_movie(path))
    except (ValueError, OSError) as error:
        assert f"rec.{kind}" in str(error)
    else:  # what is cut off was not needed: padding, settings of other things
        assert (kind, part) in (("czi", "last"), ("oif", 0.9))
        np.testing.assert_array_equal(movie, volumes.transpose(2, 1, 0, 3, 4))


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_none_or_has_changed(tmp_path, volumes, kind):
    path = write(tmp_path, kind, volumes)
    movie = opened(path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(OSError, match=rf"rec\.{kind}.*open it anew"):
        movie.compute()
    for text in (b"", b"what is no such file" * 50):
        path.write_bytes(text)
        with pytest.raises(ValueError, match=rf"rec\.{kind}"):
            open_movie(path)


@pytest.mark.parametrize(
    ("kind", "module"),
    [("nd2", "nd2"), ("lif", "liffile"), ("czi", "czifile"), ("oib", "oiffile")],
)
def test_without_its_library(tmp_path, volumes, kind, module, monkeypatch):
    path = write(tmp_path, kind, volumes)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"rec\.{kind}: read with {module}.*xs2p\[microscopes\]"):
        open_movie(path)


@pytest.mark.parametrize("kind", ["nd2", "lif", "czi"])
def test_one_of_several(tmp_path, volumes, kind):
    """Positions, images and scenes are picked by name, and never taken for times."""
    path = tmp_path / f"rec.{kind}"
    if kind == "nd2":
        names, shown = ["A1", "", "A1"], r"'A1:0' \(T 4, C 2, Y 12, X 16\), 'XYPos:1' .*'A1:2'"
        frames = volumes[:4].reshape(-1, C, LY, LX)
        write_nd2(path, frames, [("T", 4), ("P", names)], times=np.arange(12) * 50)
        parts = {"A1:0": 0, "XYPos:1": 1, "A1:2": 2}
    elif kind == "lif":
        shown = r"'day1/a' \(T 4, C 2, Y 12, X 16\), 'b' \("
        images = [lif_image(f"s{z}", volumes[:4, z], "TCYX", seconds=0.45) for z in range(Z)]
        write_lif(path, *images)
        parts, shown = {f"s{z}": z for z in range(Z)}, r"'s0' \(T 4, C 2, Y 12, X 16\), 's1' \("
    else:
        every = [b for z in range(Z) for b in blocks(volumes[:4, z : z + 1], S=z)]
        write_czi(path, every, times=np.arange(4) * 0.15)
        parts, shown = {f"S{z}": z for z in range(Z)}, r"'S0' \(T 4, Z 1, C 2, Y 12, X 16\), 'S1'"
    for name, place in parts.items():
        movie = opened(path, variable=name)
        assert movie.dims == ("channel", "time", "y", "x")
        np.testing.assert_array_equal(movie, volumes[:4, place].swapaxes(0, 1))
        assert movie.attrs["fs"] == pytest.approx(1 / 0.15)
    with pytest.raises(ValueError, match=rf"holds 3 \w+s: {shown}.*pick one with variable='"):
        open_movie(path)
    with pytest.raises(ValueError, match="holds no .* 'x', but '"):
        open_movie(path, variable="x")


def test_times_with_jitter_or_pauses(tmp_path, volumes):
    jitter = SECONDS + np.random.default_rng(1).uniform(-0.02, 0.02, T)
    movie = opened(write(tmp_path, "nd2", volumes, jitter))
    np.testing.assert_allclose(movie.time, jitter - jitter[0], atol=1e-9)
    assert movie.attrs["fs"] == pytest.approx((T - 1) / (jitter[-1] - jitter[0]))
    paused = SECONDS + 5.0 * (np.arange(T) > 3)
    for kind in ("nd2", "lif", "czi", "oif"):
        movie = opened(write(tmp_path, kind, volumes, paused))
        assert "fs" not in movie.attrs
        if kind != "oif":
            np.testing.assert_allclose(movie.time, paused - paused[0], atol=1e-3)
    back = np.concatenate([SECONDS[:4], SECONDS[:4]])
    for kind in ("nd2", "lif", "czi", "oif"):
        movie = opened(write(tmp_path, kind, volumes, back))
        assert "fs" not in movie.attrs and "time" not in movie.coords


class TestNd2:
    LOOPS = (("T", T), ("Z", Z))

    @pytest.mark.parametrize("how", [{"packed": True}, {"pad": 6}])
    def test_how_frames_are_kept(self, tmp_path, volumes, how):
        path = tmp_path / "rec.nd2"
        write_nd2(path, volumes.reshape(-1, C, LY, LX), self.LOOPS, **how)
        movie = opened(path, chunks=5)
        np.testing.assert_array_equal(movie, whole(path))
        np.testing.assert_array_equal(movie, volumes.transpose(2, 1, 0, 3, 4))
        assert "fs" not in movie.attrs  # the period asked for, 1 s, is not the measured one

    def test_recordings_that_were_stopped(self, tmp_path, volumes):
        path, frames = tmp_path / "rec.nd2", volumes.reshape(-1, C, LY, LX)
        write_nd2(path, frames, self.LOOPS, range(24), left_out=range(17, 24))
        assert not nd2.imread(path)[6].any()  # what the library makes of frames that are not there
        with pytest.warns(UserWarning, match="tell of 24 frames, and 17 are in it.*first 5 times"):
            movie = open_movie(path)
        np.testing.assert_array_equal(movie, volumes[:5].transpose(2, 1, 0, 3, 4))
        assert movie.attrs["fs"] == pytest.approx(1e3 / 3)
        for left_out in ((3,), range(2, 24), range(24)):
            write_nd2(path, frames, self.LOOPS, left_out=left_out)
            with pytest.raises(ValueError, match=r"rec\.nd2: (its metadata tell of 24|holds no)"):
                open_movie(path)

    def test_planes_before_times(self, tmp_path, volumes):
        path, frames = tmp_path / "rec.nd2", volumes.reshape(-1, C, LY, LX)
        write_nd2(path, frames, [("Z", T), ("T", Z)], range(24))
        movie = opened(path)
        np.testing.assert_array_equal(movie, whole(path))
        assert movie.sizes["plane"] == T and "fs" not in movie.attrs

    def test_more_frames_than_loops(self, tmp_path, volumes):
        path, frames = tmp_path / "rec.nd2", volumes.reshape(-1, C, LY, LX)
        write_nd2(path, frames, [])
        with pytest.raises(ValueError, match=r"tell of 1 frames, and 24 are in it.*order=\('time'"):
            open_movie(path)
        movie = opened(path, order=("time", "plane", "channel"), planes=Z, channels=C)
        np.testing.assert_array_equal(movie, volumes.transpose(2, 1, 0, 3, 4))

    def test_what_is_no_movie(self, tmp_path, volumes):
        path, frames = tmp_path / "rec.nd2", volumes.reshape(-1, C, LY, LX)
        write_nd2(path, np.repeat(frames[:, :1], 3, axis=1), self.LOOPS, colours=3)
        with pytest.raises(ValueError, match="3 components in 1 channels, expected grey"):
            open_movie(path)
        write_nd2(path, frames, [("U", T), ("Z", Z)])
        with pytest.raises(ValueError, match=r"rec\.nd2: it has axes 'UZCYX' with U .*nd2\.imread"):
            open_movie(path)
        write_nd2(path, frames, [("T", T), ("T", Z)])
        with pytest.raises(ValueError, match=r"it has axes 'TTCYX', expected frames over time"):
            open_movie(path)
        path.write_bytes(b"\x00\x00\x00\x0cjP  " + bytes(5000))
        with pytest.raises(ValueError, match="older kind"):
            open_movie(path)

    def test_the_map_tells_of_what_is_not_there(self, tmp_path, volumes):
        path = write(tmp_path, "nd2", volumes)
        data = path.read_bytes()
        at = data.rindex(b"ImageDataSeq|5!") + len(b"ImageDataSeq|5!")
        path.write_bytes(data[:at] + (10**9).to_bytes(8, "little") + data[at + 8 :])
        assert not nd2.imread(path)[1, 2].any()
        with pytest.raises(ValueError, match="frame 5 is not whole"):
            open_movie(path)


class TestLif:
    @pytest.mark.parametrize("letters", ["CZTYX", "ZTCYX", "TCZYX"])
    @pytest.mark.parametrize("dtype", ["u1", "f4"])
    def test_orders(self, tmp_path, volumes, letters, dtype):
        order = [*("TZCYX".index(letter) for letter in letters)]
        array = (volumes % 256).astype(dtype).transpose(order)
        path = write_lif(tmp_path / "rec.lif", lif_image("a", array, letters, seconds=0.7))
        movie = opened(path, chunks=3)
        np.testing.assert_array_equal(movie, whole(path))
        np.testing.assert_array_equal(movie, (volumes % 256).transpose(2, 1, 0, 3, 4))
        assert movie.dtype == dtype and movie.attrs["fs"] == pytest.approx(10)

    def test_stamps_of_other_frames(self, tmp_path, volumes):
        """Stamps that are not a number for each time, or of planes before times, are not taken."""
        for letters, stamps in (("TZCYX", np.arange(7)), ("CZTYX", np.arange(24))):
            array = volumes.transpose(["TZCYX".index(letter) for letter in letters])
            image = lif_image("a", array, letters, stamps=stamps, seconds=0.7)
            movie = opened(write_lif(tmp_path / "rec.lif", image))
            assert movie.attrs["fs"] == pytest.approx(10)

    def test_what_is_no_movie(self, tmp_path, volumes):
        path = tmp_path / "rec.lif"
        write_lif(path, lif_image("a", volumes[:, 0].transpose(0, 2, 3, 1), "TYXS"))
        with pytest.raises(ValueError, match=r"'a' has pixels 4 bytes .* not colours"):
            open_movie(path)
        write_lif(path, lif_image("a", volumes[:, :, 0], "MTYX"))
        with pytest.raises(ValueError, match=r"it has axes 'MTYX' with M \(tiles of a mosaic\)"):
            open_movie(path)
        write_lif(path, lif_image("a", volumes[:, 0, 0], "TZX"))
        with pytest.raises(ValueError, match=r"'a' has the axes 'TZX', expected frames"):
            open_movie(path)
        write_lif(path)
        with pytest.raises(ValueError, match="holds no image"):
            open_movie(path)
        image = lif_image("a", volumes[:, :, 0], "TZYX")
        write_lif(path, (*image[:2], image[2][:-10]))
        with pytest.raises(ValueError, match="needs 9216 bytes, and its block of memory has 9206"):
            open_movie(path)


class TestCzi:
    @staticmethod
    def zstd(kind):
        def pack(array):
            from numcodecs.zstd import compress

            data = array.tobytes()
            if kind == 5:
                return 5, compress(data)
            if kind == 6:
                return 6, b"\x01" + compress(data)
            return 6, b"\x03\x01\x01" + compress(
                array.reshape(-1).view("u1").reshape(-1, 2).T.tobytes()
            )

        return pack

    @pytest.mark.parametrize("kind", [5, 6, "low bytes first"])
    def test_zstandard(self, tmp_path, volumes, kind):
        path = write_czi(tmp_path / "rec.czi", blocks(volumes), pack=self.zstd(kind))
        movie = opened(path, chunks=3)
        np.testing.assert_array_equal(movie, volumes.transpose(2, 1, 0, 3, 4))

    def test_other_compression(self, tmp_path, volumes):
        path = tmp_path / "rec.czi"
        write_czi(path, blocks(volumes), pack=lambda array: (9, array.tobytes()))
        with pytest.raises(ValueError, match=r"compressed \(as kind 9\).*uncompressed in ZEN"):
            open_movie(path)
        if importlib.util.find_spec("imagecodecs"):
            from imagecodecs import jpegxr_encode

            write_czi(
                path, blocks(volumes), pack=lambda array: (4, jpegxr_encode(array, level=1.0))
            )
            movie = opened(path)
            np.testing.assert_array_equal(movie, volumes.transpose(2, 1, 0, 3, 4))
        else:
            write_czi(path, blocks(volumes), pack=lambda array: (4, array.tobytes()))
            with pytest.raises(ImportError, match=r"\(JPEG XR\), which needs imagecodecs: pip"):
                open_movie(path)

    def test_smaller_copies(self, tmp_path, volumes):
        small = [
            ({"C": 0, "Z": 0, "T": t, "scale": 2}, volumes[t, 0, 0, ::2, ::2]) for t in range(T)
        ]
        path = write_czi(tmp_path / "rec.czi", [*small, *blocks(volumes, M=0, B=0)])
        np.testing.assert_array_equal(opened(path), volumes.transpose(2, 1, 0, 3, 4))

    def test_recordings_that_were_stopped(self, tmp_path, volumes):
        path = tmp_path / "rec.czi"
        write_czi(path, blocks(volumes)[:-3], times=SECONDS)
        with pytest.warns(UserWarning, match="its last time has 3 frames of 6"):
            movie = open_movie(path)
        np.testing.assert_array_equal(movie, volumes[:-1].transpose(2, 1, 0, 3, 4))
        assert movie.attrs["fs"] == pytest.approx(8)
        write_czi(path, blocks(volumes)[1:])
        with pytest.raises(ValueError, match="47 frames, expected 48 for T 8, Z 3, C 2"):
            open_movie(path)
        write_czi(path, blocks(volumes), directory=False)
        with pytest.raises(ValueError, match="the recording was not ended"):
            open_movie(path)

    def test_what_is_no_movie(self, tmp_path, volumes):
        path = tmp_path / "rec.czi"
        tiles = [b for m in range(2) for b in blocks(volumes, M=m)]
        write_czi(path, tiles)
        with pytest.raises(ValueError, match=r"96 blocks at 48 places, in 2 tiles of a mosaic"):
            open_movie(path)
        write_czi(path, [b for h in range(2) for b in blocks(volumes, H=h)])
        with pytest.raises(ValueError, match=r"it has axes 'HTZCYX' with H \(phases"):
            open_movie(path)
        write_czi(path, [({"T": t}, np.zeros((LY, LX, 3), "u1")) for t in range(T)])
        with pytest.raises(ValueError, match="colours, expected grey"):
            open_movie(path)
        write_czi(path, [*blocks(volumes), ({"T": 9}, np.zeros((LX, LY), "u2"))])
        with pytest.raises(ValueError, match=r"blocks of \(16, 12\) <u2 and of \(12, 16\) <u2"):
            open_movie(path)

    def test_times_that_may_be_dates(self, tmp_path, volumes):
        movie = opened(write(tmp_path, "czi", volumes, 45_000 + np.arange(T) * 1e-6))
        assert "fs" not in movie.attrs and "time" not in movie.coords


class TestOif:
    def test_files_that_are_missing(self, tmp_path, volumes):
        path, folder = write(tmp_path, "oif", volumes), tmp_path / "rec.oif.files"
        (folder / "s_C002Z003T008.tif").unlink()
        with pytest.warns(UserWarning, match="its last time has 5 frames of 6"):
            movie = open_movie(path)
        np.testing.assert_array_equal(movie, volumes[:-1].transpose(2, 1, 0, 3, 4))
        for file in folder.glob("*T008.tif"):
            file.unlink()
        with pytest.warns(UserWarning, match="it tells of 8 times, and TIFFs of 7 are here"):
            movie = open_movie(path)
        np.testing.assert_array_equal(movie, volumes[:-1].transpose(2, 1, 0, 3, 4))
        for file in folder.glob("*T007.tif"):
            file.unlink()
        with pytest.raises(OSError, match="added or are gone since it was opened; open it anew"):
            movie.compute()
        (folder / "s_C001Z001T004.tif").unlink()
        with pytest.raises(ValueError, match="has 35 frames, expected 36 for T 6, Z 3, C 2"):
            open_movie(path)
        for file in folder.glob("s_C002*.tif"):
            file.unlink()
        for file in folder.glob("*T004.tif"):
            file.unlink()
        with pytest.raises(ValueError, match=r"tells of \{'C': 2.*some are lost"):
            open_movie(path)
        folder.rename(tmp_path / "elsewhere")
        with pytest.raises(FileNotFoundError, match=r"rec\.oif\.files', is not beside it; put it"):
            open_movie(path)

    def test_a_frame_that_is_cut(self, tmp_path, volumes):
        path = write(tmp_path, "oif", volumes)
        frame = tmp_path / "rec.oif.files" / "s_C001Z001T004.tif"
        frame.write_bytes(frame.read_bytes()[:-9])
        movie = opened(path, chunks=3)
        with pytest.raises(OSError, match=r"rec\.oif: the chunk with frames"):
            movie[0, 0].compute()
        np.testing.assert_array_equal(movie[1, 1], volumes[:, 1, 1])

    def test_what_is_no_movie(self, tmp_path, volumes):
        path = tmp_path / "rec.oif"
        write_oif(path, *oif_files(volumes[:, 0], "TCYX", order="XTC"))
        with pytest.raises(ValueError, match=r"it has the axes 'CTX', expected frames YX"):
            open_movie(path)
        path = write_oif(tmp_path / "other.oif", *oif_files(volumes[:, 0], "LCYX"))
        with pytest.raises(ValueError, match=r"it has axes 'LCYX' with L"):
            open_movie(path)
        with pytest.raises(ValueError, match=r"variable='a' .*other\.oif holds one movie only"):
            open_movie(path, variable="a")
