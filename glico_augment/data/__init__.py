"""Samples of any structure, their labels, and datasets read once."""
