"""One figure a file: ``frame``, ``facts`` and ``draw``; its caption stands beside it as ``NAME.rst``."""
