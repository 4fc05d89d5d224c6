"""The trunk as it is run: batch norm folded, channels last, in the precision asked for, compiled where that pays.

What makes a difference to the last bits is fixed in a `Recipe` before the first image and kept with the files.
"""

import contextlib
import dataclasses
import importlib.metadata
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from extract.fusing import can_fuse, compute_apart, fuse_convolutions, grey_suffices, module_of, name_of, take_grey
from extract.levels import Levels
from extract.packing import can_pack, pack_products, without_identities
from extract.pooling import pool_output
from extract.quantising import quantise_convolutions
from extract.winograd import WORK_THAT_PAYS as WINOGRAD_PAYS
from extract.winograd import is_of_use, transforms
from features.cut import Cut
from features.device import require_byte_products
from features.errors import UserError
from features.memory import keep_freed_memory
from features.preprocessing import Preprocessing
from features.ranges import is_int8, require_ranges
from features.twins import own_parts, with_channels_last
from features.weights import all_finite

# Floating-point operations per processor core after which compiling has paid for itself, measured on two Zen 4 cores
# at 224 px: it takes about a minute there, and wins 15 % in bfloat16 and 20 to 30 % in float32. Where convolutions are
# fused, or products packed, without compiling it never does.
_WORK_THAT_PAYS = {"bfloat16": 7e13, "float16": 7e13, "float32": 2e13}


@dataclass(frozen=True)
class Output:
    """One thing to take from a pass: a node's output, pooled."""

    node: str
    pool: str


