"""Tune a diffusion model until a classifier sees what pictures hide.

    accelerate launch train_scripts/lens.py                                        # camouflaged animals, by DDPO
    accelerate launch train_scripts/lens.py --corruption haze --run.out runs/haze  # or noise, or a corruption
    accelerate launch train_scripts/lens.py --mode backprop --run.out runs/warm    # by the gradient of the reward
    accelerate launch train_scripts/lens.py --start runs/warm/export               # DDPO from there
    accelerate launch train_scripts/lens.py --resume runs/lens                     # goes on, bit for bit on CPU
    accelerate launch train_scripts/lens.py --mode eval_classifier --dataset cifar10-c --corruption fog --severity 5
    accelerate launch train_scripts/lens.py --mode pretrain                        # the small parts themselves; hours

Any Stable Diffusion and any CLIP of the Hub stand in for the small parts:

    accelerate launch train_scripts/lens.py --dataset cod --data-root data --size 512 --rows 1024 --cached \\
        --base stable-diffusion-v1-5/stable-diffusion-v1-5 --classifier openai/clip-vit-base-patch16 --half bf16

LOG.md has the runs, and the cards in weights/lens* those that made these weights.
"""

import sys
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
import tyro
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision.transforms import v2

from hubmodels.images import from_unit, grid, to_unit
from hubmodels.lens import base as bases
from hubmodels.lens import policy, sampler
from hubmodels.lens.base import Base, decode, embedded, encode
from hubmodels.lens.classifier import TEMPLATE, Classifier
from hubmodels.lens.classifier import loaded as reader_of
from hubmodels.lens.data import Pictures, balanced, opened
from hubmodels.lens.model import DiffusionLens, DiffusionLensConfig
from hubmodels.lens.report import quick, recognised, stacked
from hubmodels.lens.rewards import DIFFERENTIABLE, RewardError, Seen, Server, scored, weighed
from hubmodels.training import Run, RunConfig, Stop, resumed, schedules
from hubmodels.training.decay import decay_groups

