"""The command line as Markdown, read from the parsers themselves, in the place of a marker in a page.

An option that means the same in several commands is described once, under 'Options that commands share'; each command
names those that it takes. So a page says what `--help-all` says, and cannot say anything else.
"""

import argparse
import importlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

MARKER = "<!-- generated: command line -->"
EVERYWHERE = "everywhere"
# Sections of which an option is described once where as many commands take it.
SHARED_SECTIONS = ("which features of which data", "how networks are trained", "how", EVERYWHERE)
SHARED_BY = 4
FEW = 3  # so many options that a command does not take are named, else those that it takes


@dataclass(frozen=True)
class Option:
    """An option or an argument as its parser has it. spelled: as in `--layer L [L ...]`."""

    names: tuple[str, ...]
    spelled: str
    help: str


@dataclass(frozen=True)
class Command:
    """A command with what it takes: sections and listings are (title, entries)."""

    name: str
    description: str
    sections: tuple[tuple[str, tuple[Option, ...]], ...]
    listings: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]

    def options(self) -> Iterator[tuple[str, Option]]:
        """(section, option) of all."""
        for title, options in self.sections:
            for option in options:
                yield title, option


def commands() -> tuple[Command, ...]:
    """Every command of `layerprobe`, in the order in which people meet them."""
    from classify.commands.verbs import VERBS
    from classify.experiments.studies import STUDIES
    from features.commands.program import started_as

    started_as("layerprobe")
    try:
        found = [_command("layerprobe extract", _parser("extract.__main__", []))]
        for verb in VERBS:
            more = {"typed": True} if verb == "run" else {}
            found.append(_command(f"layerprobe {verb}", _parser(f"classify.commands.{verb}", [], **more)))
            for study in STUDIES if verb == "study" else ():
                found.append(_command(f"layerprobe study {study}", _parser("classify.commands.study", [study])))
        cache = _parser("features.commands.cache", [])
        found.append(_command("layerprobe features", cache))
        for action in cache._actions:
            if isinstance(action, argparse._SubParsersAction):
                found += [_command(f"layerprobe features {verb}", parser) for verb, parser in action.choices.items()]
    finally:
        started_as("")
    return tuple(found)


def markdown() -> str:
    """All commands as Markdown for MyST."""
    found = commands()
    shared = _shared(found)
    parts = [_of_command(command, shared) for command in found]
    parts.append("## Options that commands share\n\n```{program} layerprobe\n```")
    for title in SHARED_SECTIONS:
        parts.append(f"({_label(title)})=\n### {_sentence(title)}")
        parts += [_described(option) for option, section in shared.items() if section == title]
    return "\n\n".join(parts) + "\n"


def setup(app: Any) -> dict[str, Any]:
    """What Sphinx calls."""

    def fill(_: Any, __: str, source: list[str]) -> None:
        if MARKER in source[0]:
            source[0] = source[0].replace(MARKER, markdown())

    app.connect("source-read", fill)
    return {"parallel_read_safe": True}


class _Parsed(Exception):
    pass


def _parser(module: str, arguments: Sequence[str], **more: Any) -> Any:
    """The parser that a command makes for these arguments, which goes no further."""
    from features.commands.parser import Parser

    def stop(self: Any, *_: Any) -> None:
        raise _Parsed(self)

    whole, Parser.parse_args = Parser.parse_args, stop  # type: ignore[method-assign, assignment]
    try:
        importlib.import_module(module).main(list(arguments), **more)
    except _Parsed as parsed:
        return parsed.args[0]
    finally:
        Parser.parse_args = whole  # type: ignore[method-assign]
    raise RuntimeError(f"{module} parses nothing")


def _command(name: str, parser: Any) -> Command:
    sections = []
    for group in sorted(parser._action_groups, key=lambda group: group.title == EVERYWHERE):
        options = tuple(_option(action, parser) for action in group._group_actions if _is_shown(action))
        if options:
            sections.append((group.title or "", options))
    listings = tuple((listing.title, listing.entries) for _, listing in parser._listings)
    return Command(name, parser.description or "", tuple(sections), listings)


def _is_shown(action: argparse.Action) -> bool:
    return action.help is not argparse.SUPPRESS


def _option(action: argparse.Action, parser: argparse.ArgumentParser) -> Option:
    metavar = action.metavar if isinstance(action.metavar, str) else None
    if metavar is None and action.choices is not None:
        metavar = "{" + ",".join(map(str, action.choices)) + "}"
    name = metavar or action.dest.upper()
    forms = {"0": "", "?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} [{name} ...]"}
    value = forms.get(str(action.nargs), name)
    names = tuple(action.option_strings) or (value,)
    spelled = ", ".join(f"{text} {value}".strip() for text in names) if action.option_strings else value
    help_ = (action.help or "") % {**vars(action), "prog": parser.prog} if action.help else ""
    return Option(names, spelled, help_)


def _shared(found: Sequence[Command]) -> dict[Option, str]:
    """What enough commands take, and the section that it stands in."""
    uses = Counter((option, title) for command in found for title, option in command.options())
    return {option: title for (option, title), n in uses.items() if title in SHARED_SECTIONS and n >= SHARED_BY}


def _of_command(command: Command, shared: dict[Option, str]) -> str:
    parts = [f"## {command.name}", *_paragraphs(command.description), f"```{{program}} {command.name}\n```"]
    for title, options in command.sections:
        own = [option for option in options if option not in shared]
        if own and title != EVERYWHERE:
            parts += [f"**{_sentence(title)}**", *map(_described, own)]
    for title, entries in command.listings:
        parts += [f"**{_sentence(title)}**", "\n".join(f"`{name}`\n: {_prose(what)}\n" for name, what in entries)]
    taken = {option for _, option in command.options() if option in shared}
    lines = [line for title in SHARED_SECTIONS[:-1] if (line := _taken(title, taken, shared))]
    if lines:
        parts.append("It also takes, of the options that commands share:\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _taken(title: str, taken: set[Option], shared: dict[Option, str]) -> str:
    """A line on which of a section's shared options a command takes; '' where it takes none."""
    ours = [option for option, section in shared.items() if section == title]
    mine, others = ([option for option in ours if (option in taken) is wanted] for wanted in (True, False))
    if not mine:
        return ""
    link = f"[{_sentence(title)}](#{_label(title)})"
    if len(others) > FEW:
        return f"- {link}: {_links(mine)}"
    return f"- {link}: all but {_links(others)}" if others else f"- {link}: all"


def _links(options: Sequence[Option]) -> str:
    return ", ".join(f"{{option}}`{option.names[-1]} <layerprobe {option.names[-1]}>`" for option in options)


def _label(title: str) -> str:
    return "shared-" + title.replace(" ", "-")


def _described(option: Option) -> str:
    return f":::{{option}} {option.spelled}\n{_prose(option.help)}\n:::"


def _paragraphs(text: str) -> list[str]:
    return [_prose(" ".join(paragraph.split())) for paragraph in text.split("\n\n")]


def _sentence(title: str) -> str:
    title = "how it runs, and what it writes" if title == "how" else title
    return title[:1].upper() + title[1:]


def _prose(text: str) -> str:
    """A help text in Markdown, with options as code and nothing taken for markup."""
    parts = text.split("`")
    for place in range(0, len(parts), 2):
        plain = re.sub(r"([\\*_<>\[\]{}#|~$])", r"\\\1", parts[place])
        parts[place] = re.sub(r"(?<![\w-])(--?[a-z][a-z0-9-]*)", r"`\1`", plain)
    return "`".join(parts)
