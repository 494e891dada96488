"""A small world in which truth is known: captions, layouts, pictures, and an oracle that reads them back.

    caption --parse--> Scene --place(seed)--> placed Scene --render--> picture (3, R, R) --read--> Scene
"""

from hubmodels.scenes.grammar import GrammarError, canonical, caption, decode, encode, parse, sample, suggestions
from hubmodels.scenes.layout import LayoutError, place
from hubmodels.scenes.renderer import masks, render
from hubmodels.scenes.world import Group, Relation, Scene

__all__ = [
    "GrammarError",
    "Group",
    "LayoutError",
    "Relation",
    "Scene",
    "canonical",
    "caption",
    "decode",
    "encode",
    "masks",
    "parse",
    "place",
    "render",
    "sample",
    "suggestions",
]
