"""Each picture of the gallery is made by the lines that stand under it."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_lines_make_the_pictures(tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot")
    spec = importlib.util.spec_from_file_location("xs2p_gallery", ROOT / "docs" / "gallery.py")
    gallery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gallery)
    gallery.write(tmp_path)
    page = (tmp_path / "gallery.md").read_text(encoding="utf-8")
    for picture in gallery.PICTURES:
        assert picture.code in page
        drawn = plt.imread(tmp_path / f"gallery-{picture.name}.png")
        assert drawn[..., :3].std() > 0.01, picture.name
    with pytest.raises(RuntimeError, match="make no figure"):
        gallery.draw(gallery.Picture("none", "", "", "1"), {}, tmp_path / "none.png")
