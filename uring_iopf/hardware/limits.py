"""Sizes of the emulated hardware's tables and queues. This module does not load the extension."""

from __future__ import annotations

from typing import Final

PRQ_ENTRIES: Final = 2048
"""Entries of VT-d's page request queue, as Linux sets it up. One entry stays free."""
DEFAULT_PASIDS: Final = 64
"""Entries of a PASID table by default."""
MOST_PASIDS: Final = 1 << 20
"""The most entries of a PASID table, because PASIDs have 20 bits."""
DEFAULT_TABLE_PAGES: Final = 1024
"""4 KiB pages for page tables by default."""
MOST_TABLE_PAGES: Final = 1 << 20
"""The most 4 KiB pages for page tables: 4 GiB."""
