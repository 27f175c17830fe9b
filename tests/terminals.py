"""What stands for a terminal that somebody looks at."""

from __future__ import annotations

import io
import re


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def lines(self):
        """The bars as they stood in the end."""
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())
        shown = [re.split(r"\r", line) for line in text.split("\n")]
        return [parts[-1] for parts in shown if parts[-1].strip()]
