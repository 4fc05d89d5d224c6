"""The commands that the README files show, as words: what a test parses and `.ci/readme` runs."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
READMES = (
    ROOT / "README.md",
    *(ROOT / "docs" / "tutorials" / f"{page}.md" for page in ("exercicios", "four-exercises")),
)
MODULES = ("extract", "features", "classify")


def readme_commands(modules: Sequence[str] = MODULES) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(file, module, arguments) of every `python -m MODULE ...` in a block marked bash, in order.

    modules: packages whose commands are wanted, modules inside them included.
    """
    for path in READMES:
        for block in re.findall(r"^```bash\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for line in re.sub(r"\\\n", " ", block).splitlines():
                for words in _commands(shlex.split(line, comments=True)):
                    ours = len(words) > 2 and words[0].endswith("python") and words[1] == "-m"
                    if ours and words[2].partition(".")[0] in modules:
                        yield path.name, words[2], tuple(words[3:])


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
