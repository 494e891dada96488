"""Two pictures in, PSNR and SSIM out."""

import gradio as gr
from PIL import Image

from hubmodels.images import from_pil, to_unit
from hubmodels.metrics import psnr, ssim


def compare(prediction: Image.Image | None, reference: Image.Image | None) -> str:
    """A sentence with both numbers.

    Raises:
        gr.Error: a picture is missing, unreadable or too small, or their sizes differ.
    """
    if prediction is None or reference is None:
        raise gr.Error("Two pictures are needed: one to judge and what it should be.")
    try:
        pair = [to_unit(from_pil(image))[None] for image in (prediction, reference)]
        return f"PSNR {psnr(*pair).item():.2f} dB, SSIM {ssim(*pair).item():.4f}"
    except ValueError as error:
        raise gr.Error(str(error)) from None


def demo() -> gr.Blocks:
    """The page."""
    pictures = [gr.Image(type="pil", label=label) for label in ("Prediction", "Reference")]
    return gr.Interface(compare, pictures, gr.Textbox(label="Result"), title="PSNR and SSIM", flagging_mode="never")


if __name__ == "__main__":
    demo().launch()
