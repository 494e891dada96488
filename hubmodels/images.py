from PIL import Image


def to_pil(image):
    return Image.fromarray(((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
