"""The parser of every command: complaints of one line, and the habits that all commands have.

`--version`, `--verbose` and `--quiet`, `--save-config` and `--config`, and completion in the shell stand here once; a
command gets them by using this class.
"""

import argparse
import functools
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from features.commands.speaking import NORMAL, QUIET, VERBOSE, set_loudness, tell
from features.commands.version import ShowVersion
from features.errors import UserError

Add = Callable[..., argparse.Action]


class Parser(argparse.ArgumentParser):
    """An argument parser as all of ours are.

    options: by their long names without dashes, in the order added, those that are not the same everywhere. What it
    parsed has `command_line` besides: the command as it can be repeated, a configuration's options spelled out; and
    `given`: the options, as typed, that have another value than their default. configurable: whether `--config` and
    `--save-config` are offered; a parser with sub-parsers says no, and so do these.
    """

    def __init__(self, *, configurable: bool = True, **settings: Any) -> None:
        self.options: dict[str, argparse.Action] = {}
        self.typed_only: set[str] = set()
        super().__init__(**{"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter, **settings})
        self.options.clear()  # of --help
        self._configurable = configurable
        self._program = self.prog.split()
        self._everywhere = self.add_argument_group("everywhere")
        self._everywhere.add_argument("--version", action=ShowVersion, help="the versions of this, torch and Python")
        loudness = self._everywhere.add_mutually_exclusive_group()
        # Without a default, or a verb's parser would undo what was said before the verb.
        shared: dict[str, Any] = {"action": "store_true", "default": argparse.SUPPRESS}
        loudness.add_argument("-v", "--verbose", **shared, help="say also what was decided and found on the way")
        loudness.add_argument("-q", "--quiet", **shared, help="say nothing but the answer and errors")
        if configurable:
            add = self._everywhere.add_argument
            add("--config", metavar="FILE", help="take options from a TOML file; what is typed wins")
            add("--save-config", metavar="FILE", help="write all options to such a file, then carry on")

    def section(self, title: str) -> Add:
        """What adds an option under a title of its own in the help; it takes what `add_argument` takes."""
        return functools.partial(self._noted, self.add_argument_group(title).add_argument)

    def add_argument(self, *names: str, **settings: Any) -> argparse.Action:
        """As argparse's. completer: what offers values for it in the shell, see `features.commands.completion`.
        typed_only: it lets something in or lets something go, and no configuration can give it."""
        return self._noted(super().add_argument, *names, **settings)

    def _noted(
        self,
        add: Add,
        *names: str,
        completer: Callable[..., Iterable[str]] | None = None,
        typed_only: bool = False,
        **settings: Any,
    ) -> argparse.Action:
        action = add(*names, **settings)
        options = {name[2:]: action for name in names if name.startswith("--")}
        self.options |= options
        self.typed_only |= set(options) if typed_only else set()
        if completer is not None:
            action.completer = completer  # type: ignore[attr-defined]  # where argcomplete looks for it
        return action

    def parse_args(  # type: ignore[override]  # nobody gives a namespace of another class
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse, with a configuration's options where one is named; UserError for what is not understood."""
        from features.commands.completion import complete

        complete(self)
        arguments = list(sys.argv[1:] if args is None else args)
        if self._configurable and any(word.split("=")[0] == "--config" for word in arguments):
            from features.commands.configuration import replayed

            arguments = replayed(self, arguments)
        options = super().parse_args(arguments, namespace)
        is_quiet, is_verbose = getattr(options, "quiet", False), getattr(options, "verbose", False)
        set_loudness(QUIET if is_quiet else VERBOSE if is_verbose else NORMAL)
        options.command_line = shlex.join([*self._program, *arguments])
        changed = (name for name, action in self.options.items() if getattr(options, action.dest) != action.default)
        options.given = tuple(f"--{name}" for name in changed)
        if getattr(options, "save_config", None) is not None:
            from features.commands.configuration import save_configuration

            save_configuration(options.save_config, self, options)
            tell(f"options written to {options.save_config}")
        return options

    def add_subparsers(self, **settings: Any) -> Any:
        """Sub-parsers with the same habits, but for a configuration."""
        return super().add_subparsers(**{"parser_class": functools.partial(type(self), configurable=False), **settings})

    def format_help(self) -> str:
        """The help, with what is the same everywhere at its end."""
        # argparse has no public way to order groups.
        self._action_groups.sort(key=lambda group: group is self._everywhere)
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raise the complaint as a UserError."""
        raise UserError(f"{message}; `{self.prog} --help` lists what there is")
