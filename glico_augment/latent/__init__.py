"""Uses of the fitted sphere besides the swap: codes of images that were not fitted."""
