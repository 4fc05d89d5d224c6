"""Ours, served: whole passes by `extract.one_pass.run_pass` (preprocessing, network, writing to the disk) in a steady
state, which is to say with the network built before. Everything goes into a temporary home."""

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import MutableMapping
from pathlib import Path


def main() -> None:
    """Serve turns over all images."""
    options = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        link_home(Path(folder), os.environ)
        _serve(options)


def link_home(folder: Path, environment: MutableMapping[str, str]) -> None:
    """Make a folder the home in an environment, with the data sets and weights of this process's own."""
    from features.home import home

    for kind in ("datasets", "weights"):
        if (home() / kind).is_dir():
            (folder / kind).symlink_to(home() / kind)
    environment["LAYERPROBE_HOME"] = str(folder)


def _serve(options: dict) -> None:
    import torch

    from extract.bench import Bench
    from extract.one_pass import run_pass
    from extract.planning import plan
    from features import store
    from features.request import Request
    from tests.benchmarks.served import serve

    torch.set_num_threads(options["threads"])
    request = Request(
        dataset=options["dataset"],
        backbone=options.get("backbone", "resnet18"),
        weights=options["weights"],
        layers=tuple(options["layers"]),
        image_size=options["size"],
        precision=options["precision"],
        limit=options["count"],
        decode=options.get("decode", "full"),
        device="cpu",
    )
    answer = plan(request)
    wanted = list({file.key.digest: file for file in answer.wanted if file.split == "train"}.values())
    bench = Bench.of(answer.request)
    part = bench.part("train", wanted)
    recipe = bench.recipe(wanted, images=options["count"], compiled=options["compile"], grey=part.data.grey)
    trunk = bench.trunk(wanted, recipe)

    def turn() -> dict:
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(contextlib.closing(part.open(file, recipe.to_json()))) for file in wanted]
            images, computing = run_pass(part, files, bench.preprocessor, trunk, cores=options["threads"])
        found = [store.find(file.key) for file in wanted]
        total = float(found[-1].features().sum())
        for file in found:
            file.path.unlink()
        return {"rows": images, "computing": computing, "sum": total}

    turn()
    operations = bench.cut.flops([file.key.layer for file in wanted])
    serve(turn, engine=recipe.engine, precision=recipe.precision, operations=operations)


if __name__ == "__main__":
    main()
