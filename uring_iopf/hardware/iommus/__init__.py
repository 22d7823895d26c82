"""The IOMMUs that are emulated, one module each."""
