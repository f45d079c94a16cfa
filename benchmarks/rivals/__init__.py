"""Other methods to make images of a class from few, rebuilt from their descriptions."""
