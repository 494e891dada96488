"""What model cards report. Pictures are (B, 3, H, W) sRGB in [0, 1]; values are one for each picture, (B,)."""

from hubmodels.metrics.fidelity import foreground_psnr, psnr, ssim
from hubmodels.metrics.overlap import iou
from hubmodels.metrics.spectrum import checkerboard, checkerboard_energy

__all__ = ["checkerboard", "checkerboard_energy", "foreground_psnr", "iou", "psnr", "ssim"]
