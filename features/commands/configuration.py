"""A command's options as a TOML file that people can edit: `--save-config` writes it, `--config` replays it.

A file becomes words of the command line, put behind those that were typed, so that types, choices and combinations are
checked by the same parser, and the command that results record is complete. What was typed wins. What stands in the
file under a name that is no option, or with a value that its option does not take, is refused by name before that.
Arguments without an option's name (the images of `predict`) are not part of it, nor is what all commands take. A file
may come from anybody: options that let something in (`--trust`, `--cluster`) or let a file go are typed or not given,
and a name that means code (`python:...`) needs a typed `--trust`.
"""

import argparse
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

from features.errors import UserError, nearest
from features.home import user_path
from features.named_code import require_trust, trusting
from features.regular import read_regular
from features.whole import whole

_MOST_BYTES = 20_000  # all options of a command are two thousand; its time grows with the square of a key's length


class Optioned(Protocol):
    """What is asked of a `features.commands.parser.Parser`."""

    prog: str
    command: str

    @property
    def former(self) -> Mapping[str, str]:
        """Options as they were spelled before, and as they are now."""

    @property
    def options(self) -> Mapping[str, argparse.Action]:
        """Its options by their names."""

    @property
    def typed_only(self) -> set[str]:
        """Those that no configuration can give."""

    def error(self, message: str) -> NoReturn:
        """Complain of what was typed."""


def replayed(parser: Optioned, arguments: Sequence[str]) -> list[str]:
    """The arguments with `--config FILE` replaced by what the file says and the other arguments do not."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("--config", action="append", default=[])
    try:
        named, typed = finder.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        parser.error(str(error))
    if not named.config:
        return typed
    if len(named.config) > 1:
        raise UserError("--config was given twice; give one file")
    path = user_path(named.config[0])
    end = typed.index("--") if "--" in typed else len(typed)
    given = {word.split("=")[0] for word in typed[:end]}
    words: list[str] = []
    for name, value in _read(path, parser).items():
        name = parser.former.get(f"--{name}", f"--{name}").removeprefix("--")
        if name not in parser.options:
            hint = _nearest(name, parser.options) or f"`{parser.prog} --help` lists what there is"
            raise UserError(f"{path}: {parser.prog} has no option called {name!r}; {hint}")
        action = parser.options[name]
        spelled = _spelled(action, name, value, f"{path}: {name} = {_shown(value)} cannot be")
        if name in parser.typed_only and value != action.default:
            raise UserError(
                f"{path}: {name} is taken from the command line alone, since such a file may come from anybody; take "
                f"the line out, and type --{name} if you mean it"
            )
        with trusting("--trust" in given):
            for entry in value if isinstance(value, list) else [value]:
                require_trust(entry, path)
        # What is the default anyhow would only make the recorded command long.
        if f"--{name}" not in given and _toml(value) != _toml(action.default):
            words += spelled
    return [*typed[:end], *words, *typed[end:]]


def save_configuration(path: Path | str, parser: Optioned, options: argparse.Namespace) -> None:
    """Write every option's value; those without one stand in a comment. UserError where the file cannot be replaced."""
    path = user_path(str(path))
    lines = [f"# Replay with: {parser.prog} --config {path.name}", f"command = {_toml(parser.command)}", ""]
    for name, action in parser.options.items():
        if name in parser.typed_only:
            lines.append(f"# {name} is typed")
            continue
        value = getattr(options, action.dest)
        lines.append(f"# {name} =" if value is None else f"{name} = {_toml(value)}")
    if path.exists():
        # Only what this option wrote is written over: a slip of the keyboard must not cost somebody's file.
        _read(path, None)
    try:
        with whole(path) as stream:
            stream.write(("\n".join(lines) + "\n").encode())
    except OSError as error:
        raise UserError(
            f"--save-config {path}: cannot be written there ({error.strerror}); name another place"
        ) from error
    except UnicodeEncodeError as error:
        raise UserError(f"--save-config {path}: {error.object!r} is no text that a file can hold; rename it") from error


def _read(path: Path, parser: Optioned | None) -> dict[str, Any]:
    """The entries of a file but for its command, which must be the parser's; None: any, so long as there is one."""
    try:
        text = read_regular(path, most=_MOST_BYTES)
        entries = tomllib.loads(text.decode())
        json.dumps(entries, default=str)  # what could not be shown is not read: numbers and nesting without measure
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); --save-config writes such a file") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no TOML file ({error}); --save-config writes such a file") from error
    command = entries.pop("command", None)
    if not isinstance(command, str):
        raise UserError(f'{path}: does not say which command it is for, as in command = "classify probe"; add that')
    if parser is not None and command != parser.command:
        raise UserError(
            f"{path}: is for `python -m {command}`, not for `{parser.prog}`; give it to that command, or change what "
            "it says"
        )
    return entries


def _spelled(action: argparse.Action, name: str, value: Any, refusal: str) -> list[str]:
    """The words that give an option a value; UserError, which begins with `refusal`, if it does not take that value."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise UserError(f"{refusal}; {name} is either true or false")
        return [f"--{name}"] if value else []
    if isinstance(value, list) and action.nargs != "+":
        raise UserError(f"{refusal}; {name} takes one value and no list")
    values = value if isinstance(value, list) else [value]
    if not values:
        raise UserError(f"{refusal}; give at least one value, or leave the line out")
    words = [_word(action, name, entry, refusal) for entry in values]
    if len(words) > 1 and (strange := [word for word in words if word.startswith("-") and not _is_number(word)]):
        raise UserError(f"{refusal}: {strange[0]!r} in it would be an option; write ./{strange[0]} if it is a file")
    return [f"--{name}", *words] if len(words) > 1 or not words[0].startswith("-") else [f"--{name}={words[0]}"]


def _word(action: argparse.Action, name: str, value: Any, refusal: str) -> str:
    convert = action.type if callable(action.type) else str
    if not isinstance(value, str) and (convert is str or type(value) not in (int, float)):
        raise UserError(f"{refusal}; {name} is {'text in quotes' if convert is str else 'a number'}")
    word = value if isinstance(value, str) else repr(value)
    try:
        typed = convert(word)
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{refusal}: {error}") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{refusal}; {name} is {'a number' if convert is float else 'a whole number'}") from error
    if action.choices is not None and typed not in action.choices:
        hint = _nearest(word, action.choices)
        raise UserError(f"{refusal}; {hint and f'{hint} '}choose from {', '.join(action.choices)}")
    return word


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _nearest(name: str, names: Iterable[str]) -> str:
    """'did you mean layer?', or nothing where nothing is near."""
    near = nearest(name, names, most=1)
    return f"did you mean {near[0]}?" if near else ""


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
