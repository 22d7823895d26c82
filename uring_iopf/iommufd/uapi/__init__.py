"""iommufd by request number and uAPI struct, as a program calls ``ioctl``."""
