"""The targets of attachments: address spaces and hardware page tables."""
