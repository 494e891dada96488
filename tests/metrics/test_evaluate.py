"""The module for `evaluate`, as its users load it. Its import is dear, so one test does it all."""

from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi
from loopback_hub import LoopbackHub

from hubmodels.images import to_pil

MODULE = Path(__file__).parents[2] / "hubmodels" / "metrics" / "modules" / "psnr_ssim"


def test_loads_by_path_and_from_a_space(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_UPDATE_DOWNLOAD_COUNTS", "0")
    import evaluate
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (2, 3, 3, 24, 32), generator=generator, dtype=torch.uint8)
    levels[1, 2] = levels[0, 2] // 2 + 60
    predictions, references = ([to_pil(picture) for picture in batch] for batch in levels)
    arrays = [[np.asarray(image) / 255 for image in batch] for batch in (predictions, references)]
    psnr = [peak_signal_noise_ratio(b, a, data_range=1) for a, b in zip(*arrays, strict=True)]
    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": -1}
    ssim = [structural_similarity(a, b, data_range=1, **how) for a, b in zip(*arrays, strict=True)]

    HfApi().create_repo("org/psnr_ssim", repo_type="space", space_sdk="gradio")
    HfApi().upload_folder(repo_id="org/psnr_ssim", folder_path=MODULE, repo_type="space")
    for name in (str(MODULE), "org/psnr_ssim"):
        metric = evaluate.load(name, cache_dir=str(tmp_path), experiment_id=Path(name).parent.name)
        result = metric.compute(predictions=predictions, references=references)
        assert result and result.keys() == {"psnr", "ssim", "psnr_of_each", "ssim_of_each"}
        assert result["psnr_of_each"] == pytest.approx(psnr, abs=1e-4)
        assert result["ssim_of_each"] == pytest.approx(ssim, abs=1e-4)
        assert result["psnr"] == pytest.approx(np.mean(psnr), abs=1e-4)
        assert result["ssim"] == pytest.approx(np.mean(ssim), abs=1e-4)
    assert "GET /spaces/org/psnr_ssim/resolve/main/psnr_ssim.py" in hub.requests
    with pytest.raises(ValueError, match="picture 0 has"):
        metric.compute(predictions=predictions[:1], references=[references[0].rotate(90, expand=True)])
