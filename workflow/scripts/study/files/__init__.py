"""Files that are whole or absent: writing aside, seals, locks, the cache of finished runs, and what belongs where."""
