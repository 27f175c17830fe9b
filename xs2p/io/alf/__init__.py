"""The International Brain Laboratory's ALF names: traces and ROIs of a field of view."""

from xs2p.io.alf.read import read_alf
from xs2p.io.alf.write import write_alf

__all__ = ["read_alf", "write_alf"]
