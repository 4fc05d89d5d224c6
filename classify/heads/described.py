"""What an estimator of somebody else's is, as plain values: its class, its parameters, and theirs in turn.

A description is part of a row's identity, so two estimators that may answer differently never have the same one; and
from it the estimator is built again. What cannot be told apart from its like by plain values (a lambda, an open file)
is refused.
"""

import importlib
import math
import sys
import types
from typing import Any

import numpy as np

from features.digests import sha256_json
from features.errors import UserError
from features.named_code import look_here

_MOST_NUMBERS = 1000  # of an array that is written out


def describe(value: Any) -> Any:
    """Plain values that say what a parameter, or an estimator with all of its own, is; UserError where none can."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, list):
        return [describe(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [describe(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[describe(key), describe(item)] for key, item in value.items()]}
    if isinstance(value, set | frozenset):
        return {type(value).__name__: sorted((describe(item) for item in value), key=sha256_json)}
    if isinstance(value, np.generic):
        return {"number": str(value.dtype), "is": describe(value.item())}
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType | np.ufunc):
        return {"name": name_of(value)}
    if value is np.random.mtrand._rand:
        return {"name": "numpy.random.mtrand:_rand"}
    if hasattr(value, "get_params"):
        return {"class": name_of(type(value)), "params": {k: describe(v) for k, v in own_params(value).items()}}
    return _thing(value)


def own_params(estimator: Any) -> dict[str, Any]:
    """An estimator's parameters, of itself alone."""
    return dict(sorted(estimator.get_params(deep=False).items()))


def build(described: Any) -> Any:
    """The value again; whatever code it names is imported and run. UserError where it is of no such form."""
    look_here()
    try:
        return _built(described)
    except UserError:
        raise
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"the head cannot be built again from its record ({said[:200]})") from error


def modules_in(described: Any) -> set[str]:
    """The modules whose code a description names."""
    if isinstance(described, list):
        return set().union(*map(modules_in, described)) if described else set()
    if not isinstance(described, dict):
        return set()
    named = [described[kind] for kind in ("class", "name") if kind in described]
    inner = [described[kind] for kind in ("tuple", "dict", "set", "frozenset") if kind in described]
    inner += [list(described[kind].values()) for kind in ("params", "state") if kind in described]
    # The module that defines it, wherever it is called from.
    own = {getattr(_named(name), "__module__", None) or name.partition(":")[0] for name in named}
    return own | modules_in(inner)


def name_of(code: Any) -> str:
    """'module:name' of a class or function, by the shortest module that has it; UserError for one without a name."""
    module, name = getattr(code, "__module__", None) or "builtins", getattr(code, "__qualname__", code.__name__)
    module = "numpy" if isinstance(code, np.ufunc) else module
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        place = ".".join(parts[:count])
        target: Any = sys.modules.get(place)
        for part in name.split("."):
            target = getattr(target, part, None)
        if target is code:
            return f"{place}:{name}"
    raise UserError(
        f"{module}.{name} cannot be found by its name, so what is made with it cannot be known again; put it into a "
        "module, as a function or a class of its own"
    )


def _array(array: np.ndarray) -> dict[str, Any]:
    if array.dtype.kind not in "biufU" or array.size > _MOST_NUMBERS:
        raise UserError(
            f"an array of {array.size:,} values of type {array.dtype} among its parameters cannot be written down; "
            f"give at most {_MOST_NUMBERS:,} numbers or words"
        )
    return {"array": describe(array.tolist()), "dtype": str(array.dtype)}


def _thing(value: Any) -> dict[str, Any]:
    """Something with attributes: a way to split, a scorer, a distribution."""
    state = value.__getstate__()
    if not isinstance(state, dict):
        raise UserError(
            f"a {type(value).__module__}.{type(value).__qualname__} among its parameters cannot be written down, so "
            "what is made with it cannot be known again; give plain values, estimators or named functions"
        )
    return {"class": name_of(type(value)), "state": {k: describe(v) for k, v in sorted(state.items())}}


def _built(described: Any) -> Any:
    if isinstance(described, list):
        return [_built(item) for item in described]
    if not isinstance(described, dict):
        return described
    match described:
        case {"float": text}:
            return float(text)
        case {"tuple": items}:
            return tuple(map(_built, items))
        case {"dict": pairs}:
            return {_built(key): _built(item) for key, item in pairs}
        case {"set": items}:
            return set(map(_built, items))
        case {"frozenset": items}:
            return frozenset(map(_built, items))
        case {"number": dtype, "is": value}:
            return np.dtype(dtype).type(_built(value))
        case {"array": values, "dtype": dtype}:
            return np.array(_built(values), dtype=dtype)
        case {"name": name}:
            return _named(name)
        case {"class": name, "params": params}:
            return _named(name)(**{key: _built(value) for key, value in params.items()})
        case {"class": name, "state": state}:
            kind = _named(name)
            thing, inner = kind.__new__(kind), {key: _built(value) for key, value in state.items()}
            if hasattr(thing, "__setstate__"):
                thing.__setstate__(inner)
            else:
                thing.__dict__.update(inner)
            return thing
    raise UserError(f"{str(described)[:60]} in the record describes no parameter")


def _named(name: str) -> Any:
    module, _, path = name.partition(":")
    target = importlib.import_module(module)
    for part in path.split("."):
        target = getattr(target, part)
    return target
