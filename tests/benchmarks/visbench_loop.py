"""VisBench, served: its cache's pass over the data set with a backbone of one's own, the last map averaged and kept.

Its backbones by name are others than ours, so the same ResNet18 is given to it as its `CustomBackbone`. Each turn has
a folder of its own, lest the second find everything cached.
"""

import json
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Serve turns over all images."""
    options = json.loads(sys.argv[1])
    import numpy as np
    import torch
    from PIL import Image
    from torch import nn
    from torchvision import models
    from visbench.backbones import CustomBackbone
    from visbench.cache import FeatureCache

    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.benchmarks.served import serve
    from tests.benchmarks.usual_loop import preparation

    torch.set_num_threads(options["threads"])
    arrays = np.load(options["images"])
    model = models.resnet18(weights=None)
    model.load_state_dict(torch.load(options["weights"], weights_only=True))
    trunk = nn.Sequential(*list(model.children())[:-2])
    backbone = CustomBackbone(trunk, preprocess=preparation(options["size"]), image_size=options["size"], device="cpu")

    def turn():
        images = [Image.fromarray(array).convert("RGB") for array in arrays]
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            features = FeatureCache(folder).extract_dataset(
                backbone, images, pooling="mean", batch_size=64, keep="pooled"
            )
        return {"rows": len(features["pooled"]), "sum": float(features["pooled"].sum())}

    turn()
    serve(turn)


if __name__ == "__main__":
    main()
