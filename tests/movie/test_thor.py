"""Folders of ThorImage LS: raw files and Experiment.xml, as public examples have them."""

from __future__ import annotations

import logging
import pickle

import numpy as np
import pytest
from loaders import opened

from xs2p.io import open_movie

LY, LX = 12, 16
LETTERS = "ABCD"


def elements(stacked, **changed):
    """Elements of the XML file of a recording (time, plane, channel, y, x), as 3.2 has them."""
    n, planes, channels = stacked.shape[:3]
    xml = {
        "Camera": {"name": "None", "width": 1392, "height": 1040},
        "LSM": {"pixelX": stacked.shape[4], "pixelY": stacked.shape[3], "frameRate": "30.12"}
        | {"averageMode": 0, "averageNum": 4},
        "ZStage": {"name": "ThorZPiezo", "steps": planes, "enable": 1},
        "Streaming": {"enable": 1, "frames": n * planes, "rawData": 1}
        | {"zFastEnable": int(planes > 1), "flybackFrames": 0, "stimulusTriggering": 0},
        "CaptureMode": {"mode": 1},
        "Modality": {"name": "Multiphoton GR", "primaryDetectorType": 1},
        "RawData": {"onlyEnabledChannels": 1},
        "Wavelengths": {"names": [f"Chan{c}" for c in LETTERS[:channels]]}
        | {"Set": 2**channels - 1},
    }
    for name, attributes in changed.items():
        if attributes is None:
            del xml[name]
        else:
            xml[name] = xml[name] | attributes
    return xml


def write(folder, stacked, file="Image_0001_0001.raw", **changed):
    folder.mkdir(exist_ok=True)
    out = ['<?xml version="1.0"?>', "<ThorImageExperiment>", '<Name name="Untitled_002" />']
    for name, attributes in elements(stacked, **changed).items():
        if name == "Wavelengths":
            out.append('<Wavelengths nyquistExWavelengthNM="488">')
            out += [f'<Wavelength name="{n}" exposureTimeMS="0" />' for n in attributes["names"]]
            out += [f'<ChannelEnable Set="{attributes["Set"]}" />', "</Wavelengths>"]
        else:
            said = " ".join(f'{key}="{value}"' for key, value in attributes.items())
            out.append(f"<{name} {said} />")
    (folder / "Experiment.xml").write_text("\n".join([*out, "</ThorImageExperiment>"]))
    stacked.astype("<u2").tofile(folder / file)
    np.zeros((LY, LX), "u1").tofile(folder / "ROIMask.raw")
    return folder


def recorded(n, planes=1, channels=1):
    """(time, plane, channel, y, x)"""
    shape = (n, planes, channels, LY, LX)
    return np.random.default_rng(n).integers(0, 2**16, shape).astype("u2")


@pytest.mark.parametrize("file", ["Image_0001_0001.raw", "Image_001_001.raw"])
def test_one_plane(tmp_path, file):
    stacked = recorded(32)
    folder = write(tmp_path / "rec", stacked, file)
    for path in (folder, folder / file, folder / "Experiment.xml"):
        movie = opened(path, chunks=10)
        assert movie.dims == ("time", "y", "x") and movie.dtype == np.uint16
        assert movie.chunks[0] == (10, 10, 10, 2)
        np.testing.assert_array_equal(movie, stacked[:, 0, 0])
        assert movie.attrs["fs"] == 30.12
        np.testing.assert_allclose(movie.time, np.arange(32) / 30.12)
    assert opened(folder, shape=(LY, LX), dtype="u2", channels=1, fs=30.12).shape == (32, LY, LX)


def test_planes_channels_and_fly_back(tmp_path):
    stacked = recorded(6, planes=5, channels=2)
    changed = {"ZStage": {"steps": 3}, "Streaming": {"flybackFrames": 2}}
    averaged = {"averageMode": 1, "averageNum": 4}
    folder = write(tmp_path / "rec", stacked, LSM=averaged, **changed)
    movie = opened(folder)
    assert movie.dims == ("channel", "plane", "time", "y", "x")
    np.testing.assert_array_equal(movie, stacked[:, :3].transpose(2, 1, 0, 3, 4))
    assert movie.channel.values.tolist() == [1, 2]
    assert movie.attrs["fs"] == pytest.approx(30.12 / 4 / 5)
    np.testing.assert_array_equal(movie.sel(channel=2, plane=1)[2:4], stacked[2:4, 1, 1])
    assert opened(folder, planes=5).sizes["plane"] == 5
    with pytest.raises(ValueError, match=r"planes=4 disagrees.* 3 planes and 2 of fly-back"):
        open_movie(folder, planes=4)
    given = {"order": ("time", "channel"), "channels": 10}
    np.testing.assert_array_equal(opened(folder, **given)[7], stacked[:, 3, 1])


