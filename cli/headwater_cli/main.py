# SPDX-License-Identifier: Apache-2.0
"""The program `headwater`: a group of verbs, one module each.

Why: the command line is read by people who have never seen the code; this file says what there is
and hands over. Each verb is imported only when it is used, so `--help` and `doctor` are quick and
a missing optional part does not take the others down.
"""

import importlib
import logging
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from headwater_cli.errors import ExitStatus
from headwater_cli.options import COMPLETION_VARIABLE, is_debugging

VERBS = {
    "trace": "Run a command and write its provenance.",
    "serve": "Capture under policies until stopped.",
    "run": "Run a command in a labelled scope of a running serve.",
    "tail": "Print a tenant's records as they are stored.",
    "lineage": "Say where a file came from, or what was made of it.",
    "verify": "Say whether a tenant's stream is what its nodes signed.",
    "status": "Say which policies of a cluster are in force, and where not.",
    "tenants": "List a cluster's tenants.",
    "auditors": "List a cluster's auditors, or fetch one's credentials.",
    "policy": "Check policies, or make one of a CamFlow configuration.",
    "nats": "Make and replace the keys of a NATS for a cluster.",
    "completion": "Print what makes a shell complete verbs and options.",
    "doctor": "Say why this host cannot capture, or a policy is not in force.",
}
"""In the order of the help, with the one-line summaries shown there."""


class VerbGroup(click.Group):
    """A group that imports a verb's module when the verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import `headwater_cli.verbs.<name>` and return its command."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"headwater_cli.verbs.{cmd_name}")
        command = getattr(module, "command", None)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the summaries without importing any verb."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


def _version() -> str:
    try:
        return version("headwater")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown (not installed)"


@click.group(
    cls=VerbGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit statuses are listed in docs/cli.md; 125 means headwater itself failed.",
)
@click.version_option(_version(), prog_name="headwater")
@click.option("-v", "--verbose", count=True, help="Say more on stderr; twice for debugging.")
def headwater(verbose: int) -> None:
    """Whole-system provenance: what read what, and what came of it.

    "headwater trace -- COMMAND" is the place to start; "headwater doctor" says whether this host
    can capture.
    """
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(level=level, format="headwater: %(message)s", stream=sys.stderr)
    # The client library reports each reconnect as an error; delivery reports what came of it.
    logging.getLogger("nats").setLevel(logging.CRITICAL if verbose < 2 else logging.DEBUG)


def main() -> None:
    """Run the program and exit with its documented status."""
    try:
        # kubectl runs a program called kubectl-headwater for `kubectl headwater`.
        name = "kubectl headwater" if Path(sys.argv[0]).name.startswith("kubectl") else "headwater"
        headwater(prog_name=name, complete_var=COMPLETION_VARIABLE)
    except SystemExit:
        raise
    except BrokenPipeError:
        # The reader of our output went away (head, less): not an error of anybody.
        sys.stderr.close()
        sys.exit(int(ExitStatus.OK))
    except Exception as error:
        if is_debugging():
            raise
        click.echo(
            f"headwater: unexpected {type(error).__name__}: {error}\n"
            "  remedy: this is a defect; run again with HEADWATER_DEBUG=1 and report the traceback",
            err=True,
        )
        sys.exit(int(ExitStatus.FAILED))


if __name__ == "__main__":
    main()
