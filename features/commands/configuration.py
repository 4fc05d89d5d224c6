"""A command's options as a TOML file that people can edit: `--save-config` writes it, `--config` replays it.

A file becomes words of the command line, put behind those that were typed, so that types, choices and combinations are
checked by the same parser, and the command that results record is complete. What was typed wins. What stands in the
file under a name that is no option, or with a value that its option does not take, is refused by name before that.
Arguments without an option's name (the images of `predict`) are not part of it.
"""

import argparse
import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features.errors import UserError
from features.home import user_path

_NOT_KEPT = ("help", "version", "verbose", "quiet", "config", "save-config")


def replayed(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> list[str]:
    """The arguments with `--config FILE` replaced by what the file says and the other arguments do not."""
    typed, path = _without_config(arguments)
    if path is None:
        return typed
    entries, known = _read(path, parser.prog), _configurable(parser)
    end = typed.index("--") if "--" in typed else len(typed)
    given = {word.split("=")[0] for word in typed[:end]}
    won = [action for action in known.values() if given & set(action.option_strings)]
    for group in parser._mutually_exclusive_groups:
        won += group._group_actions if any(action in won for action in group._group_actions) else []
    words: list[str] = []
    for name, value in entries.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"`{parser.prog} --help` lists what there is"
            raise UserError(f"{path}: {parser.prog} has no option called {name!r}; {hint}")
        spelled = _spelled(known[name], name, value, path)
        # What is the default anyhow would only make the recorded command long.
        is_default = _toml(value) == _toml(_typed(known[name], known[name].default))
        words += [] if known[name] in won or is_default else spelled
    return [*typed[:end], *words, *typed[end:]]


def save_configuration(path: Path | str, parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Write every option's value; those without one stand in a comment. UserError where the file cannot be replaced."""
    path = user_path(str(path))
    lines = [f"# Replay with: {parser.prog} --config {path.name}", f"command = {_toml(_command(parser.prog))}", ""]
    for name, action in _configurable(parser).items():
        value = getattr(options, action.dest, None)
        lines.append(f"# {name} =" if value is None else f"{name} = {_toml(_typed(action, value))}")
    if path.exists():
        # Only what this option wrote is written over: a slip of the keyboard must not cost somebody's file.
        _read(path, None)
    try:
        path.write_bytes(("\n".join(lines) + "\n").encode())
    except OSError as error:
        raise UserError(
            f"--save-config {path}: cannot be written there ({error.strerror}); name another place"
        ) from error
    except UnicodeEncodeError as error:
        raise UserError(f"--save-config {path}: {error.object!r} is no text that a file can hold; rename it") from error


def _without_config(arguments: Sequence[str]) -> tuple[list[str], Path | None]:
    """The arguments without `--config FILE`, and the file; a `--config` without a file stays for the parser to see."""
    rest, path, words = [], None, iter(arguments)
    for word in words:
        if word == "--":
            return [*rest, word, *words], path
        value = word.removeprefix("--config=") if word.startswith("--config=") else None
        if word == "--config":
            value = next(words, None)
        if value is None:
            rest.append(word)
        elif path is not None:
            raise UserError("--config was given twice; give one file")
        else:
            path = user_path(value)
    return rest, path


def _command(prog: str) -> str:
    return prog.removeprefix("python -m ")


def _read(path: Path, prog: str | None) -> dict[str, Any]:
    """The entries of a file but for its command, which must be this one; prog None: any, so long as there is one."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); --save-config writes such a file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: is no TOML file ({error}); --save-config writes such a file") from error
    command = entries.pop("command", None)
    if not isinstance(command, str):
        raise UserError(f'{path}: does not say which command it is for, as in command = "classify probe"; add that')
    if prog is not None and command != _command(prog):
        raise UserError(
            f"{path}: is for `python -m {command}`, not for `{prog}`; give it to that command, or change what it says"
        )
    return entries


def _configurable(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The options that a file can hold, by their long names without dashes."""
    found = {}
    for action in parser._actions:
        long = [text for text in action.option_strings if text.startswith("--")]
        if long and long[0][2:] not in _NOT_KEPT:
            found[long[0][2:]] = action
    return found


def _spelled(action: argparse.Action, name: str, value: Any, path: Path) -> list[str]:
    """The words that give an option a value; UserError if it does not take that value."""
    entry = f"{path}: {name} = {_shown(value)}"
    option = f"--{name}"
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise UserError(f"{entry} cannot be; {name} is either true or false")
        opposite = [text for text in action.option_strings if text == f"--no-{name}"]
        return [option] if value else opposite
    several = isinstance(action.nargs, int) or action.nargs in ("+", "*")
    if isinstance(value, list) and not several:
        raise UserError(f"{entry} cannot be; {name} takes one value and no list")
    values = value if isinstance(value, list) else [value]
    if not values and action.nargs != "*":
        raise UserError(f"{entry} cannot be; give at least one value, or leave the line out")
    words = [_word(action, name, each, entry) for each in values]
    return [option, *words] if several or not words[0].startswith("-") else [f"{option}={words[0]}"]


def _word(action: argparse.Action, name: str, value: Any, entry: str) -> str:
    is_text = isinstance(value, str)
    if not is_text and (action.type in (None, str) or isinstance(value, bool) or not isinstance(value, int | float)):
        wanted = "text in quotes" if action.type in (None, str) else "a number"
        raise UserError(f"{entry} cannot be; {name} is {wanted}")
    word = value if is_text else repr(value)
    try:
        typed = action.type(word) if callable(action.type) else word
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{entry} cannot be: {error}") from error
    except (TypeError, ValueError) as error:
        wanted = {int: "a whole number", float: "a number"}.get(action.type, "another value")
        raise UserError(f"{entry} cannot be; {name} is {wanted}") from error
    if action.choices is not None and typed not in action.choices:
        choices = list(map(str, action.choices))
        near = difflib.get_close_matches(word, choices, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"{entry} cannot be; {hint}choose from {', '.join(choices)}")
    return word


def _typed(action: argparse.Action, value: Any) -> Any:
    """The value as `_spelled` reads it: a switch that turns something off is true when it was given."""
    if isinstance(action, argparse._StoreFalseAction):
        return not value
    return value


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, Mapping) else _toml(value)
    return text if len(text) < 60 else f"{text[:57]}..."


def _toml(value: Any) -> str:
    """A value as TOML; paths and the like as the text that they are."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    # A TOML string is a JSON string, but for one letter that JSON lets stand as it is.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
