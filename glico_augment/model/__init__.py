"""The sphere, the codes on it, and the networks: all that knows nothing of photographs or files."""
