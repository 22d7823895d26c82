"""What users' own tests need: comparisons that are the same every time, and suites that a design must pass."""
