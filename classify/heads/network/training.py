"""The training loop: batches through a network, its loss and penalties, validation after each epoch, best epoch kept.

What is trained is an `nn.Module` that gives logits; where its input comes from, what its penalties are and what it is
part of is its callers' business. The same settings and seed on the same machine give the same weights.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from classify.heads.estimator import FitError
from classify.heads.network.batches import Inputs, channels_last, even_batches, read_ahead
from classify.heads.network.checkpoint import Checkpoint, RunState, Tensors
from classify.heads.network.logits import autocast, logits_of
from classify.heads.network.optimising import Optimizer, build_optimizer, rate_factor
from classify.heads.network.progress import Epoch, Progress
from classify.heads.network.settings import TrainingSettings
from classify.heads.regularizers.protocol import Regularizer, Step
from classify.measure.intervals import macro_f1
from features.memory import keep_freed_memory

_ROUNDS = 10


@dataclass(frozen=True)
class Labelled:
    """Rows to feed and their class numbers, int64 (N,)."""

    source: Inputs
    codes: np.ndarray


@dataclass(frozen=True)
class Trainee:
    """What is trained. module: the network whose state is kept. forward: input -> (logits, observed outputs), over the
    module's parameters. fast: names of parameters that learn `head_multiple` times as fast. normalisation: names of
    parameters of batch norm and its kin. still: paths of modules in `forward` that stay in eval mode.
    stages_above: for names of parameters, how many stages that train lie above theirs, where that matters."""

    module: nn.Module
    forward: nn.Module
    fast: frozenset[str] = frozenset()
    normalisation: frozenset[str] = frozenset()
    still: frozenset[str] = frozenset()
    penalties: tuple[Regularizer, ...] = ()
    observes: tuple[tuple[int, ...], ...] = ()
    stages_above: Mapping[str, int] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Everything that trains, the parameters that penalties bring along included."""
        yield from self.module.named_parameters()
        for number, penalty in enumerate(self.penalties):
            yield from ((f"penalty {number}.{name}", value) for name, value in penalty.named_parameters())

    def tensors(self) -> Tensors:
        """The whole state by name."""
        tensors = {f"module.{name}": tensor for name, tensor in self.module.state_dict().items()}
        for number, penalty in enumerate(self.penalties):
            tensors |= {f"penalty{number}.{name}": tensor for name, tensor in penalty.state_dict().items()}
        return tensors

    def set_training(self, freeze_normalisation: bool) -> None:
        """Training mode; frozen batch norms use and keep the statistics that they have, and so does what stands
        still."""
        self.forward.train()
        for path, part in self.forward.named_modules():
            frozen = freeze_normalisation and isinstance(part, nn.modules.batchnorm._NormBase)
            if frozen or path in self.still:
                part.eval()


