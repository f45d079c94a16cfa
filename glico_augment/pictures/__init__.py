"""What can be looked at of a fit: grids as PNG, figures of matplotlib, and what a notebook shows."""
