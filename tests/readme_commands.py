"""The commands that README and the pages of docs/ show, as words: what a test parses and `.ci/readme` runs."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = tuple(sorted(ROOT.glob("README*.md"))) + tuple(
    sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)
)
MODULES = ("extract", "features", "classify")


def page_name(path: Path) -> str:
    """'README.md', 'docs/howto/probe.md'."""
    return path.relative_to(ROOT).as_posix()


def readme_commands(modules: Sequence[str] = MODULES) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(page, module, arguments) of every `python -m MODULE ...` and `layerprobe VERB ...` in a block marked bash, in
    order.

    modules: packages whose commands are wanted, modules inside them included.
    """
    for path in PAGES:
        for block in re.findall(r"^```bash\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for line in re.sub(r"\\\n", " ", block).splitlines():
                for words in _commands(shlex.split(line, comments=True)):
                    module, arguments = _called(words)
                    if module.partition(".")[0] in modules:
                        yield page_name(path), module, arguments


def _called(words: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The module that a command runs and what it is given; no module for a command that is none of ours."""
    if len(words) > 2 and words[0].endswith("python") and words[1] == "-m":
        return words[2], tuple(words[3:])
    if len(words) > 1 and Path(words[0]).name == "layerprobe":
        return (words[1], tuple(words[2:])) if words[1] in MODULES else ("classify", tuple(words[1:]))
    return "", ()


def _commands(words: list[str]) -> Iterator[list[str]]:
    """The commands of a line, which && and the like join."""
    command: list[str] = []
    for word in words:
        if word in ("&&", "||", ";", "|"):
            yield command
            command = []
        else:
            command.append(word)
    yield command
