"""Videos of Miniscopes, as PyAV writes them."""

from __future__ import annotations

import numpy as np
import pytest
from loaders import opened

from xs2p.io import open_movie

av = pytest.importorskip("av")
LY, LX = 16, 24


def write(path, frames, codec="ffv1", pix_fmt="gray", rate=20, **options):
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pix_fmt
        given = "gray16le" if frames.dtype == np.uint16 else "gray"
        for image in frames:
            if pix_fmt in ("bgr24", "bgr0"):
                frame = av.VideoFrame.from_ndarray(np.stack([image] * 3, -1), format="bgr24")
            else:
                frame = av.VideoFrame.from_ndarray(image, format=given)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


@pytest.fixture
def grey():
    return np.random.default_rng(0).integers(0, 256, (23, LY, LX)).astype("u1")


@pytest.mark.parametrize("suffix", ["avi", "mkv"])
@pytest.mark.parametrize(("codec", "pix_fmt"), [("ffv1", "gray"), ("rawvideo", "bgr24")])
def test_without_loss(tmp_path, grey, suffix, codec, pix_fmt):
    if (suffix, codec) == ("mkv", "rawvideo"):
        pix_fmt, codec = "bgr0", "ffv1"
    path = write(tmp_path / f"0.{suffix}", grey, codec, pix_fmt)
    movie = opened(path, chunks=5, fs=30)
    assert movie.dims == ("time", "y", "x") and movie.dtype == np.uint8
    assert movie.chunks[0] == (5, 5, 5, 5, 3) and movie.attrs["fs"] == 30
    assert "fs" not in opened(path).attrs  # what a video is played with is no frame rate
    np.testing.assert_array_equal(movie, grey)
    np.testing.assert_array_equal(movie[3:20:4, 2:5], grey[3:20:4, 2:5])


def test_key_frames_are_few(tmp_path):
    ramp = np.add.outer(np.arange(40) * 5, np.zeros((LY, LX), int)).astype("u1")
    path = write(tmp_path / "a.mkv", ramp, "mpeg4", "yuv420p", g="12", bf="2")
    with av.open(str(path)) as file:
        packets = [p.is_keyframe for p in file.demux(video=0) if p.size]
    with av.open(str(path)) as file:
        in_order = np.stack([frame.to_ndarray(format="gray") for frame in file.decode(video=0)])
    assert packets.count(True) < 20 and len(in_order) == 40
    movie = opened(path, chunks=7)
    np.testing.assert_array_equal(movie, in_order)
    np.testing.assert_array_equal(movie[5::9], in_order[5::9])


def test_sixteen_bits(tmp_path, grey):
    deep = grey.astype("u2") * 200
    movie = opened(write(tmp_path / "a.mkv", deep, "ffv1", "gray16le"))
    assert movie.dtype == np.uint16
    np.testing.assert_array_equal(movie, deep)


def test_videos_of_one_recording(tmp_path, grey):
    for i, part in enumerate((grey[:10], grey[10:20], grey[20:])):
        write(tmp_path / f"{i + 8}.avi", part)
    movie = opened(tmp_path / "*.avi")
    np.testing.assert_array_equal(movie, grey)


def test_what_is_no_grey_video(tmp_path, grey):
    (tmp_path / "a.avi").write_bytes(b"RIFF" + bytes(50))
    with pytest.raises(ValueError, match="no video can be read"):
        open_movie(tmp_path / "a.avi")
    with av.open(str(tmp_path / "b.avi"), "w") as file:
        stream = file.add_stream("rawvideo", rate=20)
        stream.width, stream.height, stream.pix_fmt = LX, LY, "bgr24"
        colours = np.random.default_rng(0).integers(0, 256, (LY, LX, 3)).astype("u1")
        file.mux(stream.encode(av.VideoFrame.from_ndarray(colours, format="bgr24")))
    with pytest.raises(ValueError, match="are of colours"):
        open_movie(tmp_path / "b.avi")


@pytest.mark.parametrize("suffix", ["avi", "mkv"])
def test_checksums_of_ffv1_are_compared(tmp_path, grey, suffix):
    """FFmpeg conceals what is damaged by the frame before, and does not tell."""
    path = write(tmp_path / f"a.{suffix}", grey, level="3", slicecrc="1")
    with av.open(str(path)) as file:
        places = [(p.pos, p.size) for p in file.demux(video=0) if p.size]
        settings = file.streams.video[0].codec_context.extradata
    data = path.read_bytes()
    for t, (at, size) in list(enumerate(places))[1::5]:
        damaged = bytearray(data)
        damaged[at + size // 2] ^= 4
        path.write_bytes(damaged)
        movie = opened(path, chunks=1)
        np.testing.assert_array_equal(movie[t - 1], grey[t - 1])
        with pytest.raises(OSError, match=rf"a\.{suffix}.*frames {t} to .*checksum of FFV1"):
            movie[t].compute()
    path.write_bytes(data.replace(settings[:8], bytes(8), 1))
    with pytest.raises(ValueError, match=rf"a\.{suffix}: "):
        open_movie(path)


@pytest.mark.parametrize("options", [{"level": "1"}, {"level": "3", "slicecrc": "0"}])
def test_ffv1_without_checksums_is_read_too(tmp_path, grey, options):
    path = write(tmp_path / "a.avi", grey, **options)
    np.testing.assert_array_equal(opened(path), grey)


def test_a_cluster_of_matroska_that_is_lost(tmp_path, grey):
    path = write(tmp_path / "a.mkv", grey, level="3", slicecrc="1", cluster_time_limit="300")
    data = path.read_bytes()
    assert opened(path).sizes["time"] == len(grey)
    with av.open(str(path)) as file:
        at = [p.pos for p in file.demux(video=0) if p.size][-1] - 3
    assert data[at] == 0xA3  # a frame; what is of no known kind is passed over
    path.write_bytes(data[:at] + b"\xec" + data[at + 1 :])
    with pytest.raises(ValueError, match=r"a\.mkv: it tells of 23 frames, and 22 are in it"):
        open_movie(path)
