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

    from extract.one_pass import run_pass
    from extract.preprocess import Preprocessor
    from extract.trunk import Output, Trunk, choose_recipe
    from features import store
    from features.backbones import load_backbone
    from features.cut import Cut
    from features.datasets import open_dataset
    from features.request import Request, plan, selected_rows
    from tests.benchmarks.served import serve

    torch.set_num_threads(options["threads"])
    request = Request(
        dataset=options["dataset"],
        weights=options["weights"],
        layers=tuple(options["layers"]),
        image_size=options["size"],
        precision=options["precision"],
        limit=options["count"],
        device="cpu",
    )
    answer = plan(request)
    wanted = list({one.key.digest: one for one in answer.wanted if one.split == "train"}.values())
    backbone = load_backbone(answer.request.backbone, answer.request.weights)
    steps = backbone.preprocessing.at(request.image_size)
    cut, device = Cut(backbone.model, steps.crop), torch.device("cpu")
    outputs = [Output(one.key.layer, one.key.pool) for one in wanted]
    data = open_dataset(request.dataset).load("train")
    recipe = choose_recipe(
        cut,
        outputs,
        images=options["count"],
        precision=wanted[0].key.precision,
        device=device,
        compiled=options["compile"],
        grey=data.grey,
    )
    trunk, preprocessor = Trunk(cut, outputs, recipe, device, steps), Preprocessor(steps, device)
    rows = selected_rows(data.labels, request, "train")

    def turn() -> dict:
        with contextlib.ExitStack() as stack:
            files = [
                stack.enter_context(
                    contextlib.closing(
                        store.PartialFile.open(
                            one.key,
                            one.about,
                            shape=(len(rows), *one.shape),
                            dtype=one.key.dtype,
                            labels=data.labels[rows],
                            index=rows,
                            recipe=recipe.to_json(),
                        )
                    )
                )
                for one in wanted
            ]
            images, computing = run_pass(
                "train", data, rows, files, preprocessor, recipe, trunk, cores=options["threads"]
            )
        found = [store.find(one.key) for one in wanted]
        total = float(found[-1].features().sum())
        for file in found:
            file.path.unlink()
        return {"rows": images, "computing": computing, "sum": total}

    turn()
    serve(turn, engine=recipe.engine, precision=recipe.precision, operations=cut.flops([o.node for o in outputs]))


if __name__ == "__main__":
    main()
