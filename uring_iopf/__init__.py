"""Deliver I/O page faults to user space: rings, a simulated IOMMU, and designs to compare."""
