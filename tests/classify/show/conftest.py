"""What the report's tests share: one small folder of real results, and its page, made once."""

from pathlib import Path

import pytest
import torch

from classify.__main__ import main
from features.architectures import build_model

ROWS = ["--dataset", "digits", "--image-size", "32", "--limit", "150", "--limit-test", "120", "--precision", "float32"]
NETWORKS = ["--epochs", "2", "--batch-size", "32", "--train-precision", "float32"]


class ReportFolder:
    """A home, a folder of results of a probe and a comparison in it, and the command line's report of it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.results = folder / "results"
        self.page = folder / "report.html"
        self.weights = folder / "drawn.pth"

    def report(self, *arguments: str) -> Path:
        """Make the page; its path."""
        assert main(["report", "--results", str(self.results), "--output", str(self.page), *arguments]) == 0
        return self.page


@pytest.fixture(scope="session")
def report_folder(tmp_path_factory) -> ReportFolder:
    """A probe and a comparison on real digits with a ResNet18 from a file of drawn weights, and the page of both."""
    made = ReportFolder(tmp_path_factory.mktemp("report"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(build_model("resnet18").state_dict(), made.weights)
    shared = [*ROWS, "--weights", str(made.weights), "--results", str(made.results), "--no-search"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPROBE_HOME", str(made.home))
        probed = ["probe", *shared, "--layer", "layer1", "layer2", "avgpool", "--model", "ridge", "lda"]
        assert main([*probed, "--no-scores", "--no-widths", "--jobs", "1"]) == 0
        models = ["--models", "convnet", "finetune:fc", "logistic@layer2"]
        assert main(["compare", *shared, *models, *NETWORKS, "--jobs", "1", "--forget-networks"]) == 0
        made.report("--sample", "60")
    return made
