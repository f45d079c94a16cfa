"""The swap of real images for synthetic ones."""
