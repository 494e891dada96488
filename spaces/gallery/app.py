"""All systems on one page, a tab each. A tab is the page of the system's own Space, from the installed package."""

import sys

import gradio as gr

from hubmodels import CircularScene, DistilledRenderer, NeuroPBR
from hubmodels.hub import released
from hubmodels.pixelscene.scene import Pair
from spaces.circular import app as circular
from spaces.distill import app as distill
from spaces.lens import app as lens
from spaces.neuropbr import app as neuropbr
from spaces.pixelscene import app as pixelscene


def demo(
    renderer: DistilledRenderer,
    written: CircularScene,
    grounded: CircularScene,
    materials: NeuroPBR,
    pair: Pair,
    studio: lens.Studio,
) -> gr.Blocks:
    """The page. Takes the models, so that tiny ones can stand in for them."""
    with gr.Blocks(title="hubmodels", analytics_enabled=False, delete_cache=neuropbr.KEPT_S) as blocks, gr.Tabs():
        with gr.Tab("distill"):
            distill.page(renderer)
        with gr.Tab("circular"):
            circular.page(written, grounded)
        with gr.Tab("neuropbr"):
            neuropbr.page(materials)
        with gr.Tab("pixelscene"):
            pixelscene.page(pair)
        with gr.Tab("lens"):
            lens.page(studio)
    return blocks


def main() -> None:
    """Load, build, serve; what goes wrong is one line."""
    try:
        renderer = DistilledRenderer.from_pretrained(released("distill", "DISTILL"))
        written = CircularScene.from_pretrained(released("circular", "CIRCULAR"))
        grounded = CircularScene.from_pretrained(released("circular-grounded", "GROUNDED"))
        materials = NeuroPBR.from_pretrained(released("neuropbr", "NEUROPBR"))
        pair, studio = pixelscene.released_pair(), lens.released_studio()
        distill.serve(demo(renderer, written, grounded, materials, pair, studio))
    except (ValueError, OSError) as error:
        sys.exit(f"gallery: {error}")


if __name__ == "__main__":
    main()
