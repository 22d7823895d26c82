"""Tools for users' own tests: reproducible comparisons, and the suites that designs and clients must pass."""
