"""Pictures of a fit: grids as PNG, figures of matplotlib, and the HTML that a notebook shows."""
