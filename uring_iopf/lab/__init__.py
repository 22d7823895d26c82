"""Experiments: workloads, one measured cell, comparisons of cells, and what is printed of them."""