HALVES = {"": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Rewards:
    """How much each reward counts; see `hubmodels.lens.rewards`."""

    log_probability: float = 1.0
    """Of the true label, in nats."""
    ensemble: float = 0.0
    """The same of an edit that is read together with its original, by the mean of their logits."""
    logit_change: float = 0.0
    """Rise of the logit of the true label."""
    margin: float = 0.0
    """Logit of the true label above the largest of the others."""
    accuracy: float = 0.0
    """1 if the label is right."""
    l1: float = 0.0
    """Minus the mean change of a pixel."""
    ssim: float = 0.0
    """Structural similarity with the original."""
    perceptual: float = 0.0
    """Minus the change of the classifier's features."""
    jpeg: float = 0.0
    """Minus kilobytes as JPEG: a toy."""
    server: float = 0.0
    """What `address` says."""
    address: str = ""
    """Of a server: http://... that is sent pictures and gives numbers."""
    normalised: bool = False
    """Each reward is brought to a mean of 0 and a deviation of 1 over the batch before it is weighed."""

    def weights(self) -> dict[str, float]:
        """Those that count, by name."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, float) and value}


@dataclass(frozen=True)
class Config:
    """Tune a diffusion model by reward, or measure a classifier."""

    mode: Literal["rl", "backprop", "eval_classifier", "pretrain"] = "rl"
    """rl: reinforcement. backprop: the gradient of the reward, through the sampler. eval_classifier: what the
    classifier reads without any editing. pretrain: the small parts of the default, see lens_pretrain.py."""
    method: Literal["ddpo-branch", "ddpo"] = "ddpo-branch"
    """Of rl. ddpo: every step is drawn and learned from, as Black et al. 2023 and trl do. ddpo-branch: one step goes
    several ways, the others are deterministic."""
    dataset: Literal["camo", "cod", "cifar10-c", "cifar100-c", "tiny-imagenet-c", "imagenet-c"] = "camo"
    """camo: scenes made up as it goes. The others lie in `data_root`."""
    data_root: str = "data"
    corruption: str = ""
    """A corruption; of camo also haze, noise or clear, and camouflage if empty."""
    severity: int = 1
    """Of a corruption, 1 to 5."""
    rows: int = 0
    """Train on so many pictures, as many of each class as can be; 0 is all."""
    size: int = 64
    """Pixels a side."""
    workers: int = 0
    cached: bool = False
    """Encode all pictures once, before training, and keep latents in memory."""
    varied: bool = False
    """Mirror training pictures, and change their colours, contrast, sharpness and grain, each by chance: for data sets
    that show less than what is to be edited."""
    base: str = "org/lens-base"
    """A pipeline of diffusers with a UNet: folder or Hub."""
    base_revision: str = ""
    """Branch, tag or commit on the Hub; the commit that was found goes into the configuration of the weights."""
    half: Literal["", "bf16", "fp16"] = ""
    """Precision of the frozen parts and of latents; what is learned stays in full precision."""
    checkpointing: bool = False
    """Compute activations of the UNet twice and keep them never: less memory."""
    classifier: str = "org/lens-classifier"
    """A CLIP, or another classifier of transformers: folder or Hub."""
    classifier_revision: str = ""
    """Likewise. Some repositories have safetensors in a pull request alone: refs/pr/NUMBER."""
    template: str = TEMPLATE
    """What CLIP hears of a label."""
    prompt: str = ""
    """What the UNet hears; {label} stands for the true one, which makes it easy to cheat."""
    guidance: float = 1.0
    """Above 1, classifier-free guidance, in drawing and in learning alike."""
    start: str = ""
    """A lens to begin with, a folder or a Hub repository; it brings base, rank and targets along."""
    rank: int = 8
    """Of LoRA; 0 tunes all of the UNet."""
    targets: str = "to_q to_k to_v to_out.0 conv1 conv2 conv_in proj_in proj_out ff.net.0.proj ff.net.2"
    """Layers of the UNet that LoRA stands beside, by the end of their names."""
    sample_steps: int = 20
    """Steps from pure noise, of which the last strength * sample_steps are executed."""
    strength: float = 0.15
    spacing: Literal["trailing", "leading", "linspace"] = "trailing"
    eta: float = 1.0
    """Noise of the steps that are drawn, of rl; 1 is DDPM. Edits are deterministic."""
    ways: int = 8
    """Of ddpo-branch: edits of each picture, in antithetic pairs."""
    explore: int | None = None
    """Noise of rl is constant in each cell of a grid of so many across and down; 0 is white noise. Left out: 4 of
    ddpo-branch, 0 of ddpo."""
    baseline: Literal["auto", "global", "group", "prompt"] = "auto"
    """What a reward is compared with: the mean of all, of the same picture's edits, or of the last ones with the same
    prompt. auto: group for ddpo-branch, global for ddpo."""
    clip_range: float = 1e-4
    """How far the ratio of probabilities may leave 1 before a sample counts no more."""
    inner_epochs: int = 1
    """Passes over what was drawn. Beyond the first the policy is no longer the one that drew it."""
    kl: float = 0.0
    """Price of a distance from the base, in nats."""
    truncate: int = 0
    """Of backprop: how many of the last steps the gradient runs through; 0 is all."""
    chunk: int = 16
    """Pictures that are in memory at a time, with all their edits."""
    lr: float = 1e-3
    decay: float = 0.1
    """What the rate has fallen to at the end, as a share of `lr`."""
    weight_decay: float = 1e-4
    evaluate_every: int = 10
    evaluate_on: int = 256
    """Validation pictures; the classifier's likelihood on them decides which weights are best."""
    resume: str = ""
    """Folder of a run to go on with; its own settings are used."""
    reward: Rewards = field(default_factory=Rewards)
    run: RunConfig = field(
        default_factory=lambda: RunConfig(
            out="runs/lens", steps=120, batch_size=64, ema=0.9, log_every=1, save_every=10, precision="no"
        )
    )

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.inner_epochs < 1 or self.evaluate_on < 1 or self.rows < 0 or self.grid < 0:
            raise ValueError("chunk, inner_epochs and evaluate_on are at least 1, rows and explore at least 0")
        if not (0 <= self.decay <= 1 and 0 <= self.eta <= 1 and self.clip_range > 0 and self.kl >= 0):
            raise ValueError("decay and eta are shares, clip_range is above 0 and kl at least 0")
        if self.mode == "rl" and self.eta == 0:
            raise ValueError("without chance nothing is explored: eta must be above 0")
        if self.mode == "backprop":
            flat = [name for name in self.reward.weights() if name not in DIFFERENTIABLE]
            if flat:
                raise ValueError(f"the reward {flat[0]} has no gradient: it works in --mode rl alone")
        if self.rank == 0 and self.half:
            raise ValueError("rank 0 tunes the base itself, in full precision: leave out --half")
        if self.cached and self.varied:
            raise ValueError("pictures that vary are encoded anew each time: leave out --cached or --varied")
        if self.reward.server and not self.reward.address:
            raise ValueError("--reward.server needs --reward.address")

    @property
    def grid(self) -> int:
        """Cells across and down that noise is constant in; 0 is white noise."""
        return (4 if self.method == "ddpo-branch" else 0) if self.explore is None else self.explore


def main(config: Config) -> None:
    if config.mode == "pretrain":
        import lens_pretrain

        own = lens_pretrain.Config()
        return lens_pretrain.main(replace(own, run=replace(own.run, seed=config.run.seed, threads=config.run.threads)))
    beginning = DiffusionLens.from_pretrained(config.start) if config.start else None
    if beginning:
        begun = beginning.config
        own = {name: getattr(begun, name) for name in ("base", "base_revision", "rank", "targets")}
        config = replace(config, **own)
    train = data(config, "train")
    reader = reader_of(config.classifier, train.classes, config.template, config.classifier_revision)
    if config.mode == "eval_classifier":
        return print(recognised(reader, data(config, "test" if config.dataset == "camo" else "all")))
    parts = bases.loaded(config.base, config.base_revision, config.spacing, HALVES[config.half])
    config = replace(config, base_revision=parts.revision, classifier_revision=reader.revision)
    executed = len(sampler.schedule(parts.scheduler, config.sample_steps, config.strength))
    run = Run(replace(config.run, accumulate=config.run.accumulate * micro_batches(config, executed)), config)
    lens = DiffusionLens.fresh(shape(config, train.classes), parts)
    if beginning:
        lens.load_state_dict(beginning.state_dict())
    optimizer = torch.optim.AdamW(decay_groups(lens, config.weight_decay), config.lr)
    rate = schedules.cosine(optimizer, config.run.steps, 0, config.decay)
    parts.to(run.device)
    rows: Dataset = kept(train, parts) if config.cached else train
    loader = DataLoader(rows, config.run.batch_size, shuffle=True, num_workers=config.workers)
    tracker = policy.PromptTracker()
    model, optimizer, _, _, loader = run.prepare(lens, optimizer, rate, tracker, loader)
    lens.attach(parts)
    if config.checkpointing:
        parts.unet.enable_gradient_checkpointing()
    learner = Learner(config, lens, model, reader.to(run.device), *heard(config, parts, train.classes))
    unseen, names = stacked(data(config, "validation"))

    for pictures, labels, *latents in run.batches(loader):
        pictures = varied(pictures) if config.varied else pictures
        source = latents[0] if latents else encode(parts, pictures)
        chunks = list(zip(*(rows.split(config.chunk) for rows in (pictures, labels, source)), strict=True))
        try:
            if config.mode == "rl":
                with torch.no_grad():
                    drawn = [learner.drawn(*chunk, run.position) for chunk in chunks]
                rewards = {name: torch.cat([one.rewards[name] for one in drawn]) for name in drawn[0].rewards}
                worth = weighed(rewards, config.reward.weights(), config.reward.normalised).unflatten(
                    0, (len(labels), -1)
                )
                advantage = advantages(config, run, tracker, worth, labels).split(config.chunk)
                run.log(reward=worth.mean(), reward_std=worth.std(correction=0), **means(rewards))
                for _ in range(config.inner_epochs):
                    for one, better in zip(drawn, advantage, strict=True):
                        for action in one.actions:
                            with run.accumulate(model):
                                learned, terms = learner.loss(one, action, better)
                                run.descend(terms, optimizer)
                            run.log(**terms, moved=learned.kl, clipped=learned.clipped, ratio=learned.ratio)
            else:
                for chunk in chunks:
                    with run.accumulate(model):
                        rewards = learner.followed(*chunk)
                        worth = weighed(rewards, config.reward.weights(), config.reward.normalised)
                        run.descend({"reward": -worth.mean()}, optimizer)
                    run.log(reward=worth.mean(), **means(rewards))
        except RewardError as error:
            run.save()
            raise Stop(f"step {run.step + 1}: {error}. Go on with --resume {config.run.out}") from error
        if run.every(config.evaluate_every):
            with run.averaged(model) as network:
                found, edits = quick(network, reader, unseen, names)
                run.log_images("edits", beside(unseen, edits))
            run.log(**found)
            run.score(-found["nll"])
    run.export(model)


def micro_batches(config: Config, executed: int) -> int:
    """Forward passes with a gradient that make a step.

    Raises:
        Stop: a batch is no multiple of a chunk, or there is no step that could be learned from.
    """
    if config.run.batch_size % config.chunk and config.run.batch_size > config.chunk:
        raise Stop(f"--run.batch-size {config.run.batch_size} must be a multiple of --chunk {config.chunk}")
    if config.mode == "rl" and config.method == "ddpo-branch" and executed < 2:
        raise Stop(
            f"ddpo-branch explores all steps but the last, and there is only one: raise --strength {config.strength:g} "
            f"or --sample-steps {config.sample_steps}"
        )
    chunks = -(-config.run.batch_size // config.chunk)
    return chunks * (executed if config.mode == "rl" and config.method == "ddpo" else 1)


def shape(config: Config, classes: tuple[str, ...]) -> DiffusionLensConfig:
    """What the weights will say about themselves. A prompt that gives the label away is not theirs to keep."""
    return DiffusionLensConfig(
        base=config.base,
        base_revision=config.base_revision,
        classifier=config.classifier,
        classifier_revision=config.classifier_revision,
        labels="; ".join(classes),
        template=config.template,
        dataset=config.dataset,
        corruption=config.corruption,
        severity=config.severity,
        rank=config.rank,
        targets=config.targets,
        size=config.size,
        steps=config.sample_steps,
        strength=config.strength,
        spacing=config.spacing,
        prompt="" if "{label}" in config.prompt else config.prompt,
        guidance=config.guidance,
    )


def data(config: Config, split: str) -> Pictures:
    """A split, or as many rows of it as were asked for, as many of each class as can be."""
    found = opened(
        config.dataset, config.data_root, split, config.corruption, config.severity, config.size, config.run.seed
    )
    wanted = config.evaluate_on if split == "validation" else config.rows
    count = min(wanted or len(found), len(found))
    return replace(found, rows=tuple(balanced(found.rows, count, config.run.seed)))


def varied(pictures: Tensor) -> Tensor:
    """Pictures (B, 3, S, S) in [-1, 1] otherwise, each in its own way."""
    change = v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.5, hue=0.5),
            v2.RandomApply([v2.GaussianBlur(5, (0.3, 1.2))]),
            v2.RandomApply([v2.GaussianNoise(sigma=0.05)]),
        ]
    )
    return from_unit(torch.stack([change(picture) for picture in to_unit(pictures)]))


