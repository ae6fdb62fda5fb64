"""Command-line tools: ``python -m study.tools.NAME``, with ``workflow/scripts`` on the path (``make`` does that)."""
