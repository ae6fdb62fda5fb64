"""Making runs: a block with its cache, the check before the sweeps, and the check of a sample beside PyTorch."""
