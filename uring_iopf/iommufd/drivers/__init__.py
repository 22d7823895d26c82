"""The descriptions of IOMMU drivers for iommufd."""
