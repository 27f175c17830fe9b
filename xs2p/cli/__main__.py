"""``python -m xs2p.cli``."""

from xs2p.cli import main

main()