def kept(pictures: Pictures, parts: Base) -> TensorDataset:
    """Pictures, labels and latents, all in memory."""
    device = next(parts.vae.parameters()).device
    seen, labels = stacked(pictures)
    latents = torch.cat([encode(parts, part.to(device)).cpu() for part in seen.split(32)])
    return TensorDataset(seen, labels, latents)


def beside(pictures: Tensor, edits: Tensor) -> Tensor:
    """(3, H, W) in [0, 1]: the first pictures, each left of its edit."""
    pairs = torch.stack([pictures[:16], edits[:16].cpu()], 1).flatten(0, 1)
    return to_unit(grid(pairs, 8))


@dataclass(frozen=True)
class Action:
    """A step of the sampler that chance took part in, of a chunk of b pictures."""

    time: Tensor
    """()."""
    latents: Tensor
    """(b, C, h, w) before it."""
    after: Tensor
    """(b, C, h, w), or (b, G, C, h, w) where it went G ways."""
    log_probabilities: Tensor
    """(b,) or (b, G), under the policy that drew."""


@dataclass(frozen=True)
class Drawn:
    """What was drawn for a chunk of b pictures."""

    source: Tensor
    """(b, C, h, w), latents of the pictures."""
    text: Tensor
    actions: list[Action]
    rewards: dict[str, Tensor]
    """(b G,) each."""


