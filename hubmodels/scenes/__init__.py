"""A small world in which truth is known: captions, layouts, pictures, and an oracle that reads them back.

    caption --parse--> Scene --place(seed)--> placed Scene --render--> picture (3, R, R) --read--> Scene

Language and layout need no torch; what does is loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hubmodels.scenes.grammar import GrammarError, canonical, caption, decode, encode, parse, sample, suggestions
from hubmodels.scenes.layout import LayoutError, place
from hubmodels.scenes.world import Group, Relation, Scene

if TYPE_CHECKING:
    from hubmodels.scenes.reader import agrees, read
    from hubmodels.scenes.renderer import masks, render

_NEED_TORCH = {"masks": "renderer", "render": "renderer", "agrees": "reader", "read": "reader"}

__all__ = [
    "GrammarError",
    "Group",
    "LayoutError",
    "Relation",
    "Scene",
    "agrees",
    "canonical",
    "caption",
    "decode",
    "encode",
    "masks",
    "parse",
    "place",
    "read",
    "render",
    "sample",
    "suggestions",
]


def __getattr__(name: str) -> Any:
    if name in _NEED_TORCH:
        return getattr(import_module(f"{__name__}.{_NEED_TORCH[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
