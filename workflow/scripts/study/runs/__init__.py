"""Making runs: a block with its cache, the check beside the first blocks, and the check of a sample beside PyTorch."""
