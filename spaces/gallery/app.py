"""All systems on one page, a tab each. A tab is the page of the system's own Space, from the installed package."""

import sys

import gradio as gr

from hubmodels import DistilledRenderer
from hubmodels.hub import released
from spaces.distill import app as distill


def demo(model: DistilledRenderer) -> gr.Blocks:
    """The page. Takes the models, so that tiny ones can stand in for them."""
    with gr.Blocks(title="hubmodels", analytics_enabled=False) as blocks, gr.Tabs(), gr.Tab("distill"):
        distill.page(model)
    return blocks


def main() -> None:
    """Load, build, serve; what goes wrong is one line."""
    try:
        distill.serve(demo(DistilledRenderer.from_pretrained(released("distill"))))
    except (ValueError, OSError) as error:
        sys.exit(f"gallery: {error}")


if __name__ == "__main__":
    main()
