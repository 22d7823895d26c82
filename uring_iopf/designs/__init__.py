"""Delivery designs: the ones that come with the library, and the base for users' own."""

from uring_iopf.designs.base import Cost, Design, FaultSource
from uring_iopf.designs.registry import DesignInfo, names, resolve

__all__ = ["Cost", "Design", "DesignInfo", "FaultSource", "names", "resolve"]
