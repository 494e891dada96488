"""Command lines that build data sets: `python -m datasets_builders.scenes --help`."""
