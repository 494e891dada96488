"""Small generative-vision systems that live on the Hugging Face Hub.

Names are loaded on first use, and torch with them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hubmodels.circular.model import CircularScene, CircularSceneConfig
    from hubmodels.distill.model import DistilledRenderer, DistilledRendererConfig
    from hubmodels.hub import HubModel
    from hubmodels.lens.model import DiffusionLens, DiffusionLensConfig
    from hubmodels.neuropbr.material import example_photos, make_material
    from hubmodels.neuropbr.model import NeuroPBR, NeuroPBRConfig
    from hubmodels.neuropbr.predict import outlined, read_photo
    from hubmodels.pixelscene.shape import PixelTransformerConfig, PixelVQGANConfig
    from hubmodels.pixelscene.transformer import PixelTransformer
    from hubmodels.pixelscene.vqgan import PixelVQGAN

__version__: str

_HOMES = {
    "CircularScene": "hubmodels.circular.model",
    "CircularSceneConfig": "hubmodels.circular.model",
    "DiffusionLens": "hubmodels.lens.model",
    "DiffusionLensConfig": "hubmodels.lens.model",
    "DistilledRenderer": "hubmodels.distill.model",
    "DistilledRendererConfig": "hubmodels.distill.model",
    "HubModel": "hubmodels.hub",
    "NeuroPBR": "hubmodels.neuropbr.model",
    "NeuroPBRConfig": "hubmodels.neuropbr.model",
    "PixelTransformer": "hubmodels.pixelscene.transformer",
    "PixelTransformerConfig": "hubmodels.pixelscene.shape",
    "PixelVQGAN": "hubmodels.pixelscene.vqgan",
    "PixelVQGANConfig": "hubmodels.pixelscene.shape",
    "example_photos": "hubmodels.neuropbr.material",
    "make_material": "hubmodels.neuropbr.material",
    "outlined": "hubmodels.neuropbr.predict",
    "read_photo": "hubmodels.neuropbr.predict",
}

__all__ = [
    "CircularScene",
    "CircularSceneConfig",
    "DiffusionLens",
    "DiffusionLensConfig",
    "DistilledRenderer",
    "DistilledRendererConfig",
    "HubModel",
    "NeuroPBR",
    "NeuroPBRConfig",
    "PixelTransformer",
    "PixelTransformerConfig",
    "PixelVQGAN",
    "PixelVQGANConfig",
    "example_photos",
    "make_material",
    "outlined",
    "read_photo",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("hubmodels")
    if name not in _HOMES:
        raise AttributeError(f"module 'hubmodels' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, "__version__"])
