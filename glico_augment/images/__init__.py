"""Images of every kind a dataset yields, as uint8 tensors and back; how one is recognised."""
