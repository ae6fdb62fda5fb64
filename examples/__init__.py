"""Five published programs, computed again by the engine: ``python -m examples.NAME`` from the root of the repository.

Each prints what its document prints, in the same order and with the same digits. What stands to the right of a bar
("|") is not in the document: a program that runs now, to compare with.
"""
