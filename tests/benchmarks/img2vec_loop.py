"""img2vec (`img2vec_pytorch`), served: `get_vec` of lists of 64 PIL images, which it takes to 224 pixels itself."""

import json
import sys
from pathlib import Path


def main() -> None:
    """Serve turns over all images."""
    options = json.loads(sys.argv[1])
    import numpy as np
    import torch
    from img2vec_pytorch import Img2Vec, img_to_vec
    from PIL import Image
    from torchvision import models

    torch.set_num_threads(options["threads"])
    images = [Image.fromarray(array).convert("RGB") for array in np.load(options["images"])]
    state = torch.load(options["weights"], weights_only=True)

    def resnet18(weights=None):
        # It downloads its weights itself; here it is given the same file as everybody.
        model = models.resnet18(weights=None)
        model.load_state_dict(state)
        return model

    img_to_vec.resnet18 = resnet18
    network = Img2Vec(model="resnet18")

    def turn():
        features = [network.get_vec(images[start : start + 64]) for start in range(0, len(images), 64)]
        return {"rows": len(images), "sum": float(np.concatenate(features).sum())}

    turn()
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.benchmarks.served import serve

    serve(turn)


if __name__ == "__main__":
    main()
