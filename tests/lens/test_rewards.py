"""Rewards in closed form, as gradients, over HTTP, and what happens when one fails."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
import torch
from lens_parts import pictures
from PIL import Image
from skimage.metrics import structural_similarity

from hubmodels.images import to_uint8
from hubmodels.lens import rewards
from hubmodels.lens.rewards import REWARDS, RewardError, Seen, Server


def seen(**settings: Any) -> Seen:
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(2, 4, 8, generator=generator), dim=2)
    parts: dict[str, Any] = {
        "pictures": pictures(4),
        "originals": pictures(4, seed=1),
        "labels": torch.tensor([0, 2, 1, 2]),
        "logits": torch.randn(4, 3, generator=generator),
        "before": torch.randn(4, 3, generator=generator),
        "features": features[0],
        "features_before": features[1],
    }
    return Seen(**parts | settings)


def test_rewards_are_what_they_say() -> None:
    one = seen()
    rows = torch.arange(4)
    own, before = one.logits[rows, one.labels], one.before[rows, one.labels]
    torch.testing.assert_close(rewards.log_probability(one), one.logits.softmax(1)[rows, one.labels].log())
    torch.testing.assert_close(rewards.logit_change(one), own - before)
    odds = (one.logits.softmax(1) * one.before.softmax(1)).sqrt()  # a mean of logits is a geometric mean of chances
    torch.testing.assert_close(rewards.ensemble(one), (odds[rows, one.labels] / odds.sum(1)).log())
    others = torch.stack(
        [row[torch.arange(3) != label].max() for row, label in zip(one.logits, one.labels, strict=True)]
    )
    torch.testing.assert_close(rewards.margin(one), own - others)
    assert rewards.accuracy(one).tolist() == [float(own[i] == one.logits[i].max()) for i in range(4)]
    assert ((rewards.margin(one) > 0) == rewards.accuracy(one).bool()).all()
    torch.testing.assert_close(rewards.l1(one), -(one.pictures - one.originals).abs().mean((1, 2, 3)))
    torch.testing.assert_close(rewards.perceptual(one), 2 * (one.features * one.features_before).sum(1) - 2)
    large = seen(pictures=pictures(4, 48), originals=0.5 * pictures(4, 48) + 0.5 * pictures(4, 48, 1))
    gauss = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    wanted = [
        structural_similarity(a.numpy(), b.numpy(), channel_axis=0, data_range=2.0, **gauss)
        for a, b in zip(large.pictures, large.originals, strict=True)
    ]
    # torchmetrics reflects what lies beyond the borders, which scikit-image leaves out
    np.testing.assert_allclose(rewards.ssim(large).numpy() + 1, wanted, atol=0.04)
    same = seen(pictures=one.originals, features=one.features_before, logits=one.before)
    for drift in (rewards.l1, rewards.ssim, rewards.perceptual, rewards.logit_change):
        torch.testing.assert_close(drift(same), torch.zeros(4), atol=1e-5, rtol=0)


def test_a_flat_picture_compresses_best() -> None:
    flat = seen(pictures=torch.zeros(4, 3, 16, 16))
    assert (rewards.jpeg(flat) > rewards.jpeg(seen())).all()
    file = io.BytesIO()
    Image.fromarray(to_uint8(pictures(1)[0]).permute(1, 2, 0).numpy()).save(file, "JPEG", quality=95)
    assert float(rewards.jpeg(seen())[0]) == pytest.approx(-file.tell() / 1000)


@pytest.mark.parametrize("name", sorted(REWARDS))
def test_gradients_reach_where_they_can(name: str) -> None:
    parts = {field: getattr(seen(), field).clone().requires_grad_() for field in ("pictures", "logits", "features")}
    value = REWARDS[name](seen(**parts)).sum()
    assert value.requires_grad == (name in rewards.DIFFERENTIABLE)
    if value.requires_grad:
        found = torch.autograd.grad(value, list(parts.values()), allow_unused=True)
        assert sum(float(part.abs().sum()) for part in found if part is not None) > 0


def test_weights_and_normalisation() -> None:
    one = seen()
    weights = {"log_probability": 2.0, "l1": 0.5}
    parts = rewards.scored(one, weights)
    total = rewards.weighed(parts, weights)
    torch.testing.assert_close(total, 2 * parts["log_probability"] + 0.5 * parts["l1"])
    parts = rewards.scored(one, {"jpeg": 3.0})
    total = rewards.weighed(parts, {"jpeg": 3.0}, normalised=True)
    values = parts["jpeg"]
    torch.testing.assert_close(total, 3 * (values - values.mean()) / values.std(correction=0), rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="there is no reward 'beauty'; there are log_probability"):
        rewards.scored(one, {"beauty": 1.0})
    with pytest.raises(ValueError, match="needs its address"):
        rewards.scored(one, {"server": 1.0})


def test_a_reward_that_is_no_number_is_named() -> None:
    logits = torch.zeros(4, 3)
    logits[2, 1] = float("nan")
    with pytest.raises(RewardError, match="the reward margin is not a number for picture 2 of the batch"):
        rewards.scored(seen(logits=logits), {"margin": 1.0})


# --- a server -------------------------------------------------------------------------------------------------------


class Brightness(BaseHTTPRequestHandler):
    """Rewards the mean level of the pictures that it gets; fails as often as `failures` says."""

    failures = 0
    answer: Any = None
    asked = 0

    def do_POST(self) -> None:
        cls = type(self)
        cls.asked += 1
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if cls.failures:
            cls.failures -= 1
            self.send_error(503)
            return
        images = [Image.open(io.BytesIO(base64.b64decode(one))) for one in said["pictures"]]
        values = cls.answer or {"rewards": [float(np.asarray(image).mean()) for image in images]}
        assert len(said["originals"]) == len(said["labels"]) == len(images)
        body = json.dumps(values).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@pytest.fixture
def address() -> Iterator[str]:
    Brightness.failures, Brightness.answer, Brightness.asked = 0, None, 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Brightness)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/reward"
    server.shutdown()
    server.server_close()


def test_a_server_rewards_what_it_sees(address: str) -> None:
    one = seen()
    parts = rewards.scored(one, {"server": 2.0}, Server(address))
    total = rewards.weighed(parts, {"server": 2.0})
    wanted = to_uint8(one.pictures).float().mean((1, 2, 3))
    torch.testing.assert_close(parts["server"], wanted, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(total, 2 * parts["server"])


def test_a_server_that_fails_is_asked_again(address: str) -> None:
    Brightness.failures = 2
    assert len(Server(address, tries=3)(seen())) == 4 and Brightness.asked == 3
    Brightness.failures = 9
    with pytest.raises(RewardError, match=r"failed 2 times: HTTP Error 503"):
        Server(address, tries=2)(seen())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"rewards": [1.0]}, "no list of 4 rewards"),
        ({"rewards": "much"}, "no list of 4 rewards"),
        ({"rewards": ["a", "b", "c", "d"]}, "no numbers"),
        ({"nothing": 1}, "failed 1 times"),
        ([1, 2], "failed 1 times"),
    ],
)
def test_a_server_that_says_something_else(address: str, answer: Any, words: str) -> None:
    Brightness.answer = answer
    with pytest.raises(RewardError, match=words):
        Server(address, tries=1)(seen())


def test_a_server_that_is_down_is_named() -> None:
    with pytest.raises(RewardError, match="the reward server http://127.0.0.1:9/ failed 1 times"):
        Server("http://127.0.0.1:9/", tries=1)(seen())
