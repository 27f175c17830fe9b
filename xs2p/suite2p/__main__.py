"""suite2p's own command line, with xs2p's extraction: ``python -m xs2p.suite2p --db db.npy``."""

from __future__ import annotations

import contextlib
import runpy
import sys

from xs2p.suite2p.patch import patched

KEEP = "--keep-masks"


def main() -> None:
    """Run ``python -m suite2p`` with the same arguments; ``--keep-masks`` is the only new one."""
    keep_masks = KEEP in sys.argv[1:]
    sys.argv = ["python -m xs2p.suite2p", *(word for word in sys.argv[1:] if word != KEEP)]
    if {"-h", "--help"} & set(sys.argv):
        print(f"suite2p's command line with xs2p's extraction; of its own it has {KEEP}, which")
        print('stores stat[n]["neuropil_mask"]. Of suite2p:\n')
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(patched(keep_masks=keep_masks))
        except (ImportError, RuntimeError) as error:
            sys.exit(str(error))
        runpy.run_module("suite2p", run_name="__main__")


if __name__ == "__main__":
    main()
