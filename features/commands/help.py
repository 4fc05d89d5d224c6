"""How `--help` reads: what a command does, its verbs in groups, then its options, the common ones before the rest.

Nothing heavy is imported here.
"""

import argparse
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from features.commands.screen import folded

_WIDEST = 110
_LONGEST_NAME = 23


def help_width() -> int:
    """Columns that a help text takes: $COLUMNS or the terminal's, 80 where there are neither, as argparse counts them;
    and no more than are read with ease."""
    return min(_WIDEST, shutil.get_terminal_size().columns - 2)


@dataclass(frozen=True)
class Listing:
    """Names with what they are, under a title. rare: shown by `--help-all` alone."""

    title: str
    entries: tuple[tuple[str, str], ...]
    rare: bool = False

    def text(self, width: int) -> str:
        """As it stands in the help, no line longer than width."""
        names = [name for name, _ in self.entries]
        indent = min(max(map(len, names), default=0), _LONGEST_NAME) + 4
        lines = [f"{self.title}:"]
        for name, summary in self.entries:
            head = f"  {name:<{indent - 2}}"
            if len(head) > indent:
                lines.append(head)
                head = " " * indent
            first, *others = folded(summary, max(width - indent, 20))
            lines += [head + first, *(" " * indent + line for line in others)]
        return "\n".join(line.rstrip() for line in lines)


def purpose(module_doc: str | None) -> str:
    """What a command does, as its module's first words say it behind the command's name."""
    text = (module_doc or "").strip()
    text = text.partition("`: ")[2] if text.startswith("`python -m") else text
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def filled(text: str, width: int) -> str:
    """Paragraphs as wide as there is room."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    return "\n\n".join("\n".join(folded(paragraph, width)) for paragraph in paragraphs)


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """argparse's, as wide as is read with ease."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=help_width())

    def _split_lines(self, text: str, width: int) -> list[str]:
        # argparse's own would break `fine-tuned` and paths at their hyphens, which have to be copied whole.
        return folded(" ".join(text.split()), width)


class ShowAll(argparse.Action):
    """`--help-all`: the help with the rare options too."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print and exit."""
        parser.show_rare = True  # type: ignore[attr-defined]  # every parser of ours has it
        parser.print_help()
        parser.exit()


def usage(program: str, positionals: Iterable[argparse.Action]) -> str:
    """The one line that says what goes where; options are listed below it, so it does not repeat them."""
    words = [program]
    for action in positionals:
        name = action.metavar if isinstance(action.metavar, str) else action.dest
        if not name:  # the program has it already
            continue
        words.append({"+": f"{name} [{name} ...]", "*": f"[{name} ...]", "?": f"[{name}]"}.get(str(action.nargs), name))
    return " ".join([*words, "[options]"])
