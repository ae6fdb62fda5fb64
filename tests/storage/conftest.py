"""Where tests/workflow keeps what this folder shares with it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "workflow"))
