"""Sizes of the emulated hardware's tables and queues. It loads no compiled code: what a machine is made of has it."""

from __future__ import annotations

from typing import Final

PRQ_ENTRIES: Final = 2048
"""What Linux sets up as VT-d's page request queue; one entry stays free."""
DEFAULT_PASIDS: Final = 64
"""Entries of a PASID table, where nobody needs more."""
MOST_PASIDS: Final = 1 << 20
"""PASIDs have 20 bits."""
DEFAULT_TABLE_PAGES: Final = 1024
"""4 KiB pages for page tables, where nobody needs more."""
MOST_TABLE_PAGES: Final = 1 << 20
"""4 GiB of tables."""