def test_flyback_without_fast_z_is_none(tmp_path):
    stacked = recorded(9)
    changed = {"ZStage": {"steps": 3}, "Streaming": {"flybackFrames": 1, "zFastEnable": 0}}
    np.testing.assert_array_equal(
        opened(write(tmp_path / "a", stacked, **changed)), stacked[:, 0, 0]
    )
    changed["Streaming"] = {"flybackFrames": 1, "zFastEnable": 1}
    changed["ZStage"] = {"steps": 1}
    with pytest.raises(ValueError, match=r"1 planes \(steps\) and 1 frames of fly-back"):
        open_movie(write(tmp_path / "b", stacked, **changed))
    assert opened(tmp_path / "b", order="time").sizes["time"] == 9


@pytest.mark.parametrize("on", ["A", "AC", "BCD", "ABCD"])
def test_all_four_channels_are_stored(tmp_path, on):
    stacked = recorded(8, channels=4)
    places = [LETTERS.index(c) for c in on]
    waves = {"names": [f"Chan{c}" for c in on], "Set": sum(2**p for p in places)}
    raw = {"RawData": {"onlyEnabledChannels": 0}}
    movie = opened(write(tmp_path / "rec", stacked, Wavelengths=waves, **raw), chunks=3)
    wanted = stacked[:, 0, places].swapaxes(0, 1)
    np.testing.assert_array_equal(movie, wanted if len(on) > 1 else wanted[0])
    if len(on) > 1:
        assert movie.channel.values.tolist() == [place + 1 for place in places]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(movie)), movie)


def test_channels_that_are_listed_and_off(tmp_path):
    stacked = recorded(8, channels=1)
    waves = {"names": ["ChanA", "ChanB"], "Set": 2}
    np.testing.assert_array_equal(
        opened(write(tmp_path / "a", stacked, Wavelengths=waves)), stacked[:, 0, 0]
    )
    with pytest.raises(ValueError, match=r"Set=7, which turns on 3 channels, and .* ChanA, ChanB"):
        open_movie(write(tmp_path / "b", stacked, Wavelengths={**waves, "Set": 7}))


def test_number_of_channels_by_the_size_of_the_file(tmp_path):
    stacked = recorded(8, channels=2)
    folder = write(tmp_path / "a", stacked, RawData=None)
    np.testing.assert_array_equal(opened(folder), stacked[:, 0].swapaxes(0, 1))
    write(folder, stacked, RawData=None, Streaming={"frames": 100})
    with pytest.raises(ValueError, match=r"these channels or all 4 is not clear"):
        open_movie(folder)
    with pytest.warns(UserWarning, match="tells of 100 frames, and 8 are here"):
        movie = open_movie(folder, channels=2)
    np.testing.assert_array_equal(movie, stacked[:, 0].swapaxes(0, 1))
    # Only those that were on, it says, and has as many frames as of all four.
    folder = write(
        tmp_path / "b", recorded(8, channels=4), Wavelengths={"names": ["ChanA"], "Set": 1}
    )
    with pytest.raises(ValueError, match=r"1 channels were on, and 32 frames .* would fit 4"):
        open_movie(folder)


def test_a_camera(tmp_path):
    stacked = recorded(7)
    camera = {"name": "ORCA", "width": LX, "height": LY}
    sizes = {"LSM": {"pixelX": 512, "pixelY": 512}, "Camera": camera}
    folder = write(tmp_path / "a", stacked, Modality={"primaryDetectorType": 0}, **sizes)
    movie = opened(folder)
    np.testing.assert_array_equal(movie, stacked[:, 0, 0])
    assert "fs" not in movie.attrs  # frameRate is the scanner's
    write(folder, stacked, Modality=None, **sizes)
    with pytest.raises(
        ValueError, match=r"\(512, 512\) \(LSM .*\(12, 16\) \(Camera .* give it: shape"
    ):
        open_movie(folder)
    np.testing.assert_array_equal(opened(folder, shape=(LY, LX)), stacked[:, 0, 0])


