"""The commands that the README files show, as words: what a test parses and `.ci/readme` runs."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
READMES = (ROOT / "README.md", ROOT / "README.pt-BR.md")
MODULES = ("extract", "features", "classify")


def readme_commands() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(file, module, arguments) of every `python -m MODULE ...` of ours in a block marked bash, in order."""
    for path in READMES:
        for block in re.findall(r"^```bash\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for line in re.sub(r"\\\n", " ", block).splitlines():
                for words in _commands(shlex.split(line, comments=True)):
                    if len(words) > 2 and words[0].endswith("python") and words[1] == "-m" and words[2] in MODULES:
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
