"""What the fitted sphere is good for beside the swap: codes of images that were not fitted."""
