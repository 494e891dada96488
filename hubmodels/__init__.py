"""Small generative-vision systems that live on the Hugging Face Hub.

Names are loaded on first use, and torch with them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hubmodels.distill.model import DistilledRenderer, DistilledRendererConfig
    from hubmodels.hub import HubModel

__version__: str

_HOMES = {
    "DistilledRenderer": "hubmodels.distill.model",
    "DistilledRendererConfig": "hubmodels.distill.model",
    "HubModel": "hubmodels.hub",
}

__all__ = ["DistilledRenderer", "DistilledRendererConfig", "HubModel"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("hubmodels")
    if name not in _HOMES:
        raise AttributeError(f"module 'hubmodels' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, "__version__"])
