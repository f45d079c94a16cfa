"""The fit: from a dataset to a model."""
