"""What the scripts on the sphere's other uses share: images, fits without labels, few-shot tasks of real images."""
