"""One figure a file: ``frame``, ``facts`` and ``draw``; its caption stands beside it as ``NAME.rst``.

To add one: these two files, its name under ``figures:`` in a config, and its row in the table of docs/results.md. A template: docs/extending.md.
"""
