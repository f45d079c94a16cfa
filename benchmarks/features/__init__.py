"""Features of generative models, and the small heads that classify by them."""
