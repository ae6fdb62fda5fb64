"""Python starts with this where ``plugins`` is on PYTHONPATH: an installed ``rnn_core`` is hidden.

The environment of make has the project's engine installed, for notebooks. A fresh machine has not: there a job must find the one
that was sent along.
"""

import sys

sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
