"""How we were called: `python -m classify probe`, or by the console command `layerprobe probe`.

Texts spell commands in the first way; whoever typed the second reads the second.
"""

import re

_COMMANDS = re.compile(r"\bpython -m ((?:extract|features|classify)(?: [a-z]+)?)\b")

_console = ""


def started_as(console: str) -> None:
    """From now on commands are called so: 'layerprobe', 'layerprobe classify', or '' for `python -m`."""
    global _console
    _console = console


def program(command: str) -> str:
    """What is typed to run a command: 'classify probe' is `python -m classify probe` or `layerprobe probe`."""
    if not _console:
        return f"python -m {command}"
    package, _, verb = command.partition(" ")
    return f"{_console} {verb}" if package == "classify" and verb else f"layerprobe {command}"


def as_typed(text: object) -> str:
    """A text in which commands are spelled as the one that runs was."""
    return _COMMANDS.sub(lambda match: program(match[1]), str(text)) if _console else str(text)
