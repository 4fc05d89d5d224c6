"""thingsvision, served from a virtual environment of its own: `extract_features` of all layers at once, flattened.

It gets the images as PIL objects in memory, which spares it reading files.
"""

import json
import sys
from pathlib import Path


def main() -> None:
    """Serve turns over all images."""
    options = json.loads(sys.argv[1])
    import numpy as np
    import torch
    from PIL import Image
    from thingsvision import get_extractor_from_model
    from thingsvision.utils.data import DataLoader
    from torchvision import models, transforms

    torch.set_num_threads(options["threads"])
    arrays = np.load(options["images"])
    steps = transforms.Compose(
        [
            transforms.Resize((options["size"], options["size"])),
            transforms.Grayscale(3),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )

    class Images:
        def __len__(self) -> int:
            return len(arrays)

        def __getitem__(self, row: int):
            return steps(Image.fromarray(arrays[row]))

    model = models.resnet18(weights=None)
    model.load_state_dict(torch.load(options["weights"]))
    extractor = get_extractor_from_model(model=model, device="cpu", backend="pt")
    batches = DataLoader(dataset=Images(), batch_size=64, backend="pt")

    def turn():
        found = extractor.extract_features(batches=batches, module_names=options["layers"], flatten_acts=True)
        return {"rows": len(arrays), "sum": float(found[options["layers"][-1]].sum())}

    turn()
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.benchmarks.served import serve

    serve(turn)


if __name__ == "__main__":
    main()
