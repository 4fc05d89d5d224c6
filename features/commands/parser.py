"""The parser of every command: complaints of one line, and the habits that all commands have.

`--version`, `--verbose` and `--quiet`, `--save-config` and `--config`, and completion in the shell stand here once; a
command gets them by using this class.
"""

import argparse
import functools
import shlex
import sys
from collections.abc import Sequence

from features.commands.speaking import NORMAL, QUIET, VERBOSE, set_loudness, tell
from features.commands.version import ShowVersion
from features.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser as all of ours are.

    What it parsed has `command_line` besides: the command as it can be repeated, a configuration's options spelled
    out. configurable: whether `--config` and `--save-config` are offered; a parser with sub-parsers says no, and so do
    these.
    """

    def __init__(self, *, configurable: bool = True, **settings) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})
        self._configurable = configurable
        self._program = self.prog.split()
        self._everywhere = self.add_argument_group("everywhere")
        self._everywhere.add_argument("--version", action=ShowVersion, help="the versions of this, torch and Python")
        loudness = self._everywhere.add_mutually_exclusive_group()
        # Without a default, or a verb's parser would undo what was said before the verb.
        shared = {"action": "store_true", "default": argparse.SUPPRESS}
        loudness.add_argument("-v", "--verbose", **shared, help="say also what was decided and found on the way")
        loudness.add_argument("-q", "--quiet", **shared, help="say nothing but the answer and errors")
        if configurable:
            add = self._everywhere.add_argument
            add("--config", metavar="FILE", help="take options from a TOML file; what is typed wins")
            add("--save-config", metavar="FILE", help="write all options to such a file, then carry on")

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):
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
        if getattr(options, "save_config", None) is not None:
            from features.commands.configuration import save_configuration

            save_configuration(options.save_config, self, options)
            tell(f"options written to {options.save_config}")
        return options

    def add_subparsers(self, **settings):
        """Sub-parsers with the same habits, but for a configuration."""
        return super().add_subparsers(**{"parser_class": functools.partial(type(self), configurable=False), **settings})

    def format_help(self) -> str:
        """The help, with what is the same everywhere at its end."""
        self._action_groups.sort(key=lambda group: group is self._everywhere)
        return super().format_help()

    def error(self, message: str) -> None:
        """Raise the complaint as a UserError."""
        raise UserError(f"{message}; `{self.prog} --help` lists what there is")
