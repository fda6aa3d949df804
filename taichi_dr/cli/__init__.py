"""The command line `taichi-dr`: a file for each command."""

import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from .. import __version__
from .console import Parser, error, nearest

COMMANDS = {
    "demo": "photographs of a bunny that it makes itself become a mesh, with a report; under a minute",
    "fit": "photographs of an object, with cameras, to a mesh that opens in Blender",
    "view": "a run while it goes on, or a mesh, in the browser",
    "render": "a turntable of a mesh, or one picture",
    "fit-face": "a face from one picture, by a morphable model",
    "convert": "meshes, cameras and data sets from one format to another",
    "benchmark": "how fast this machine renders, in a table to copy",
    "doctor": "what works on this machine, and what to do about what does not",
}
EPILOG = """\
start here:
  taichi-dr doctor                       does it work here?
  taichi-dr demo                         from photographs to a mesh, with a report, in a minute
  taichi-dr fit photos -o out/mine       the same with photographs of yours
  taichi-dr COMMAND --help               options and examples of a command

exit codes: 0 done, 1 an error, 2 a wrong option, 130 stopped by Ctrl-C (a fit has saved itself then)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: words after `taichi-dr`; those of this process where left out.

    Returns:
        The exit code: 0, 1 after an error, 2 after a wrong option, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words and words[0] in COMMANDS:
            return _run(words[0], words[1:])
        parser = _parser()
        if words and not words[0].startswith("-"):
            parser.error(f"no command is called {words[0]!r}{nearest(words[0], COMMANDS)}")
        parser.parse_args(words)
        parser.print_help()
        return 0
    except SystemExit as ended:  # of argparse: help, or a wrong option
        return ended.code if isinstance(ended.code, int) else 0
    except BrokenPipeError:  # a reader such as `head` that has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> Parser:
    lines = "\n".join(f"  {name:<10} {summary}" for name, summary in COMMANDS.items())
    parser = Parser(
        prog="taichi-dr",
        usage="taichi-dr COMMAND [options]",
        description=f"Differentiable rendering of meshes: photographs in, a mesh out.\n\ncommands:\n{lines}",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"taichi_dr {__version__}")
    return parser


def _run(name: str, words: list[str]) -> int:
    debug = "--debug" in words
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "10")  # seconds: in a file the lines of a progress bar stay
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            command = importlib.import_module(f".{name.replace('-', '_')}", __name__)
            parser = Parser(
                prog=f"taichi-dr {name}", usage=f"%(prog)s {command.USAGE}", description=command.__doc__, epilog=f"examples:\n{command.EXAMPLES}"
            )
            command.add_arguments(parser)
            group = parser.add_argument_group("of every command")
            group.add_argument("--quiet", action="store_true", help="say nothing but warnings and errors")
            group.add_argument("--debug", action="store_true", help="show where an error comes from")
            return command.run(parser.parse_args(words), parser) or 0
        except KeyboardInterrupt:
            print("\ntaichi-dr: stopped", file=sys.stderr)
            return 130
        except BrokenPipeError:
            raise
        except Exception as problem:
            if debug:
                traceback.print_exc()
            error(problem)
            return 1


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    if not issubclass(category, DeprecationWarning | PendingDeprecationWarning | ImportWarning | ResourceWarning):
        print(f"taichi-dr: warning: {message}", file=sys.stderr)
