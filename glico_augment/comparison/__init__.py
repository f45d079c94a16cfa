"""Which augmentation helps on one's own images."""
