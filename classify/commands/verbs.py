"""The verbs of `python -m classify`, in the groups in which `--help` lists them; nothing is imported here."""

_GROUPS: dict[str, dict[str, str]] = {
    "find out": {
        "check": "what is wrong with a data set, or may be, before training",
        "probe": "which layer transfers best, with controls, paired tests and costs",
        "compare": "heads on frozen features against networks that are trained, in one table",
        "study": "when, what and where to transfer: seven studies",
    },
    "train": {
        "run": "train and test the heads and networks that --model names; what happens without a verb",
        "repeat": "make a row again from its record: does it come out the same?",
    },
    "use and show": {
        "predict": "a saved head or network on new images",
        "export": "a saved model as one network for other programs: ONNX, torch or a state dict",
        "report": "one HTML page from a folder of results",
    },
}
VERBS: dict[str, str] = {verb: summary for verbs in _GROUPS.values() for verb, summary in verbs.items()}


def grouped() -> list[tuple[str, dict[str, str]]]:
    """(title, verbs with what each does), as `Parser.list_verbs` takes them."""
    return [(f"verbs to {title}", verbs) for title, verbs in _GROUPS.items()]
