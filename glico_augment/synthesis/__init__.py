"""Synthetic images of a fit: what is drawn for them, and how they are made on any device."""
