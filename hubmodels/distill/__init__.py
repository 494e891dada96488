"""Caption to picture, distilled from the renderer of `hubmodels.scenes`."""
