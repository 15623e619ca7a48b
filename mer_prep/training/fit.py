"""The training loop, all of it in sight.

What a step sees is a function of the seed, the fold and the number of the step, and of nothing
else: there is no state of random generators to keep, and a resumed run goes on exactly as if it
had never stopped.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mer_prep.dataset import Batch, ClipSource
from mer_prep.errors import TrainingError
from mer_prep.models.output import ModelOutput
from mer_prep.store import disk
from mer_prep.store.text import write_atomic
from mer_prep.training.checkpoints import load_model, read_facts, resume, save_checkpoint
from mer_prep.training.distributed import mean_over_all
from mer_prep.training.loading import Draw, View, batches
from mer_prep.training.machine import Machine, memory_errors
from mer_prep.training.methods import Method, Stretch
from mer_prep.training.recipes import TrainingSettings
from mer_prep.training.seeds import seed_of
from mer_prep.training.selection import Evaluation, best_evaluation, evaluation_facts
from mer_prep.training.solving import has_stepped, solve

__all__ = ["Machine", "Trial", "View", "fit", "make_optimiser", "predict", "rate_at", "seed_of"]


#: In the folder of a fold whose loss was no number: the step, and the clips that it drew.
STOPPED = "stopped.json"


@dataclass(frozen=True)
class Trial:
    """How the step of a training is chosen: the model is tried after some of them.

    Parameters
    ----------
    steps : frozenset of int
        Steps, from 1, after which the model is tried.
    kind : str
        See `mer_prep.training.selection.best_evaluation`.
    measure : callable
        Returns score and loss of the model as it is.
    """

    steps: frozenset[int]
    kind: str
    measure: Callable[[nn.Module], tuple[float, float]]


def make_optimiser(
    model: nn.Module, settings: TrainingSettings, *, rates: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """Return the optimiser that settings name.

    Parameters
    ----------
    model : nn.Module
        The model.
    settings : TrainingSettings
        How it is trained.
    rates : mapping of str to float, optional
        Factors of the learning rate by the first names of parameters. Each group of the optimiser
        has its factor under ``factor``.
    """
    by_factor: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        factor = (rates or {}).get(name.partition(".")[0], 1.0)
        by_factor.setdefault(factor, []).append(parameter)
    groups = [{"params": one, "factor": factor} for factor, one in by_factor.items()]
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimiser == "sgd":
        return torch.optim.SGD(groups, rate, momentum=settings.momentum, weight_decay=decay)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimiser]
    return kind(groups, lr=rate, weight_decay=decay)


def rate_at(step: int, settings: TrainingSettings) -> float:
    """Return the learning rate of a step."""
    before = step < settings.pre_steps
    rate = (settings.pre_learning_rate if before else 0) or settings.learning_rate
    if settings.schedule == "cosine":
        return rate * 0.5 * (1 + math.cos(math.pi * step / settings.all_steps))
    every = settings.pre_decay_steps if before else settings.decay_steps
    if settings.schedule == "step" and every:
        return rate * settings.decay ** ((step if before else step - settings.pre_steps) // every)
    return rate


def fit(
    model: nn.Module,
    method: Method,
    store: ClipSource,
    clip_ids: Sequence[str],
    view: View,
    settings: TrainingSettings,
    machine: Machine,
    *,
    name: str,
    seed: int,
    checkpoint: Path | None = None,
    facts: dict[str, Any] | None = None,
    trial: Trial | None = None,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
) -> list[Evaluation]:
    """Train a model.

    Parameters
    ----------
    model : nn.Module
        The model, on the machine's device.
    method : Method
        What is minimised, and on which samples.
    store : ClipSource
        The clips.
    clip_ids : sequence of str
        Clips to train on.
    view : View
        How samples become what the model takes.
    settings : TrainingSettings
        How it is trained.
    machine : Machine
        Where. If several processes train together, only the first writes.
    name : str
        Name of the fold; part of the seed of every step.
    seed : int
        The seed.
    checkpoint : Path, optional
        Where to keep, and find, the state of an unfinished training.
    facts : dict, optional
        What the checkpoint belongs to.
    trial : Trial, optional
        How the step is chosen whose weights the model has in the end; the last one without it.
        It needs a `checkpoint`, beside which the best weights so far are kept.
    on_step : callable
        Called after every step with its number, from 1, and its losses by name.

    Returns
    -------
    list of Evaluation
        How the model did whenever it was tried.

    Raises
    ------
    TrainingError
        If the loss or its gradient is no number, or memory is short.
    """
    facts = {} if facts is None else facts
    stopped = None if checkpoint is None else checkpoint.with_name(STOPPED)
    if stopped is not None and machine.rank == 0 and stopped.is_file():
        disk.remove(stopped)
    optimiser = make_optimiser(model, settings, rates=method.rates(settings))
    weights = method.weights(settings)

    def conclude() -> None:
        method.conclude(model, store, clip_ids, view, machine, name=name, seed=seed)

    begin, tried = 0, _Tried(trial, checkpoint, facts, conclude)
    if checkpoint is not None and checkpoint.is_file():
        stepped = has_stepped(method.stretches(settings), read_facts(checkpoint)[0])
        begin, found = resume(checkpoint, model, optimiser if stepped else None, expected=facts)
        tried.recall(found)
    stretches = method.stretches(settings)
    step_losses = _Losses(model, method, machine, steady=len(stretches) == 1)
    draw = Draw((), view, settings.batch, name, seed)
    steps = _steps(method, store, clip_ids, draw, settings, machine, begin)
    model.train()
    with machine.settled():
        for step, stretch, drawn, batch in steps:
            if stretch.fresh and drawn.first == step:
                optimiser.state.clear()
            for group in optimiser.param_groups:
                group["lr"] = group["factor"] * rate_at(step, settings)
            torch.manual_seed(_dropout_seed(seed, name, step, machine))
            if batch is None:
                losses = solve(model, method, store, drawn, stretch, machine)
            else:
                with _memory_for(batch):
                    losses = step_losses(batch, stretch.objective)
                    optimiser.zero_grad(set_to_none=True)
                    _check_finite(losses, step, drawn, store, stopped)
                    _weighted(losses, weights).backward()
                    _limit_gradient(model, settings, step, drawn, store, stopped)
                    optimiser.step()
            on_step(step + 1, mean_over_all(losses, machine.world))
            tried.after(step + 1, model)
            last = step + 1 == settings.all_steps
            due = machine.checkpoint_every and (step + 1) % machine.checkpoint_every == 0
            if checkpoint is not None and machine.rank == 0 and (last or due):
                state = facts | tried.facts()
                save_checkpoint(checkpoint, model, optimiser=optimiser, step=step + 1, facts=state)
                tried.forget_worse()
        tried.restore(model)
        conclude()
    return tried.evaluations


def _steps(
    method: Method,
    store: ClipSource,
    clip_ids: Sequence[str],
    draw: Draw,
    settings: TrainingSettings,
    machine: Machine,
    begin: int,
) -> Iterator[tuple[int, Stretch, Draw, Batch | None]]:
    """Yield every step that is left, its stretch, what it draws from, and its batch.

    What is solved has no batch: it takes all samples.
    """
    first = 0
    for stretch in method.stretches(settings):
        end = first + stretch.steps
        if begin < end:
            drawn_from = tuple(store.index) if stretch.everyone else clip_ids
            samples = store.samples(drawn_from, stretch.kind)
            labels = [store.clips[number].label for number, _ in samples]
            mine = dataclasses.replace(
                draw,
                samples=samples,
                by_clip=stretch.by_clip,
                episodes=stretch.episodes,
                first=first,
                labels=labels if stretch.balanced else None,
            )
            left = range(max(begin, first), end)
            if stretch.solved:
                yield from ((step, stretch, mine, None) for step in left)
            else:
                for step, batch in batches(store, mine, machine, left):
                    yield step, stretch, mine, batch
        first = end


class _LossesOf(nn.Module):
    """The losses of a model as one tensor, which is what several processes can share."""

    def __init__(self, model: Any, method: Method) -> None:
        super().__init__()
        self.model, self.method = model, method
        self.names: tuple[str, ...] = ()

    def forward(self, objective: str, *tensors: Tensor) -> Tensor:
        losses = self.method.losses(self.model, Batch(*tensors), objective)
        self.names = tuple(losses)
        return torch.stack(list(losses.values()))


class _Losses:
    """Computes the losses of a batch, compiled or in several processes if the machine says so."""

    def __init__(self, model: nn.Module, method: Method, machine: Machine, *, steady: bool) -> None:
        self.machine = machine
        # Compiled here, and not in place: trials and tests see other shapes, and would each time
        # be compiled anew.
        self._module = _LossesOf(torch.compile(model) if machine.compiled else model, method)
        self._compute: Callable[..., Tensor] = self._module
        if machine.world > 1:
            devices = [torch.device(machine.device)] if machine.cuda else None
            # Some parameters never take part; of a steady training it is always the same ones.
            self._compute = nn.parallel.DistributedDataParallel(
                self._module,
                device_ids=devices,
                static_graph=steady,
                find_unused_parameters=not steady,
            )

    def __call__(self, batch: Batch, objective: str) -> dict[str, Tensor]:
        with self.machine.autocast():
            losses = self._compute(objective, *batch.tensors())
        return dict(zip(self._module.names, losses, strict=True))


class _Tried:
    """The trials of a training so far, and the weights of the best, in a file of its step."""

    def __init__(
        self,
        trial: Trial | None,
        checkpoint: Path | None,
        facts: dict[str, Any],
        conclude: Callable[[], None],
    ) -> None:
        self.trial, self._checkpoint, self._facts = trial, checkpoint, facts
        self._conclude = conclude
        self.evaluations: list[Evaluation] = []

    def recall(self, facts: dict[str, Any]) -> None:
        self.evaluations = [Evaluation(**one) for one in facts.get("evaluations", ())]

    def facts(self) -> dict[str, Any]:
        return {"evaluations": evaluation_facts(self.evaluations)} if self.trial else {}

    def after(self, step: int, model: nn.Module) -> None:
        if self.trial is None or step not in self.trial.steps:
            return
        self._conclude()
        score, loss = self.trial.measure(model)
        model.train()
        self.evaluations.append(Evaluation(step, score, loss))
        if best_evaluation(self.evaluations, self.trial.kind).step == step:
            save_checkpoint(self._path(step), model, optimiser=None, step=step, facts=self._facts)

    def restore(self, model: nn.Module) -> None:
        """Give the model the best weights."""
        if self.trial is not None:
            best = best_evaluation(self.evaluations, self.trial.kind)
            load_model(self._path(best.step), model, expected=self._facts)

    def forget_worse(self) -> None:
        """Remove what the checkpoint just written no longer needs."""
        if self.trial is None or not self.evaluations:
            return
        kept = self._path(best_evaluation(self.evaluations, self.trial.kind).step)
        for path in kept.parent.glob("tried-*.safetensors"):
            if path != kept:
                disk.remove(path)

    def _path(self, step: int) -> Path:
        assert self._checkpoint is not None, "a trial keeps its best weights beside the checkpoint"
        return self._checkpoint.with_name(f"tried-{step}.safetensors")


def _dropout_seed(seed: int, name: str, step: int, machine: Machine) -> int:
    rank = (machine.rank,) if machine.rank else ()
    return seed_of("dropout", seed, name, step, *rank)


def _weighted(losses: dict[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    return torch.stack([weights[name] * one for name, one in losses.items()]).sum()


def _check_finite(
    losses: dict[str, Tensor], step: int, draw: Draw, store: ClipSource, stopped: Path | None
) -> None:
    bad = [name for name, one in losses.items() if not bool(torch.isfinite(one))]
    if bad:
        raise _not_finite(f"The loss '{bad[0]}'", step, draw, store, stopped)


def _limit_gradient(
    model: nn.Module,
    settings: TrainingSettings,
    step: int,
    draw: Draw,
    store: ClipSource,
    stopped: Path | None,
) -> None:
    """Clip the gradient if settings say so; refuse one that is no number in any case."""
    limit = settings.clip_gradient or math.inf
    norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
    if not bool(torch.isfinite(norm)):
        raise _not_finite("The gradient", step, draw, store, stopped)


def _not_finite(
    what: str, step: int, draw: Draw, store: ClipSource, stopped: Path | None
) -> TrainingError:
    """Return the error, and leave the clips of the step beside the checkpoint."""
    if stopped is not None and not draw.rank:
        facts = {"what": what, "fold": draw.name, "step": step + 1}
        facts["clips"] = draw.clips(store, step)
        write_atomic(stopped, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    return TrainingError(
        f"{what} is not a finite number in step {step + 1} of fold {draw.name}.",
        where=f"the clips of that step: {', '.join(draw.clips(store, step))}",
        why="the weights would be spoilt; nothing of this step was kept",
        hint="lower --learning-rate, or set --clip-gradient 1; look at these clips by "
        "`mer-prep inspect`",
    )


def _memory_for(batch: Batch) -> AbstractContextManager[None]:
    """Return the context in which too little memory for a batch is explained, with its shapes."""
    shapes = [
        f"{one.name} {list(tensor.shape)}"
        for one, tensor in zip(dataclasses.fields(batch), batch.tensors(), strict=True)
        if tensor is not None
    ]
    return memory_errors(f"a batch of {len(batch.labels)} samples ({', '.join(shapes)})")


@torch.no_grad()
def predict(
    model: nn.Module,
    method: Method,
    store: ClipSource,
    clip_ids: Sequence[str],
    view: View,
    machine: Machine,
    *,
    batch: int = 32,
) -> dict[str, list[tuple[ModelOutput, Batch]]]:
    """Return what a model gives for every sample of some clips, on centre crops.

    Parameters
    ----------
    model : nn.Module
        The model, on the machine's device.
    method : Method
        Whose model it is.
    store : ClipSource
        The clips.
    clip_ids : sequence of str
        Which.
    view : View
        How samples become what the model takes; its normalisation must not come from them.
    machine : Machine
        Where to compute.
    batch : int
        Samples at a time.

    Returns
    -------
    dict of str to list of (ModelOutput, Batch)
        One entry a sample, by clip id, on the CPU.
    """
    view.statistics.check_apart(clip_ids)
    model.eval()
    found: dict[str, list[tuple[ModelOutput, Batch]]] = {}
    for clip_id in clip_ids:
        samples = store.samples([clip_id])
        outputs = found.setdefault(clip_id, [])
        for start in range(0, len(samples), batch):
            given = view.centre(store.batch(samples[start : start + batch]))
            with _memory_for(given), machine.autocast():
                given = given.to(torch.device(machine.device))
                output = method.apply(model, given)
            outputs.append((output.on_cpu(), given.to(torch.device("cpu"))))
    return found
