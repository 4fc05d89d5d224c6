"""Our training of every layer, served: one epoch of `NetworkClassifier` on uint8 images, weights read each time."""

import json
import sys


def main() -> None:
    """Serve turns of one epoch each, from the same weights."""
    options = json.loads(sys.argv[1])
    import numpy as np
    import torch

    from classify.heads.network.classifier import NetworkClassifier
    from classify.heads.network.settings import TrainingSettings
    from tests.benchmarks.served import serve

    torch.set_num_threads(options["threads"])
    images, labels = np.load(options["images"]), np.load(options["labels"])
    settings = TrainingSettings(epochs=1, batch_size=options["batch"], precision=options["precision"])

    def turn() -> None:
        network = NetworkClassifier(
            weights=options["weights"], unfreeze="all", image_size=options["size"], settings=settings, device="cpu"
        )
        network.fit(images, labels)

    turn()
    serve(turn)


if __name__ == "__main__":
    main()
