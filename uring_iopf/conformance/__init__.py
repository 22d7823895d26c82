"""Recordings of real kernels: replayed, counted, compared, and the page of known differences."""
