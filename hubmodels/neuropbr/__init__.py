"""Photos of a flat surface to the maps of its material."""
