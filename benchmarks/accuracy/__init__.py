"""Test accuracy with few labelled images: GLICO against no augmentation and its rivals, paired over seeds."""