@dataclass(frozen=True)
class Recipe:
    """How a pass computes; equal recipes give equal bytes.

    threads: that compute one batch together. On a processor it is one, and each core has batches of its own: none waits
    for another at the end of every layer, and the bytes do not depend on how many there are. What is compiled takes all
    of them for each batch. grey: whether the network takes images as `take_grey` says.
    """

    engine: str
    precision: str
    batch: int
    threads: int
    device: str
    outputs: tuple[str, ...]
    versions: tuple[str, ...]
    grey: bool = False

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {**dataclasses.asdict(self), "outputs": list(self.outputs), "versions": list(self.versions)}

    def can_follow(self, begun: dict[str, Any] | None) -> bool:
        """Whether a pass that was begun with another recipe can be carried on here, by taking over its choices.

        What is no part of `fixed` can be chosen as it was; another processor, library or set of outputs cannot, nor can
        convolutions be fused where they would not be.
        """
        recipe = self.to_json()
        fixed = ("precision", "device", "outputs", "versions")
        if begun is None or not self._has(begun.get("engine")):
            return False
        return all(begun.get(name) == recipe[name] for name in fixed)

    def _has(self, engine: Any) -> bool:
        """Whether an engine that is named is to be had here; that of torch's own operations is, everywhere."""
        if engine == "winograd":
            return self.engine == "winograd" or (self.engine == "fused" and transforms() is not None)
        if engine == "fused":
            return self.engine in ("fused", "winograd")
        return engine != "packed" or self.engine == "packed"

    def streams(self, cores: int) -> int:
        """How many batches so many cores compute beside each other."""
        return max(1, cores // self.threads) if _batches_apart(self.device, self.engine) else 1

    def following(self, begun: dict[str, Any]) -> "Recipe":
        """This recipe with the choices of the one that was begun."""
        chosen = {name: begun[name] for name in ("engine", "batch", "threads")}
        return dataclasses.replace(self, **chosen, grey=begun.get("grey", False))


def _batches_apart(device: str, engine: str) -> bool:
    """Whether cores have batches of their own: not what is compiled, nor what a GPU computes."""
    return device.startswith("cpu") and engine != "compiled"


def choose_recipe(
    cut: Cut,
    outputs: Sequence[Output],
    *,
    images: int,
    precision: str,
    device: torch.device,
    compiled: str = "auto",
    grey: bool = False,
) -> Recipe:
    """The recipe for a pass over so many images. compiled is 'auto', 'on' or 'off'. grey: all have one channel."""
    cores = torch.get_num_threads()
    if is_int8(precision):
        require_byte_products(device, precision)
        if compiled == "on":
            raise UserError("--compile on: what is computed in int8 is not compiled; leave it out, or take --precision")
    onednn = device.type == "cpu" and precision in ("float32", "bfloat16")
    fuses = onednn and can_fuse(cut.model, getattr(torch, precision))
    packs = onednn and can_pack(cut.model, getattr(torch, precision))
    engine = "quantised" if is_int8(precision) else "fused" if fuses else "packed" if packs else "eager"
    if compiled == "auto" and engine == "eager" and device.type == "cpu" and shutil.which("g++"):
        work = images * cut.flops([output.node for output in outputs])
        compiled = "on" if work > _WORK_THAT_PAYS[precision] * cores else "off"
    if compiled == "auto" and engine == "fused" and precision == "float32":
        work = images * cut.flops([output.node for output in outputs])
        engine = "winograd" if work > WINOGRAD_PAYS * cores and is_of_use(cut.model) and transforms() else engine
    engine = "compiled" if compiled == "on" else engine
    # In float32 the numbers stay those of the plain network.
    grey = grey and precision == "bfloat16" and device.type == "cpu"
    grey = grey and grey_suffices(cut.graph, dict(cut.model.named_modules()))
    each_core = _batches_apart(device.type, engine)
    size = (224 / cut.image_size) ** 2
    if each_core:
        # 8 images of 224 px: their maps stay near the cache, where 64 wait for memory and take a tenth longer on two
        # cores. Few images make eight batches all the same, so that as many cores have some.
        batch = int(min(256, 8 * size, -(-images // 8)))
    else:
        batch = int(min(2048, 512 * size, images) if device.type == "cuda" else min(512, 64 * size, images))
    batch = max(8, batch)
    threads = 1 if each_core else cores
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    versions = tuple(
        f"{package} {importlib.metadata.version(package)}" for package in ("torch", "torchvision", "pillow")
    )
    taken = tuple(f"{output.node} {output.pool}" for output in outputs)
    return Recipe(engine, precision, batch, threads, f"{device.type} {name}", taken, versions, grey)


def smaller(recipe: Recipe, device: torch.device, say: Callable[[str], None]) -> Recipe:
    """The recipe with half the batch, after one that did not fit into memory; UserError where there is none."""
    _require_more_than_one(recipe.batch, device)
    half = dataclasses.replace(recipe, batch=recipe.batch // 2)
    say(f"a batch of {recipe.batch} images does not fit into the memory of {device}; {half.batch} are tried")
    return half


def in_halves(trunk: "Trunk", images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What a trunk that is not compiled gives for a batch, in as many parts as memory asks for."""
    with contextlib.suppress(torch.OutOfMemoryError):
        return trunk(images)
    _require_more_than_one(len(images), trunk.device)
    half = len(images) // 2
    parts = (in_halves(trunk, images[:half]), in_halves(trunk, images[half:]))
    return tuple(torch.cat(both) for both in zip(*parts, strict=True))


def _require_more_than_one(batch: int, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if batch == 1:
        raise UserError(f"not even one image fits into the memory of {device}; take a smaller --image-size")


class Trunk:
    """A frozen trunk with its poolings: float32 images (N, 3, S, S) in, a tuple of pooled outputs out.

    dtype: what it turns images into. levels: where these are bytes, what they stand for, and None otherwise; it takes
    such bytes (see `Levels.to_pixels`) as well. grey: whether the recipe has it take grey images as `take_grey` says
    instead, for which it needs to know their preprocessing.
    """

    def __init__(
        self,
        cut: Cut,
        outputs: Sequence[Output],
        recipe: Recipe,
        device: torch.device,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        self.device = device
        self.recipe = recipe
        self.levels: Levels | None = None
        self.grey = recipe.grey
        if device.type == "cpu":
            keep_freed_memory()
        shape = torch.Size((recipe.batch, 2 if self.grey else 3, cut.image_size, cut.image_size))
        module = pooled_trunk(cut, outputs)
        self._run: Callable[[torch.Tensor], tuple[torch.Tensor, ...]] = module
        if recipe.engine == "quantised":
            self.dtype = torch.uint8
            with_channels_last(module.float())
            self.levels, module.levels = quantise_convolutions(module.network, shape, require_ranges(recipe.precision))
            return
        self.dtype = getattr(torch, recipe.precision)
        if self.grey:
            assert preprocessing is not None, "grey images are normalised by the network itself"
            take_grey(module.network, preprocessing.mean, preprocessing.std)
        with_channels_last(module.to(device, self.dtype))
        # oneDNN's relu makes zero of what is no number, which would hide weights that are none.
        sound = all(map(all_finite, module.parameters()))
        if sound and recipe.engine in ("fused", "winograd"):
            fuse_convolutions(module.network, shape, winograd=recipe.engine == "winograd")
        if sound and recipe.engine == "packed":
            pack_products(module.network, shape)
        if sound and recipe.engine == "compiled":
            self._run = compile_frozen(module, device)

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """One batch; always the same number of images, so that every image meets the same arithmetic."""
        if self.levels:
            images = self.levels.to_pixels(images) if images.is_floating_point() else images
        else:
            images = images.to(self.device, self.dtype, memory_format=torch.channels_last)
        # Freezing replaces parameters by constants, which inference mode does not allow.
        with torch.no_grad(), self._exact():
            return self._run(images)

    def _exact(self) -> contextlib.AbstractContextManager:
        """On a GPU torch rounds float32 convolutions to 10 bits (TF32) unless told not to, for the whole process."""
        cuda = self.device.type == "cuda"
        return torch.backends.cudnn.flags(allow_tf32=False) if cuda else contextlib.nullcontext()


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads for each of torch's operations, in this thread and in those that are started meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pooled_trunk(cut: Cut, outputs: Sequence[Output]) -> "PooledTrunk":
    """The trunk with batch norm folded and its poolings, as a copy: images in, a tuple of pooled outputs out."""
    nodes = list(dict.fromkeys(output.node for output in outputs))
    taken = [(nodes.index(output.node), output.pool, cut.layout(output.node)) for output in outputs]
    network = fold_batch_norm(compute_apart(without_identities(own_parts(cut.trunk(nodes)).eval())))
    network.recompile()
    return PooledTrunk(network, taken)


class PooledTrunk(nn.Module):
    """A graph that gives a tuple, and of each output that is taken its place there, its pooling and its layout."""

    network: fx.GraphModule

    def __init__(self, network: fx.GraphModule, taken: Sequence[tuple[int, str, str]]) -> None:
        super().__init__()
        self.network = network
        self.taken = tuple(taken)
        # Of the outputs that are bytes.
        self.levels: dict[int, Levels] = {}

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The pooled outputs, one row an image."""
        outputs = self.network(images)
        return tuple(self._pooled(outputs[which], which, pool, layout) for which, pool, layout in self.taken)

    def _pooled(self, output: torch.Tensor, which: int, pool: str, layout: str) -> torch.Tensor:
        levels = self.levels.get(which)
        if levels is None:
            return pool_output(output, pool, layout)
        # Pooled as whole numbers, whose sums are exact, so that no batch and no number of threads makes a difference.
        return pool_output(levels.to_steps(output), pool, layout).mul(levels.scale)


def compile_frozen(module: nn.Module, device: torch.device) -> Callable[..., Any]:
    """The module compiled for one shape, its parameters laid out as constants for the processor's matrix products.

    On a GPU kernels are chosen by trying, and a batch is one CUDA graph.
    """
    import torch._inductor.config as inductor

    if not shutil.which("g++") and not torch.cuda.is_available():
        raise UserError(
            "--compile on needs a C++ compiler, and there is no g++ here; install one or take --compile off"
        )
    inductor.freezing = True
    return torch.compile(module, dynamic=False, mode="max-autotune" if device.type == "cuda" else None)


def fold_batch_norm(network: fx.GraphModule) -> fx.GraphModule:
    """Fold each batch norm into the convolution before it, in place, where nothing else reads that convolution;
    `recompile` is left to do."""
    modules = dict(network.named_modules())
    for node in list(network.graph.nodes):
        norm = module_of(node, modules)
        if type(norm) is not nn.BatchNorm2d:
            continue  # some that are derived from it activate as well
        source = node.args[0]
        convolution = module_of(source, modules)
        shared = len(source.users) > 1 or _uses(network, source.target) > 1 or _uses(network, node.target) > 1
        if type(convolution) is not nn.Conv2d or shared:
            continue
        network.set_submodule(source.target, fuse_conv_bn_eval(convolution, norm))
        source.meta["stands for"] = name_of(node)
        node.replace_all_uses_with(source)
        network.graph.erase_node(node)
    network.delete_all_unused_submodules()
    return network


def _uses(network: fx.GraphModule, target: str) -> int:
    return sum(node.op == "call_module" and node.target == target for node in network.graph.nodes)
