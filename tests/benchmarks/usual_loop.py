"""The usual torchvision loop, served: DataLoader with PIL transforms, forward hooks on the layers, eager float32.

Run by `python -m tests.benchmarks extraction` and `decoding`; by hand with JSON options it also does the whole job once
and ends.
"""

import json
import sys
from pathlib import Path


def preparation(size: int):
    """What PIL images go through before the network."""
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.Resize((size, size)),
            transforms.Grayscale(3),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )


def pil_images(options: dict):
    """The images, and their labels if there are any, as a torch data set: one PIL image at a time."""
    import numpy as np
    from PIL import Image
    from torch.utils.data import Dataset

    arrays = np.load(options["images"], mmap_mode="r")
    labels = np.load(options["labels"]) if "labels" in options else np.zeros(len(arrays), np.int64)
    steps = preparation(options["size"])

    class Images(Dataset):
        def __len__(self) -> int:
            return len(arrays)

        def __getitem__(self, row: int):
            return steps(Image.fromarray(arrays[row])), int(labels[row])

    return Images()


def photographs(options: dict):
    """The images of files, as torchvision's folder of images reads them, prepared as ImageNet's weights say."""
    from torch.utils.data import Dataset
    from torchvision.datasets.folder import default_loader
    from torchvision.transforms._presets import ImageClassification

    steps = ImageClassification(crop_size=options["size"], resize_size=256 * options["size"] // 224)

    class Files(Dataset):
        def __len__(self) -> int:
            return len(options["files"])

        def __getitem__(self, row: int):
            return steps(default_loader(options["files"][row])), 0

    return Files()


def build(options: dict):
    """A function that takes every image through the network once, and gives features (N, D) of the layers side by side,
    maps averaged over their places."""
    import numpy as np
    import torch
    from torch.utils.data import DataLoader
    from torchvision import models

    torch.set_num_threads(options["threads"])
    model = models.get_model(options.get("backbone", "resnet18"), weights=None)
    model.load_state_dict(torch.load(options["weights"], weights_only=True))
    layout = torch.channels_last if options.get("channels_last") else torch.contiguous_format
    model.eval().to(memory_format=layout)
    # Of a network without such layers, a transformer, the logits are kept, which cost nothing beside it.
    named = dict(model.named_modules())
    read = [named[layer] for layer in options["layers"] if layer in named] or [model]
    kept = {module: [] for module in read}
    for module in read:
        module.register_forward_hook(lambda module, given, output: kept[module].append(means(output)))
    images = photographs(options) if "files" in options else pil_images(options)
    loader = DataLoader(images, batch_size=64, num_workers=options["workers"])

    def means(output):
        return (output.mean((2, 3)) if output.ndim == 4 else output.flatten(1)).numpy()

    def once():
        for batches in kept.values():
            batches.clear()
        with torch.inference_mode():
            for images, _ in loader:
                model(images.contiguous(memory_format=layout))
        return np.concatenate([np.concatenate(batches) for batches in kept.values()], 1)

    return once


def main() -> None:
    """Serve, or do it once where `whole` names the file to write."""
    options = json.loads(sys.argv[1])
    once = build(options)
    if "whole" in options:
        import numpy as np

        np.save(options["whole"], once())
        return
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.benchmarks.served import serve

    def turn():
        features = once()
        return {"rows": len(features), "sum": float(features.sum())}

    once()
    serve(turn)


if __name__ == "__main__":
    main()
