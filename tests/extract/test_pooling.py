"""Pooling: the numbers against numpy, and that the shapes promised before a pass are those that come."""

import numpy as np
import pytest
import torch

from extract.pooling import pool_output
from features.errors import UserError
from features.pooling import canonical_pool, parse_pool, pooled_shape, tokens_layout

SHAPES = {
    "map": (6, 4, 4),
    "map last": (4, 4, 6),
    "tokens": (16, 6),
    "class tokens": (17, 6),
    "class and 4 more tokens": (21, 6),
    "4 more tokens": (20, 6),
    "flat": (6,),
}


@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("pool", ["avg", "max", "grid:2", "grid:3", "grid:9", "none"])
def test_shapes_are_as_promised(layout, pool):
    canonical = canonical_pool(pool, SHAPES[layout], layout)
    output = torch.randn(3, *SHAPES[layout])
    assert tuple(pool_output(output, canonical, layout).shape) == (3, *pooled_shape(canonical, SHAPES[layout], layout))


def test_averages_and_maxima_of_maps_and_tokens():
    maps = np.random.default_rng(0).normal(size=(3, 6, 4, 4)).astype(np.float32)
    tensor = torch.from_numpy(maps)
    assert np.allclose(pool_output(tensor, "avg", "map"), maps.mean((2, 3)), atol=1e-6)
    assert np.array_equal(pool_output(tensor, "max", "map"), maps.max((2, 3)))
    grid = maps.reshape(3, 6, 2, 2, 2, 2).mean((3, 5)).reshape(3, -1)
    assert np.allclose(pool_output(tensor, "grid:2", "map"), grid, atol=1e-6)
    last = tensor.permute(0, 2, 3, 1)
    assert torch.equal(pool_output(last, "avg", "map last"), pool_output(tensor, "avg", "map"))
    tokens = torch.cat([torch.full((3, 1, 6), 1e6), tensor.flatten(2).transpose(1, 2)], 1)
    assert np.allclose(pool_output(tokens, "avg", "class tokens"), maps.mean((2, 3)), atol=1e-6)


def test_tokens_that_stand_for_no_place_are_told_apart():
    maps = torch.randn(3, 6, 4, 4)
    first = torch.full((3, 5, 6), 1e6)
    first[:, 0] = torch.arange(6.0)
    tokens, layout = torch.cat([first, maps.flatten(2).transpose(1, 2)], 1), "class and 4 more tokens"
    shape = tuple(tokens.shape[1:])
    assert (
        tokens_layout(5, True) == layout
        and tokens_layout(1, True) == "class tokens"
        and tokens_layout(0, False) == "tokens"
    )
    assert torch.allclose(pool_output(tokens, "avg", layout), maps.mean((2, 3)), atol=1e-6)
    assert torch.equal(pool_output(tokens, "max", layout), maps.amax((2, 3)))
    assert torch.equal(pool_output(tokens, "cls", layout), first[:, 0])
    assert pooled_shape("cls+avg", shape, layout) == (12,)
    assert torch.equal(pool_output(tokens, "cls+avg", layout)[:, :6], first[:, 0])
    assert torch.allclose(pool_output(tokens, "grid:2", layout), pool_output(maps, "grid:2", "map"), atol=1e-6)
    assert canonical_pool("grid:9", shape, layout) == "grid:4"
    for pool, other in (("cls", "4 more tokens"), ("cls+avg", "map")):
        with pytest.raises(UserError, match="without a class token"):
            canonical_pool(pool, SHAPES[other], other)
    with pytest.raises(UserError, match="fill no square"):
        canonical_pool("grid:2", (15, 6), "tokens")


@pytest.mark.parametrize("pool", ["avg", "max", "cls", "cls+avg", "grid:2"])
def test_a_pooled_token_is_pooled_already(pool):
    assert canonical_pool(pool, (1, 4), "class tokens") == canonical_pool(pool, (1, 4), "tokens") == "avg"


def test_a_grid_finer_than_the_map_is_the_map():
    assert canonical_pool("grid:9", (6, 4, 4), "map") == "grid:4"
    assert canonical_pool("grid:4", (6, 1, 1), "map") == "avg"
    assert canonical_pool("max", (6,), "flat") == "avg"


def test_spelling():
    assert [parse_pool(text) for text in (" AVG", "grid:4", "grid:1", "CLS")] == ["avg", "grid:4", "avg", "cls"]
    for text in ("grid", "grid:0", "grid:-1", "grid:x", "mean", ""):
        with pytest.raises(UserError, match="--pool"):
            parse_pool(text)


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_a_single_token_is_pooled_to_itself(pool):
    token = torch.arange(8.0).reshape(2, 1, 4)
    assert torch.equal(pool_output(token, pool, "class tokens"), token[:, 0])
