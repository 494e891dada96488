"""What every training script needs around its step, on accelerate: a script calls, nothing calls back.

    run = Run(config.run, config)
    model, optimizer, schedule, loader = run.prepare(model, optimizer, schedule, loader)
    for batch in run.batches(loader):
        with run.accumulate(model):
            run.descend({"l1": l1, "tv": tv}, optimizer)
        run.log(l1=l1, tv=tv)
    run.export(model)

The folder of a run: config.json, command.txt, log.jsonl, checkpoints/step_*, samples/*.png, tensorboard/, export/.

step: optimizer steps done, counted when the `with run.accumulate` that completes one is left.
position: micro-batches drawn. The rows and the random numbers of a micro-batch follow from (seed, position,
rank), so a resumed run continues bit for bit on the CPU, in the middle of an epoch too, and no generator's
state has to be saved.
"""

import copy
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from math import inf, isfinite
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from . import checkpoint
from .config import RunConfig, write_config
from .ema import EMA
from .journal import Journal
from .launch import launched
from .order import Order, ordered, sow
from .stop import Stop


class Run:
    """One training run of any number of networks and optimizers (accelerate's FSDP2 allows one network)."""

    def __init__(self, config: RunConfig, script_config: Any) -> None:
        """Claim the folder, write `config.json`, find the processes and seed everything.

        Args:
            script_config: the script's whole configuration, a dataclass.

        Raises:
            Stop: the folder holds another run, or nothing to resume, or processes are missing.
        """
        self.config, self.out = config, Path(config.out)
        self.step = self.position = 0
        self._checkpoints = self.out / "checkpoints"
        start = self._starting_step()
        self._accelerator = launched(config)
        self.device, self.is_main = self._accelerator.device, self._accelerator.is_main_process
        self.rank = self._accelerator.process_index
        if self.is_main:
            with checkpoint.on_disk(self.out):
                self._checkpoints.mkdir(parents=True, exist_ok=True)
                write_config(script_config, self.out)
                with (self.out / "command.txt").open("a") as file:  # one line for each launch
                    file.write(shlex.join(sys.argv) + "\n")
        self._journal = Journal(self._accelerator, self.out, asdict(script_config), start)
        self._blanks: list[nn.Module] = []
        self._networks: list[nn.Module] = []
        self._averages: list[EMA] = []
        self._optimizers: list[Optimizer] = []
        self._others: list[Any] = []
        self._best: dict[str, float] | None = None
        self._new_best = self._signalled = False
        self._before = 0
        sow(config.seed)

    def prepare(self, *objects: Any) -> Any:
        """Put everything on its device, and where the last checkpoint left it. Call it once, before the loop.

        Args:
            objects: networks, optimizers, data loaders (the run decides their order, see order.py), and what
                else has a `state_dict()` of JSON values. Schedules are stepped along with their optimizer.

        Returns:
            The same objects in the same order, ready for use; not a tuple if there is but one.
        """
        # Whole networks on the CPU, for export: under FSDP2 the prepared ones are sharded.
        if self.is_main:
            self._blanks = [copy.deepcopy(item) for item in objects if isinstance(item, nn.Module)]
        self._optimizers = [item for item in objects if isinstance(item, Optimizer)]
        trained = [item for item in objects if isinstance(item, (nn.Module, Optimizer))]
        # One call for all: FSDP2 has to see a network together with its optimizer. Not the schedules: a
        # prepared one takes a step for each process.
        result = self._accelerator.prepare(*trained)
        moved = iter(result if len(trained) > 1 else [result])
        ready: list[Any] = []
        for item in objects:
            if isinstance(item, (nn.Module, Optimizer)):
                ready.append(next(moved))
            elif isinstance(item, DataLoader):
                rank, processes = self._accelerator.process_index, self._accelerator.num_processes
                ready.append(ordered(item, self.config.seed, rank, processes))
            else:
                self._others.append(item)
                ready.append(item)
        networks = [item for item in ready if isinstance(item, nn.Module)]
        self._networks = [self._accelerator.unwrap_model(item) for item in networks]
        if self.config.ema:
            self._averages = [EMA(network, self.config.ema) for network in self._networks]
        if self.config.resume:
            self._load()
        return ready[0] if len(ready) == 1 else tuple(ready)

    def batches(self, loader: DataLoader) -> Iterator[Any]:
        """Batches on the device until `steps` steps are done; logs and saves between them.

        SIGTERM or Ctrl-C finishes the batch, saves and exits with 0; a second Ctrl-C interrupts at once.
        """
        if not isinstance(loader.batch_sampler, Order):
            raise ValueError("give batches() the loader that prepare() returned")
        loader.batch_sampler.position = self.position
        rows = loader.batch_sampler.batch * self._accelerator.num_processes
        if self.step >= self.config.steps:
            return  # killed after the last step, before the export
        numbers = (signal.SIGTERM, signal.SIGINT)
        handlers = {number: signal.signal(number, self._on_signal) for number in numbers}
        self._journal.open_bar(self.step, self.config.steps)
        try:
            for batch in loader:
                self._before = self.step
                sow(self.config.seed, self.position, self._accelerator.process_index)
                yield send_to_device(batch, self.device, non_blocking=True)
                self.position += 1
                self._journal.advance(self.step - self._before, rows)
                self._between()
                if self.step >= self.config.steps:
                    return
        finally:
            self._journal.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    @contextmanager
    def accumulate(self, *models: nn.Module) -> Iterator[None]:
        """Around all that one batch does to these networks; counts the step and moves their averages.

        A batch may pass through several such blocks (inner epochs of RL): each is a micro-batch of a step.
        """
        with self._accelerator.accumulate(*models):
            yield
        if self._accelerator.sync_gradients:
            self.step += 1
            for model in models:
                if self._averages:
                    self._average_of(model).update(self._accelerator.unwrap_model(model))

    def descend(self, loss: Tensor | Mapping[str, Tensor], optimizer: Optimizer) -> None:
        """Backward; at the end of a step clip, step the optimizer and its schedules, clear its gradients.

        Args:
            loss: a scalar, or the terms whose sum is the loss, so that an error can name the guilty one.
            optimizer: as `prepare` returned it.

        Raises:
            Stop: the loss or a gradient is not finite; the weights and checkpoints have not been touched.
        """
        terms = loss if isinstance(loss, Mapping) else {"loss": loss}
        self._accelerator.backward(torch.stack([*terms.values()]).sum())
        if not self._accelerator.sync_gradients:
            return
        self._accelerator.unscale_gradients(optimizer)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.config.clip or inf)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        self._guard(terms, norm)
        raw = getattr(optimizer, "optimizer", None)  # inside accelerate's wrapper
        index = next(i for i, own in enumerate(self._optimizers) if own is raw)
        rate = float(optimizer.param_groups[0]["lr"])
        self._journal.add({_numbered("lr", index): rate, _numbered("gradient_norm", index): norm})
        optimizer.step()
        if not self._accelerator.optimizer_step_was_skipped:
            for other in self._others:
                if getattr(other, "optimizer", None) is raw:
                    other.step()
        optimizer.zero_grad()

    def log(self, **values: Tensor | float) -> None:
        """Report scalars. They stay on the device until their mean is written, every `log_every` steps."""
        self._journal.add(values)

    def gather(self, values: Tensor) -> Tensor:
        """Rows of all processes, in the order of their ranks; the same on each."""
        rows: Any = self._accelerator.gather(values)
        return rows

    def log_images(self, name: str, image: Tensor) -> None:
        """Write `samples/{name}_{step}.png` and to the trackers. image: (3, H, W) sRGB in [0, 1]; clamped."""
        self._journal.write_image(name, image, self.step)

    def every(self, steps: int) -> bool:
        """Whether this batch completed a multiple of `steps`, or the last step; never for 0."""
        if steps == 0 or self.step == self._before:
            return False
        return self.step // steps > self._before // steps or self.step >= self.config.steps

    @contextmanager
    def averaged(self, model: nn.Module) -> Iterator[Any]:
        """The bare network with its averaged weights, in eval mode and without gradients."""
        network = self._accelerator.unwrap_model(model)
        training = network.training
        average = self._average_of(model).swapped(network) if self._averages else nullcontext()
        with average, torch.no_grad():
            network.eval()
            try:
                yield network
            finally:
                network.train(training)

    def score(self, value: float) -> None:
        """How good the averaged weights are; higher is better. The best, the latest of equals, are saved after this
        batch."""
        self._journal.add({"score": value})
        if self._best is None or value >= self._best["score"]:
            self._best, self._new_best = {"step": self.step, "score": float(value)}, True

    def export(self, model: nn.Module, folder: str = "export") -> Path:
        """Save the averaged weights of the best checkpoint, or of the last one where nothing was scored.

        Args:
            model: one with `save_pretrained`, as `prepare` returned it.

        Returns:
            The folder inside `out`, with config.json and model.safetensors.
        """
        target = self.out / folder
        if self.is_main:
            index = self._index_of(model)
            source = checkpoint.folder_of(self._checkpoints, int((self._best or {"step": self.step})["step"]))
            tensors, _ = checkpoint.read(source)
            blank: Any = self._blanks[index]
            kind = "average" if self._averages else "model"
            checkpoint.load_weights(blank, tensors[f"{kind}_{index}"], source)
            scratch = target.with_name(target.name + ".tmp")
            with checkpoint.on_disk(target):
                shutil.rmtree(scratch, ignore_errors=True)
                blank.save_pretrained(scratch)
                shutil.rmtree(target, ignore_errors=True)
                scratch.rename(target)
        self._accelerator.wait_for_everyone()
        return target

    def _starting_step(self) -> int:
        steps, out = checkpoint.steps_in(self._checkpoints), self.config.out
        if self.config.resume:
            if not steps:
                raise Stop(f"{out} has no checkpoint to resume from")
            if steps[-1] >= self.config.steps and (self.out / "export").exists():
                raise Stop(f"{out} is finished: {self.config.steps} steps are done and in {out}/export")
            return steps[-1]
        if steps:
            raise Stop(f"{out} already holds a run: go on with --resume {out}, or choose another --run.out")
        return 0

    def _between(self) -> None:
        """After each batch, on all processes together: log, save, leave."""
        if not self._accelerator.sync_gradients:
            return  # half a step: its gradients are in no checkpoint
        signalled, new_best = self._any(self._signalled, self._new_best and self.is_main)
        save = signalled or new_best or self.every(self.config.save_every)
        if save or self.every(self.config.log_every):
            self._journal.write(self.step)
        if save:
            self.save()
        if signalled and self.step < self.config.steps:
            raise SystemExit(0)

    def _any(self, *flags: bool) -> list[bool]:
        """Whether any process raised the flag; all must agree, because saving is a joint effort."""
        if self._accelerator.num_processes == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.float32, device=self.device)
        total: Any = self._accelerator.reduce(raised, "sum")
        return [value > 0 for value in total.tolist()]

    def save(self) -> None:
        """A checkpoint of the last step that is complete; those after each batch need no asking for."""
        tensors: dict[str, checkpoint.Tensors] = {}
        optimizers = []
        for i, network in enumerate(self._networks):
            tensors[f"model_{i}"] = checkpoint.weights(network)
        for i, average in enumerate(self._averages):
            tensors[f"average_{i}"] = checkpoint.whole(average.weights)
        for i, optimizer in enumerate(self._optimizers):
            tensors[f"optimizer_{i}"], rest = checkpoint.optimizer_state(optimizer)
            optimizers.append(rest)
        state = {
            "step": self.step,
            "position": self.position,
            "processes": self._accelerator.num_processes,
            "seconds": self._journal.seconds,
            "best": self._best,
            "averages": [average.updates for average in self._averages],
            "optimizers": optimizers,
            "others": [other.state_dict() for other in self._others],
            "scaler": self._accelerator.scaler.state_dict() if self._accelerator.scaler else None,
        }
        self._new_best = False
        if self.is_main and self.step not in checkpoint.steps_in(self._checkpoints):
            checkpoint.write(checkpoint.folder_of(self._checkpoints, self.step), tensors, state)
            best = int(self._best["step"]) if self._best else self.step
            every = self.config.keep_every
            kept = {step for step in checkpoint.steps_in(self._checkpoints) if every and step % every == 0}
            checkpoint.prune(self._checkpoints, kept | {best, self.step})
        self._accelerator.wait_for_everyone()

    def _load(self) -> None:
        source = checkpoint.folder_of(self._checkpoints, checkpoint.steps_in(self._checkpoints)[-1])
        tensors, state = checkpoint.read(source)
        made_by = (state["processes"], len(state["averages"]), len(state["optimizers"]), len(state["others"]))
        now = (self._accelerator.num_processes, len(self._averages), len(self._optimizers), len(self._others))
        if made_by != now:
            names = "processes, averages, optimizers, schedules"
            raise Stop(f"{source} is of a run with other ({names}): {made_by} there, {now} here")
        for i, network in enumerate(self._networks):
            checkpoint.load_weights(network, tensors[f"model_{i}"], source)
        for i, average in enumerate(self._averages):
            average.load(tensors[f"average_{i}"], state["averages"][i])
        for i, optimizer in enumerate(self._optimizers):
            checkpoint.load_optimizer(optimizer, tensors[f"optimizer_{i}"], state["optimizers"][i], source)
        for other, saved in zip(self._others, state["others"], strict=True):
            other.load_state_dict(saved)
        if self._accelerator.scaler and state["scaler"]:
            self._accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.position, self._best = state["step"], state["position"], state["best"]
        self._journal.seconds = state["seconds"]

    def _guard(self, terms: Mapping[str, Tensor], norm: Tensor) -> None:
        finite = torch.stack([value.detach().float().isfinite() for value in [*terms.values(), norm]])
        if finite.all():  # the only wait for the device in a step
            return
        values = {name: float(value.detach()) for name, value in terms.items()}
        bad = [f"{name} is {value:g}" for name, value in values.items() if not isfinite(value)]
        if not bad and self._accelerator.scaler:
            return  # fp16 overflow: the scaler skips this step and halves its scale
        where = ", ".join(bad) or f"the gradient norm is {float(norm):g}"
        raise Stop(
            f"step {self.step + 1}: {where}. Nothing was updated or saved. Try a lower learning rate or "
            "--run.precision no; the checkpoints before this step are whole"
        )

    def _index_of(self, model: nn.Module) -> int:
        network = self._accelerator.unwrap_model(model)
        return next(i for i, own in enumerate(self._networks) if own is network)

    def _average_of(self, model: nn.Module) -> EMA:
        return self._averages[self._index_of(model)]

    def _on_signal(self, number: int, frame: Any) -> None:
        self._signalled = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _numbered(name: str, index: int) -> str:
    """The first optimizer's values have the plain name."""
    return f"{name}_{index}" if index else name
