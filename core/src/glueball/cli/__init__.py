"""The command ``glueball``.

Each subcommand is a module with ``add_parser(subparsers)`` and ``run(arguments) -> int``. Only the module of the
subcommand that was asked for is imported, because ``glueball list`` must answer at once and must not pay for the
engine; the table below holds what the overview of all subcommands needs.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

COMMANDS: dict[str, tuple[str, str]] = {
    "list": ("glueball.cli.list_entries", "list models, datasets, transforms, losses, metrics, recipes or tasks"),
    "info": ("glueball.cli.info", "describe one model, dataset, recipe, ..."),
    "train": ("glueball.cli.train", "train a recipe, on its own data or on yours"),
    "launch": ("glueball.cli.launch", "start the processes of a job on MXNet, here or on other machines"),
    "evaluate": ("glueball.cli.evaluate", "measure a trained run on a data set"),
    "predict": ("glueball.cli.predict", "predict on files or texts with a trained run"),
    "bench": ("glueball.cli.bench", "measure speed and memory of models on this machine"),
    "plugins": ("glueball.cli.plugins", "list, describe and check plugins"),
    "doctor": ("glueball.cli.doctor", "say what works on this machine, and what to do about the rest"),
}
"""Subcommand -> (its module, its line in the overview)."""

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_LOST = 3  # whoever started several processes looks for the cause in the one that ended otherwise


class _Parser(argparse.ArgumentParser):
    """Adds near names to argparse's complaints, and lets the subcommand make them: its usage is what helps."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        from glueball.catalog.suggestions import did_you_mean  # imported late: only mistakes need it

        known = [str(choice) for choice in action.choices]
        shown = ", ".join(map(repr, known))
        raise argparse.ArgumentError(
            action, f"invalid choice: {value!r} (choose from {shown}).{did_you_mean(str(value), known, limit=1)}"
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self._asked(parsed)._refuse(unknown)
        return parsed

    def _asked(self, parsed: argparse.Namespace) -> _Parser:
        """The parser of the innermost subcommand that was asked for."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                chosen = action.choices.get(getattr(parsed, action.dest, None) or "")
                if isinstance(chosen, _Parser):
                    return chosen._asked(parsed)
        return self

    def _refuse(self, unknown: Sequence[str]) -> NoReturn:
        from glueball.catalog.suggestions import near_names

        flags = [word.partition("=")[0] for word in unknown if word.startswith("--")]
        known = [flag for flag in self._option_string_actions if flag.startswith("--")]
        near = [name for flag in flags for name in near_names(flag, known, limit=1)]
        hint = f". Did you mean {' and '.join(near)}?" if near else ""
        self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The whole parser; ``command`` is the only subcommand that gets its arguments, None gives all of them theirs."""
    from glueball import __version__

    parser = _Parser(
        prog="glueball", description="Models, data sets and recipes of all installed plugins, on MXNet or PyTorch."
    )
    parser.add_argument("--version", action="version", version=f"glueball {__version__}")
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        if command is None or name == command:
            importlib.import_module(module).add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    return parser


def _asked_command(argv: Sequence[str]) -> str:
    """The subcommand in ``argv``, or "" where there is none; the main parser's own options take no values."""
    word = next((word for word in argv if not word.startswith("-")), "")
    return word if word in COMMANDS else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``glueball`` and returns its exit status.

    0: done. 1: done, and the answer is no (a check failed, no backend works). 2: could not be done; the reason is on
    standard error as a sentence. 3: another process of the run has ended. 130: interrupted. A subcommand may return
    others (143 after SIGTERM).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A class named in letters that the terminal lacks must not end the command.
            stream.reconfigure(errors="backslashreplace")
    from glueball.errors import GlueballError, LostProcessError

    words = list(sys.argv[1:] if argv is None else argv)
    command = _asked_command(words)
    formatwarning = warnings.formatwarning
    try:
        with _exit_on_sigterm():
            parser = build_parser(command)
            arguments = parser.parse_args(words)
            arguments.command_line = words
            if arguments.command is None:
                parser.print_help()
                return 0
            warnings.formatwarning = _warning
            status = int(importlib.import_module(COMMANDS[command][0]).run(arguments))
            sys.stdout.flush()
        return status
    except LostProcessError as error:
        print(f"glueball: {error}", file=sys.stderr)
        return EXIT_LOST
    except GlueballError as error:
        print(f"glueball: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("glueball: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise  # no file of the user's: a fault of ours, and its traceback tells which
        print(f"glueball: {error.filename} cannot be used: {error.strerror or error}.", file=sys.stderr)
        return 2
    finally:
        warnings.formatwarning = formatwarning


@contextlib.contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """From the first import on SIGTERM means exit status 143; what has more to do then sets a handler of its own."""
    is_ours = (
        threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if is_ours:
        signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning as a sentence: whoever types commands is told what, not where in our code it was noticed."""
    if category is UserWarning:
        return f"glueball: warning: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"
