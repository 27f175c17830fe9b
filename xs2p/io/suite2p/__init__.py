"""The folder of one plane as suite2p keeps it."""

from xs2p.io.suite2p.folder import read_suite2p, write_suite2p
from xs2p.io.suite2p.iscell import write_iscell
from xs2p.io.suite2p.stat import read_stat

__all__ = ["read_stat", "read_suite2p", "write_iscell", "write_suite2p"]
