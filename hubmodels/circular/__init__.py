"""Text to scene to text without pairs: a language, a painter, and a reader that sees nothing but pixels."""
