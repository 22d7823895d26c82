"""What devices are attached to: address spaces and hardware page tables."""
