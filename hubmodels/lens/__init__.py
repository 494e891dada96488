"""Image-to-image diffusion, tuned by reinforcement until a classifier can read what is hidden."""