class WithNothingSeen(nn.Module):
    """Logits and no observed outputs, as the training loop takes them."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, tuple]:
        """Logits (N, K), and nothing."""
        return self.module(images), ()


@dataclass(eq=False, repr=False)
class Trainer:
    """Trains one `Trainee` on labelled rows; `run` does it all, `predict` gives logits. last_epoch: the one that the
    training ends after, with the learning rates of the whole schedule; by default its last."""

    trainee: Trainee
    data: Labelled
    settings: TrainingSettings
    _: KW_ONLY
    precision: str
    validation: Labelled | None = None
    checkpoint: Checkpoint | None = None
    on_epoch: Callable[[Epoch], None] | None = None
    last_epoch: int | None = None

    def __post_init__(self) -> None:
        self.per_epoch = len(even_batches(np.arange(len(self.data.codes)), self.settings.batch_size))
        self.steps = self.settings.steps or self.settings.epochs * self.per_epoch
        self.epochs = math.ceil(self.steps / self.per_epoch)
        self.end = min(self.steps, (self.last_epoch or self.epochs) * self.per_epoch)
        self.progress = Progress()
        self._write_seconds, self._written, self._new_best = 0.0, time.perf_counter(), False

    def run(self) -> Progress:
        """Train from the start or from the checkpoint, and leave the best epoch's weights in the trainee.

        Without validation, and with a fixed number of steps, these are the last ones. Raises FitError when the loss
        is no longer finite and when memory runs out.
        """
        frozen = self.settings.batch_norm == "freeze"
        for name, parameter in self.trainee.module.named_parameters():
            if frozen and name in self.trainee.normalisation:
                parameter.requires_grad_(False)
        optimizer = build_optimizer(
            self.settings,
            self.trainee.named_parameters(),
            self.trainee.fast,
            self.trainee.normalisation,
            self.trainee.stages_above,
        )
        self._resume(optimizer)
        if self.trainee.device.type == "cpu":
            keep_freed_memory()
        devices = [self.trainee.device] if self.trainee.device.type == "cuda" else []
        # A run of very many short epochs (few images, fixed steps) is looked at ten times, not after each.
        stride = max(1, self.epochs // _ROUNDS) if self.settings.steps else 1
        with torch.random.fork_rng(devices=devices):
            while self.progress.step < self.end and not self.progress.stopped_early:
                last = min(self.end, (self.progress.step // self.per_epoch + stride) * self.per_epoch)
                self._round(optimizer, last, frozen)
        self.trainee.forward.eval()
        if self.progress.best is not None:
            self._load(self.progress.best)
        return self.progress

    def _round(self, optimizer: Optimizer, last: int, frozen: bool) -> None:
        """Train up to the step `last`, validate, keep what is best, write the checkpoint."""
        started, first = time.perf_counter(), self.progress.step
        self.trainee.set_training(frozen)
        loss, penalty, rate = self._train_to(optimizer, last)
        scores = self._validate()
        self.progress.step = last
        number = math.ceil(last / self.per_epoch)
        # The last step may have broken the weights after its own loss was still finite.
        sound = (
            scores[0] if scores else sum(weight.detach().double().sum() for weight in self.trainee.module.parameters())
        )
        self._stop_unless_finite(sound, number - 1, last - 1, rate)
        count = last - first
        seconds = time.perf_counter() - started
        record = Epoch(number, last, loss / count, penalty / count, rate, seconds, *scores)
        self.progress.history.append(record)
        improved = self._keep_best(record)
        if self.settings.patience and number - self.progress.best_epoch >= self.settings.patience:
            self.progress.stopped_early = True
        self._write(optimizer, number, improved)
        if self.on_epoch:
            self.on_epoch(record)

    def _train_to(self, optimizer: Optimizer, last: int) -> tuple[float, float, float]:
        """The sums of losses and penalties over the steps up to `last`, and the learning rate of the last."""
        device, settings = self.trainee.device, self.settings
        total = torch.zeros((), device=device)
        penalties = torch.zeros((), device=device)
        plan = self._plan(self.progress.step, last)
        # Reading the loss waits for the device, which costs nothing on a CPU.
        patience = 1 if device.type == "cpu" else 50
        inputs = read_ahead(self.data.source, [(rows, draw) for _, rows, draw in plan])
        for step, rows, _ in plan:
            epoch = step // self.per_epoch
            if step % self.per_epoch == 0:
                torch.manual_seed(_mixed(settings.seed, epoch))
            factor = rate_factor(settings.schedule, step, self.steps, epoch, self.epochs)
            rate = settings.learning_rate * factor
            codes = torch.from_numpy(self.data.codes[rows]).to(device)
            taken = self._step(inputs, codes, optimizer, rate)
            if taken is None:
                raise self._out_of_memory(rows, codes, optimizer)
            total += taken[0]
            penalties += taken[1]
            if (step + 1) % patience == 0 or step + 1 == last:
                self._stop_unless_finite(total + penalties, epoch, step, rate)
        return float(total), float(penalties), rate

    def _step(
        self, inputs: Iterator[torch.Tensor], codes: torch.Tensor, optimizer: Optimizer, rate: float
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The loss and the penalty of one step; None where memory ran out, which is free again once the frames of the
        pass that failed are left."""
        try:
            batch = next(inputs)
            loss, penalty = self._losses(batch, codes)
            (loss + penalty).backward()
            optimizer.step(rate)
            for regularizer in self.trainee.penalties:
                regularizer.stepped(channels_last(batch), codes)
        except torch.OutOfMemoryError:
            return None
        return loss.detach(), penalty.detach()

    def _losses(self, batch: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        batch = channels_last(batch)
        with autocast(self.trainee.device, self.precision):
            logits, seen = self.trainee.forward(batch)
        logits = logits.float()
        loss = cross_entropy(logits, codes, label_smoothing=float(self.settings.label_smoothing))
        total = torch.zeros((), device=logits.device)
        for penalty, places in zip(self.trainee.penalties, self.trainee.observes, strict=True):
            total = total + penalty(Step(batch, logits, codes, tuple(seen[place] for place in places)))
        return loss, total

    def _plan(self, first: int, last: int) -> list[tuple[int, np.ndarray, np.random.Generator]]:
        """Step, rows and generator of each batch from `first` to `last`; each epoch has an order of its own."""
        plan = []
        for epoch in range(first // self.per_epoch, math.ceil(last / self.per_epoch)):
            order = np.random.default_rng([self.settings.seed, epoch]).permutation(len(self.data.codes))
            for place, rows in enumerate(even_batches(order, self.settings.batch_size)):
                step = epoch * self.per_epoch + place
                if first <= step < last:
                    plan.append((step, rows, np.random.default_rng([self.settings.seed, epoch, place])))
        return plan

    def _stop_unless_finite(self, value: torch.Tensor | float, epoch: int, step: int, rate: float) -> None:
        if math.isfinite(float(value)):
            return
        advice = f"--lr {self.settings.learning_rate / 10:g}"
        advice += ", --train-precision float32" if self.precision != "float32" else ""
        advice += ", a weaker --regularizer" if self.trainee.penalties else ""
        raise FitError(
            f"the loss is no longer a finite number in epoch {epoch + 1} (step {step + 1}), at a learning rate of "
            f"{rate:g}; try {advice}"
        )

    def _out_of_memory(self, rows: np.ndarray, codes: torch.Tensor, optimizer: Optimizer) -> FitError:
        device, source = self.trainee.device, self.data.source

        def attempt(size: int) -> None:
            optimizer.forget_gradients()
            if device.type == "cuda":
                torch.cuda.empty_cache()
            loss, penalty = self._losses(source.prepare(source.read(rows[:size])), codes[:size])
            (loss + penalty).backward()

        # Batch norm that trains takes no batch of one image.
        norms = (part for part in self.trainee.forward.modules() if isinstance(part, nn.modules.batchnorm._NormBase))
        smallest = 2 if any(part.training for part in norms) else 1
        fits = largest_fitting(attempt, len(codes), smallest)
        few = "one image fits" if smallest == 1 else "two images fit"
        way_out = f"--batch-size {fits} fits" if fits else f"not even {few}; take a smaller --image-size"
        return FitError(f"a batch of {len(codes)} does not fit into the memory of {device}; {way_out}")

    def _validate(self) -> tuple[float, float, float] | tuple[()]:
        """(log loss, accuracy, macro F1) on the validation rows."""
        if self.validation is None:
            return ()
        codes = self.validation.codes
        logits = self.predict(self.validation.source)
        loss = float(cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(codes)))
        predicted = logits.argmax(axis=1)
        classes = logits.shape[1]
        counts = [np.bincount(which, minlength=classes) for which in (codes[codes == predicted], predicted, codes)]
        return loss, float((predicted == codes).mean()), float(macro_f1(*counts))

    def predict(self, source: Inputs) -> np.ndarray:
        """Logits (N, K), float32, in eval mode."""
        return logits_of(lambda batch: self.trainee.forward(batch)[0], self.trainee, source, self.precision)

    def _keep_best(self, record: Epoch) -> bool:
        if record.validation_accuracy is None or record.validation_loss is None or self.settings.steps:
            self.progress.best_epoch = record.epoch
            return False
        score = (record.validation_accuracy, -record.validation_loss)
        if score[0] <= self.progress.best_score[0] and not (
            score[0] == self.progress.best_score[0] and score[1] > self.progress.best_score[1]
        ):
            return False
        self.progress.best_score, self.progress.best_epoch = score, record.epoch
        self.progress.best = {name: value.detach().clone() for name, value in self.trainee.tensors().items()}
        return True

    def _load(self, tensors: Tensors) -> None:
        trained = self.trainee.tensors()
        with torch.no_grad():
            for name, tensor in tensors.items():
                trained[name].copy_(tensor)

    def _resume(self, optimizer: Optimizer) -> None:
        state = self.checkpoint.load() if self.checkpoint else None
        if self.checkpoint is None or state is None:
            return
        try:
            self._restore(optimizer, state)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise self.checkpoint.damaged(f"it holds no state of this run, {type(error).__name__}: {error}") from error

    def _restore(self, optimizer: Optimizer, state: RunState) -> None:
        weights = {name: tensor for name, tensor in state.tensors.items() if not name.startswith("optimizer.")}
        self._load(weights)
        prefix = "optimizer."
        optimizer.restore(
            {name.removeprefix(prefix): tensor for name, tensor in state.tensors.items() if name.startswith(prefix)},
        )
        self.progress.restore(state.values, state.best)

    def _write(self, optimizer: Optimizer, number: int, improved: bool) -> None:
        self._new_best |= improved
        now = time.perf_counter()
        done = self.progress.step >= self.end or self.progress.stopped_early
        # Writing takes at most a tenth of the time: epochs of a second are not all worth keeping.
        if self.checkpoint is None or (now - self._written < 10 * self._write_seconds and not done):
            return
        tensors = self.trainee.tensors()
        tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer.tensors().items()}
        self.checkpoint.save(number, RunState(tensors, self.progress.best, self.progress.values()), self._new_best)
        self._new_best = False
        self._written = time.perf_counter()
        self._write_seconds = self._written - now


def largest_fitting(attempt: Callable[[int], None], size: int, smallest: int = 1) -> int:
    """The largest of size/2, size/4, ..., `smallest` at least, for which `attempt` does not run out of memory; 0 where
    none is."""
    while (size := size // 2) >= smallest:
        with contextlib.suppress(torch.OutOfMemoryError):
            attempt(size)
            return size
    return 0


def _mixed(seed: int, epoch: int) -> int:
    """One number for a seed and an epoch, without the regularities of their sum."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
