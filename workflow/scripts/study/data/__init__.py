"""A user's own sequences: reading a file, the meaning of its cells, order and ends, and whether the sweeps fit them."""
