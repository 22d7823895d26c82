"""What iommufd asks the drivers of IOMMUs: one description a driver."""
