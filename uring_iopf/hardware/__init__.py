"""The simulated hardware: endpoints with page requests, an IOMMU, stage-1 page tables."""