def test_what_was_cut(tmp_path):
    stacked = recorded(6, planes=3, channels=2)
    folder = write(tmp_path / "rec", stacked, Streaming={"flybackFrames": 1}, ZStage={"steps": 2})
    path = folder / "Image_0001_0001.raw"
    whole = path.read_bytes()
    path.write_bytes(whole[: -3 * LY * LX * 2])  # in the last volume
    with pytest.warns(UserWarning, match="ends before all of its") as caught:
        movie = open_movie(folder)
    assert len(caught) == 1
    np.testing.assert_array_equal(movie, stacked[:5, :2].transpose(2, 1, 0, 3, 4))
    path.write_bytes(whole[: -6 * LY * LX * 2])  # a whole volume
    with pytest.warns(UserWarning, match=r"Experiment.xml tells of 18 frames, and 15 are here"):
        movie = open_movie(folder)
    np.testing.assert_array_equal(movie, stacked[:5, :2].transpose(2, 1, 0, 3, 4))
    for part in (whole[:-5], b""):
        path.write_bytes(part)
        with pytest.raises(ValueError, match=r"Image_0001_0001.raw: \d+ bytes are not .* was cut"):
            open_movie(folder)


def test_several_files(tmp_path):
    stacked = recorded(12)
    folder = write(tmp_path / "rec", stacked, "Image_001_002.raw")
    names = [folder / f"Image_001_{i}.raw" for i in ("002", "010")]
    for name, part in zip(names, (stacked[:5], stacked[5:]), strict=True):
        part.astype("<u2").tofile(name)
    np.testing.assert_array_equal(opened(folder), stacked[:, 0, 0])
    stacked.astype("<u2").tofile(names[1])
    with pytest.raises(ValueError, match=r"2 .raw files, Image_001_002.raw, Image_001_010.raw"):
        open_movie(folder)
    np.testing.assert_array_equal(opened(names[1]), stacked[:, 0, 0])


def test_what_the_user_says_against_the_file(tmp_path):
    folder = write(tmp_path / "rec", recorded(4))
    with pytest.raises(
        ValueError, match=r"shape=\(16, 12\) disagrees .*Experiment.xml.* \(12, 16\)"
    ):
        open_movie(folder, shape=(LX, LY))
    with pytest.raises(ValueError, match=r"dtype=int16 disagrees .*Experiment.xml.* uint16"):
        open_movie(folder / "Image_0001_0001.raw", dtype="i2")
    with pytest.raises(ValueError, match=r"channels=2 disagrees"):
        open_movie(folder, channels=2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"CaptureMode": {"mode": 0}}, "mode=0, a Z and time series"),
        ({"CaptureMode": {"mode": 3}}, "mode=3, hyperspectral"),
        ({"LSM": {"NumberOfPlanes": 2}}, "several beams"),
        ({"LSM": {"pixelX": "wide"}}, "pixelX='wide', expected a whole number"),
        ({"LSM": {"pixelX": 0}}, "of no size"),
        ({"Wavelengths": {"names": []}}, "names no channel"),
    ],
)
def test_what_is_not_known(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message) as caught:
        open_movie(write(tmp_path / "rec", recorded(4), **changed))
    assert "Experiment.xml" in str(caught.value) or str(tmp_path) in str(caught.value)


def test_rates_that_are_not_known(tmp_path, caplog):
    folder = write(tmp_path / "rec", recorded(4), Streaming={"stimulusTriggering": 1})
    with caplog.at_level(logging.INFO, "xs2p"):
        assert "fs" not in open_movie(folder).attrs
    assert "stimulusTriggering" in caplog.text
    for rate in ("", "0", "nan"):
        movie = open_movie(write(folder, recorded(4), LSM={"frameRate": rate}))
        assert "fs" not in movie.attrs and "time" not in movie.coords


def test_what_is_not_there(tmp_path):
    stacked = recorded(4)
    folder = write(tmp_path / "rec", stacked)
    raw = folder / "Image_0001_0001.raw"
    raw.rename(tmp_path / "alone.raw")
    with pytest.raises(FileNotFoundError, match="lies no Image_001_001.raw; put it back"):
        open_movie(folder)
    (folder / "ChanA_001_001_001_001.tif").touch()
    with pytest.raises(FileNotFoundError, match=r"1 TIFF files .*ChanA_\*\.tif"):
        open_movie(folder)
    # Without Experiment.xml, and of another program's, a raw file is what it was.
    with pytest.raises(ValueError, match="does not say the size of its frames"):
        open_movie(tmp_path / "alone.raw")
    (tmp_path / "Experiment.xml").write_text("<Experiment />")
    np.testing.assert_array_equal(
        opened(tmp_path / "alone.raw", shape=(LY, LX), dtype="u2"), stacked[:, 0, 0]
    )
    assert opened(folder / "ROIMask.raw", shape=(LY, LX), dtype="u1").sizes["time"] == 1
    (folder / "Experiment.xml").write_text("<ThorImageExperiment><LSM")
    (tmp_path / "alone.raw").rename(raw)
    with pytest.raises(ValueError, match="no XML file can be read"):
        open_movie(folder)
