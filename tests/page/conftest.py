"""The tests of the page draw the same synthetic studies as those of the figures."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "figures")]
