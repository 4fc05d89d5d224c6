"""Where to compute and in which precision: what `auto` means on this machine."""

import functools

import torch

from features.errors import UserError
from features.memory import lines_of
from features.ranges import EIGHT_BITS, SEVEN_BITS, asks_int8, ranges_of, weight_levels

PRECISIONS = ("auto", "float32", "bfloat16", "float16", "int8")


def resolve_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` takes a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name}: no such kind of device; give auto, cpu, cuda, cuda:1 or mps") from error
    usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not usable.get(device.type, False):
        raise UserError(f"--device {name}: this machine (or this build of torch) has none; take --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: this machine has {torch.cuda.device_count()} GPUs, counted from 0")
    return device


def resolve_precision(name: str, device: torch.device) -> str:
    """The precision of the computation; `auto` is bfloat16 where the processor has it natively, else float32.

    int8 comes without its ranges or, as a record has it, with their digits; UserError where it cannot be computed in.
    """
    if asks_int8(name):
        require_byte_products(device, name)
        return name
    if name not in PRECISIONS:
        raise UserError(f"--precision {name}: give one of {', '.join(PRECISIONS)}")
    if name != "auto":
        return name
    return "bfloat16" if has_native_bfloat16(device) else "float32"


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are faster than in float32 there: emulated ones are slower."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported()
    return False


@functools.cache
def is_intel() -> bool:
    """Whether MKL is to be had, and knows the processor as one of its maker's; only Linux tells."""
    return torch.backends.mkl.is_available() and any("GenuineIntel" in line for line in lines_of("/proc/cpuinfo"))


def require_byte_products(device: torch.device, precision: str) -> None:
    """UserError where int8, or that of ranges that are kept here, cannot be computed: where oneDNN's convolutions of
    bytes are not to be had, or would saturate between two products."""
    names = ("qconv_prepack", "qconv2d_pointwise")
    if device.type != "cpu":
        lacking = f"is computed on a processor alone, and this would be on {device}; add --device cpu or take another"
    elif not (torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.onednn, name) for name in names)):
        lacking = "needs a torch with oneDNN's convolutions of bytes, which this one lacks; take another"
    elif not (here := exact_levels()):
        lacking = "needs a processor whose sums of bytes are exact, and this one's are not; take another"
    elif (ranges := ranges_of(precision)) and weight_levels(ranges) > here:
        lacking = (
            "with these ranges has weights of eight bits, which need a processor with VNNI, and this one lacks it; "
            "made anew here, it has weights of seven; or take another"
        )
    else:
        return
    raise UserError(f"--precision int8 {lacking} --precision: float32, or bfloat16 where it is native")


def exact_levels() -> int:
    """How many levels a weight of int8 may have on each side of zero for oneDNN's sums to be exact; 0 for none.

    With VNNI, if oneDNN may use it, EIGHT_BITS; $ONEDNN_MAX_CPU_ISA can forbid it, which torch does not know, and sums
    then saturate without a word. Without, SEVEN_BITS.
    """
    if torch.cpu._is_vnni_supported() and _adds_the_largest(EIGHT_BITS):
        return EIGHT_BITS
    return SEVEN_BITS if _adds_the_largest(SEVEN_BITS) else 0


@functools.cache
def _adds_the_largest(levels: int) -> bool:
    """Whether a sum of the largest products of bytes with such weights comes out, and not what 16 bits hold of it."""
    shape, how = (1, 4, 1, 1), ((1, 1), (0, 0), (1, 1), 1)
    pixels, weight = torch.full(shape, 255, dtype=torch.uint8), torch.full(shape, levels, dtype=torch.int8)
    steps, zeros = torch.ones(1), torch.zeros(1, dtype=torch.int64)
    packed = torch.ops.onednn.qconv_prepack(weight, steps, 1.0, 0, *how, list(shape))
    weights, to = (packed, steps, zeros, None), (1.0, 0, torch.float32)
    total = torch.ops.onednn.qconv2d_pointwise(pixels, 1.0, 0, *weights, *how, *to, "none", [], "")
    return total.item() == 4 * 255 * levels
