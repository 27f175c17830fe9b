"""Sphinx: the reference from the docstrings, README, the pages beside this file, notebooks.

    pip install -e ".[docs,notebooks]"
    mkdir -p /tmp/ran
    jupyter execute notebooks/*.ipynb --output="/tmp/ran/{notebook_name}.ipynb"
    XS2P_NOTEBOOKS=/tmp/ran sphinx-build -W --keep-going docs docs/_build

Needs no network. Without the lines between, and ``XS2P_NOTEBOOKS``, the notebooks are shown as
they are committed: without pictures.
"""

import importlib
import os
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parent / "notebooks"
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))

from sphinx.util.nodes import make_refnode  # noqa: E402

import xs2p  # noqa: E402

project = "xs2p"
author = "the xs2p developers"
copyright = "the xs2p developers"
release = version = xs2p.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_nb"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"xs2p {release}"
html_copy_source = False
pygments_style = "friendly"

autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # attributes that are described again as members have one entry
default_role = "obj"

# Every reference must resolve but for those to other packages, which would need the network, the
# types of parameters, where numpydoc has words such as "optional", and types that are not public.
nitpicky = True
nitpick_ignore_regex = [
    ("py:class", r"(?!xs2p\.[a-z]).+"),
    ("py:class", r"xs2p\.(masks\.layout\.Layout|masks\.packing\.MaskArrays)"),
    ("py:class", r"xs2p\.(compute\.progress\.T|pipeline\.(concat|segment)\.Recording)"),
    ("py:class", r"xs2p\.io\.analysis\.Cascade"),
    ("py:(obj|func|meth|mod)", r"(?!xs2p\.)\w+\..+"),
]

nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3


def find_by_last_name(app, env, node, shown):
    """Let docstrings say `read_rois` for xs2p.read_rois, wherever they stand."""
    python = env.domains["py"]
    found = [n for n in python.objects if n.rsplit(".")[-1] == node.get("reftarget")]
    if node.get("refdomain") == "py" and len(found) == 1:
        to = python.objects[found[0]]
        return make_refnode(
            app.builder, node["refdoc"], to.docname, to.node_id, shown, title=found[0]
        )
    return None


def setup(app):
    """Write what is generated before Sphinx looks for pages."""
    app.connect("missing-reference", find_by_last_name)
    importlib.import_module("api").write(HERE / "reference")
    house = importlib.import_module("house").picture()
    (HERE / "reference" / "house.txt").write_text(house, encoding="utf-8")
    backends = importlib.import_module("backends").picture()
    (HERE / "reference" / "backends.svg").write_text(backends, encoding="utf-8")
    importlib.import_module("gallery").write(HERE / "reference")
    shown = HERE / "notebooks"
    shutil.rmtree(shown, ignore_errors=True)
    shown.mkdir()
    for notebook in sorted(Path(os.environ.get("XS2P_NOTEBOOKS", NOTEBOOKS)).glob("*.ipynb")):
        shutil.copy2(notebook, shown)
