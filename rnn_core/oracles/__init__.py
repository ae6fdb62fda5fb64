"""Independent programs that compute the same gradients, and the comparator. Importing this package imports torch."""
