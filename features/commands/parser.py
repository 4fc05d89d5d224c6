"""The parser of every command: complaints of one line, and the habits that all commands have.

`--help` and `--help-all`, `--version`, `--verbose` and `--quiet`, `--save-config` and `--config`, the nearest name for
a slip of the keyboard, and completion in the shell stand here once; a command gets them by using this class.
"""

import argparse
import functools
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from features.commands.help import HelpFormatter, Listing, ShowAll, filled, help_width, usage
from features.commands.program import program
from features.commands.speaking import NORMAL, QUIET, VERBOSE, set_loudness, tell
from features.commands.version import ShowVersion
from features.errors import UserError, nearest, unknown

Add = Callable[..., argparse.Action]


class Parser(argparse.ArgumentParser):
    """An argument parser as all of ours are.

    command: 'classify probe'; what is typed to run it follows from that, unless `prog` says it. options: by their long
    names without dashes, in the order added, those that are not the same everywhere. What it parsed has `command_line`
    besides: the command as it can be repeated, a configuration's options spelled out; and `given`: the options, as
    typed, that have another value than their default. configurable: whether `--config` and `--save-config` are offered;
    a parser with sub-parsers says no, and so do these.
    """

    def __init__(self, command: str = "", *, configurable: bool = True, **settings: Any) -> None:
        self.options: dict[str, argparse.Action] = {}
        self.typed_only: set[str] = set()
        self.former: dict[str, str] = {}
        self.show_rare = False
        self._rare: list[argparse.Action] = []
        self._listings: list[tuple[bool, Listing]] = []
        if command:
            settings.setdefault("prog", program(command))
        super().__init__(**{"allow_abbrev": False, "formatter_class": HelpFormatter, "add_help": False, **settings})
        self._configurable = configurable
        self.command = command
        self._program = self.prog.split()
        self._everywhere = self.add_argument_group("everywhere")
        add = functools.partial(self._noted, self._everywhere.add_argument)
        add("-h", "--help", action="help", default=argparse.SUPPRESS, help="this help")
        add("--help-all", action=ShowAll, help="this help with the options that are rarely needed")
        add("--version", action=ShowVersion, help="the versions of this, torch and Python")
        loudness = self._everywhere.add_mutually_exclusive_group()
        # Without a default, or a verb's parser would undo what was said before the verb.
        shared: dict[str, Any] = {"action": "store_true", "default": argparse.SUPPRESS}
        loudness.add_argument("-v", "--verbose", **shared, help="say also what was decided and found on the way")
        loudness.add_argument("-q", "--quiet", **shared, help="say nothing but the answer and errors")
        if configurable:
            add("--config", metavar="FILE", help="take options from a TOML file; what is typed wins", rare=True)
            add("--save-config", metavar="FILE", help="write all options to such a file, then carry on", rare=True)
        self.options.clear()  # of what is the same everywhere

    def section(self, title: str) -> Add:
        """What adds an option under a title of its own in the help; it takes what `add_argument` takes."""
        return functools.partial(self._noted, self.add_argument_group(title).add_argument)

    def add_argument(self, *names: str, **settings: Any) -> argparse.Action:
        """As argparse's. completer: what offers values for it in the shell, see `features.commands.completion`. rare:
        shown by `--help-all` alone. former: a name that it had before, which still means it and is not spoken of.
        typed_only: it lets something in or lets something go, and no configuration can give it."""
        return self._noted(super().add_argument, *names, **settings)

    def _noted(
        self,
        add: Add,
        *names: str,
        completer: Callable[..., Iterable[str]] | None = None,
        rare: bool = False,
        former: str = "",
        typed_only: bool = False,
        **settings: Any,
    ) -> argparse.Action:
        action = add(*names, **settings)
        options = {name[2:]: action for name in names if name.startswith("--")}
        self.options |= options
        self.typed_only |= set(options) if typed_only else set()
        actions = [action]
        if rare:
            self._rare.append(action)
        if former:
            # argcomplete asks the parser itself; what is typed is put in today's words before it is parsed.
            actions.append(add(former, **{**settings, "dest": action.dest, "help": argparse.SUPPRESS}))
            self.former[former] = names[0]
        for added in actions if completer is not None else ():
            added.completer = completer  # type: ignore[attr-defined]  # where argcomplete looks for it
        return action

    def list_verbs(self, groups: Iterable[tuple[str, Mapping[str, str]]]) -> None:
        """Verbs with what each does, in groups with titles, above the options."""
        self._listings += [(True, Listing(title, tuple(verbs.items()))) for title, verbs in groups]

    def list_below(self, title: str, entries: Iterable[tuple[str, str]], *, rare: bool = False) -> None:
        """Names with what they are, below the options; nothing without any."""
        if listed := tuple(entries):
            self._listings.append((False, Listing(title, listed, rare)))

    def parse_args(  # type: ignore[override]  # nobody gives a namespace of another class
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse, with a configuration's options where one is named; UserError for what is not understood."""
        from features.commands.completion import complete

        complete(self)
        arguments = self._in_todays_words(list(sys.argv[1:] if args is None else args))
        if self._configurable and any(word.split("=")[0] == "--config" for word in arguments):
            from features.commands.configuration import replayed

            arguments = replayed(self, arguments)
        options, rest = self.parse_known_args(arguments, namespace)
        if rest:
            chosen = (
                action.choices[getattr(options, action.dest)]
                for action in self._actions
                if isinstance(action, argparse._SubParsersAction) and getattr(options, action.dest) is not None
            )
            raise next(chosen, self)._not_understood(rest)
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

    def _in_todays_words(self, arguments: list[str]) -> list[str]:
        end = arguments.index("--") if "--" in arguments else len(arguments)
        for place, word in enumerate(arguments[:end]):
            name, equals, value = word.partition("=")
            if name in self.former:
                arguments[place] = self.former[name] + equals + value
        return arguments

    def _not_understood(self, words: Sequence[str]) -> UserError:
        """The complaint about words that mean nothing here, with the nearest option."""
        listed = f"`{self.prog} --help-all` lists what there is"
        verbs = [name for above, listing in self._listings if above for name, _ in listing.entries]
        if misplaced := [word for word in words[1:] if word in verbs]:
            return UserError(f"the verb comes first: `{self.prog} {misplaced[0]} ...`; {listed}")
        if verbs and not words[0].startswith("-"):
            return unknown(f"{self.prog} has no verb {words[0]!r}", words[0], verbs)
        word = next((word for word in words if word.startswith("-")), words[0])
        name = word.split("=")[0]
        if not name.startswith("-"):
            return UserError(f"{self.prog} takes no {word!r}; {listed}")
        known = [text for text in self._option_string_actions if text.startswith("--") and text not in self.former]
        near = nearest(name, known, most=2)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        return UserError(f"{self.prog} has no option {name}; {hint}{listed}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # argparse has no public place for what is said of a value that is no choice.
        if action.choices is not None and value not in action.choices:
            name = "/".join(action.option_strings) or action.metavar or action.dest
            is_verb = isinstance(action, argparse._SubParsersAction)
            problem = f"{self.prog} has no verb {value!r}" if is_verb else f"{name} cannot be {value!r}"
            raise unknown(problem, str(value), map(str, action.choices))

    def add_subparsers(self, **settings: Any) -> Any:
        """Sub-parsers with the same habits, but for a configuration."""
        return super().add_subparsers(**{"parser_class": functools.partial(type(self), configurable=False), **settings})

    def format_help(self) -> str:
        """What it does, the verbs, how it is called, the options, and lists; what is the same everywhere last."""
        width = help_width()
        # argparse has no public way to order groups.
        self._action_groups.sort(key=lambda group: group is self._everywhere)
        positionals = self._get_positional_actions()
        above = [listing.text(width) for is_above, listing in self._listings if is_above]
        below = [
            listing.text(width)
            for is_above, listing in self._listings
            if not is_above and (self.show_rare or not listing.rare)
        ]
        rare = [] if self.show_rare else self._rare
        hidden = {action: action.help for action in rare}
        for action in hidden:
            action.help = argparse.SUPPRESS
        settings = self.description, self.usage, self.epilog
        self.description = None
        verb = " [VERB]" if above and not positionals else ""
        self.usage = usage(self.prog + verb, positionals).replace("%", "%%")
        more = [f"more options: `{self.prog} --help-all`"] if len(rare) > 2 else []
        self.epilog = "\n\n".join([*below, *more])
        try:
            text = super().format_help()
        finally:
            self.description, self.usage, self.epilog = settings
            for action, said in hidden.items():
                action.help = said
        return "\n\n".join([*filter(None, [filled(self.description or "", width), *above]), text])

    def error(self, message: str) -> NoReturn:
        """Raise the complaint as a UserError."""
        raise UserError(f"{message}; `{self.prog} --help` lists what there is")
