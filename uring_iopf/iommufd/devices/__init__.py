"""Devices, what stands for them in a guest, and what they are attached to."""