@dataclass(frozen=True)
class Learner:
    """Edits pictures of the training set in ways that can be learned from."""

    config: Config
    lens: DiffusionLens
    model: Any
    """The lens as `prepare` returned it."""
    reader: Classifier
    said: Tensor
    """(1, T, D), or (K, T, D) where the prompt has a label in it."""
    silence: Tensor | None
    """(1, T, D) of the empty prompt, where there is guidance."""

    def noised(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Latents to begin with, and the times that are executed."""
        config, scheduler = self.config, self.lens.base.scheduler
        times = sampler.schedule(scheduler, config.sample_steps, config.strength)
        noise = torch.randn(source.shape).to(source)
        return scheduler.add_noise(source, noise, times[:1].expand(len(source)).to(source.device)), times

    def text(self, labels: Tensor) -> Tensor:
        return self.said if len(self.said) == 1 else self.said[labels]

    def drawn(self, pictures: Tensor, labels: Tensor, source: Tensor, position: int) -> Drawn:
        """Edits of a chunk by chance, and their rewards. Branches fork at one step after the other."""
        config, scheduler, text = self.config, self.lens.base.scheduler, self.text(labels)
        start, times = self.noised(source)
        chance = (config.eta, None, config.grid)

        def predict(latents: Tensor, time: Tensor) -> Tensor:
            return self.model(latents, time, source, text, self.silence)

        if config.method == "ddpo":
            path = sampler.run(scheduler, predict, start, times, *chance, last=True)
            steps = zip(
                path.times.to(source.device), path.latents, path.latents[1:], path.log_probabilities, strict=False
            )
            rewards = self.rewards(path.latents[-1], pictures, labels)
            return Drawn(source, text, [Action(*step) for step in steps], rewards)

        def free(latents: Tensor, time: Tensor) -> Tensor:
            with self.lens.merged():
                return self.lens(latents, time, source, text, self.silence)

        at = position % (len(times) - 1)
        tree = sampler.branch(scheduler, predict, start, times, at, config.ways, *chance, free)
        action = Action(tree.time, tree.latents, tree.after, tree.log_probabilities)
        return Drawn(source, text, [action], self.rewards(tree.ends.flatten(0, 1), pictures, labels))

    def followed(self, pictures: Tensor, labels: Tensor, source: Tensor) -> dict[str, Tensor]:
        """Rewards of deterministic edits, whose gradient leads back into the last steps."""
        scheduler, text = self.lens.base.scheduler, self.text(labels)
        start, times = self.noised(source)

        def predict(latents: Tensor, time: Tensor) -> Tensor:
            return self.model(latents, time, source, text, self.silence)

        free = len(times) - self.config.truncate if self.config.truncate else 0
        with torch.no_grad():
            start = sampler.run(scheduler, predict, start, times[: max(0, free)]).latents[-1]
        ends = sampler.run(scheduler, predict, start, times[max(0, free) :]).latents[-1]
        return self.rewards(ends, pictures, labels)

    def rewards(self, ends: Tensor, pictures: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """(b G,) each, of edits whose latents are `ends` (b G, C, h, w)."""
        ways = len(ends) // len(pictures)
        with torch.no_grad():
            before = self.reader.read(pictures)
        originals = (rows.repeat_interleave(ways, 0) for rows in (pictures, labels, *before))
        seen = Seen.of(decode(self.lens.base, ends), self.reader, *originals)
        asked = self.config.reward
        return scored(seen, asked.weights(), Server(asked.address) if asked.server else None)

    def loss(self, drawn: Drawn, action: Action, advantage: Tensor) -> tuple[policy.Learned, dict[str, Tensor]]:
        """What the policy learns from an action; advantage is (b, G)."""
        config, scheduler = self.config, self.lens.base.scheduler
        time = action.time.expand(len(action.latents))

        def gaussian() -> sampler.Moments:
            said = self.model(action.latents, time, drawn.source, drawn.text, self.silence)
            return sampler.moments(scheduler, said, time, action.latents, config.eta)

        now = gaussian()
        likely = sampler.log_probability(action.after, now, config.grid)
        learned = policy.clipped_loss(likely, action.log_probabilities, advantage.view_as(likely), config.clip_range)
        terms = {"policy": learned.loss}
        if config.kl:
            with torch.no_grad(), self.lens.as_base():
                before = gaussian()
            terms["kl"] = config.kl * policy.kl_to_base(now.mean, before.mean, now.sigma)
        return learned, terms


def heard(config: Config, parts: Base, classes: tuple[str, ...]) -> tuple[Tensor, Tensor | None]:
    """What the UNet hears of each class, or of all, and its silence where guidance asks for it."""
    named = "{label}" in config.prompt
    prompts = [config.prompt.format(label=label) for label in classes] if named else [config.prompt]
    return embedded(parts, prompts), embedded(parts, [""]) if config.guidance > 1 else None


def advantages(config: Config, run: Run, tracker: policy.PromptTracker, worth: Tensor, labels: Tensor) -> Tensor:
    """(b, G) of rewards (b, G), compared with those of all processes."""
    baseline = config.baseline
    if baseline == "auto":
        baseline = "group" if config.method == "ddpo-branch" else "global"
    every, asked = run.gather(worth), run.gather(labels)
    mine = slice(run.rank * len(worth), (run.rank + 1) * len(worth))
    if baseline == "prompt":
        prompts = [config.prompt.format(label=int(label)) for label in asked for _ in range(every.shape[1])]
        return tracker.update(prompts, every.flatten()).view_as(every)[mine]
    return policy.advantages(every, baseline)[mine]


def means(rewards: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"reward_{name}": values.detach().mean() for name, values in rewards.items()}


if __name__ == "__main__":
    try:
        main(resumed(tyro.cli(Config, description=__doc__)))
    except (OSError, ValueError) as error:  # no such data or weights, no network, a full disk
        sys.exit(f"lens: {' '.join(str(error).split())}")
