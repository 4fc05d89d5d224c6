"""The usual fine-tuning loop, served: DataLoader with PIL transforms, AdamW, float32, every layer trained."""

import json
import sys


def main() -> None:
    """Serve turns of one epoch each, from the same weights."""
    options = json.loads(sys.argv[1])
    import torch
    from torch.nn.functional import cross_entropy
    from torch.utils.data import DataLoader
    from torchvision import models

    from tests.benchmarks.served import serve
    from tests.benchmarks.usual_loop import pil_images

    torch.set_num_threads(options["threads"])
    loader = DataLoader(pil_images(options), batch_size=options["batch"], shuffle=True, num_workers=options["workers"])
    state = torch.load(options["weights"], weights_only=True)

    def turn() -> None:
        torch.manual_seed(0)
        model = models.resnet18(weights=None)
        model.load_state_dict(state)
        model.fc = torch.nn.Linear(512, options["classes"])
        optimizer = torch.optim.AdamW(model.parameters(), 2e-4)
        model.train()
        for images, labels in loader:
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            optimizer.step()

    turn()
    serve(turn)


if __name__ == "__main__":
    main()
