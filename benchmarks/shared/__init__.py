"""What the measurements share: the runner, data, the classifier and its training, methods, and tables."""
