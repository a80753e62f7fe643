"""Directives that write reference from the code: every command with its options, every setting.

{eval-rst}
.. commands:: asclepias
.. settings::
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


def programs() -> dict[str, Any]:
    """Return the console commands by name."""
    from typer.main import get_command

    import deployment.cli
    import simulations.cli

    apps = {"asclepias": deployment.cli.app, "flower-simulation": simulations.cli.app}
    return {name: get_command(app) for name, app in apps.items()}


def commands_of(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield every command below one, by all words that call it."""
    if below := getattr(command, "commands", None):
        for word, one in sorted(below.items()):
            if not one.hidden:
                yield from commands_of(f"{name} {word}", one)
    else:
        yield name, command


class _Written(SphinxDirective):
    """Parses lines of reStructuredText in place."""

    def lines(self) -> Iterator[str]:
        """Yield them."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Return what the lines say."""
        parent = nodes.section()
        parent.document = self.state.document
        self.state.nested_parse(
            StringList(list(self.lines()), "made"), 0, parent, match_titles=True
        )
        return parent.children


def _plain(text: str) -> str:
    """Return help without the markup of terminals, and with nothing that reST would read."""
    unmarked = re.sub(r"\[/?(?:bold|dim|italic|green|red|yellow|cyan)\]", "", text)
    return re.sub(r"([\\*`|_])", r"\\\1", " ".join(unmarked.split()))


class Commands(_Written):
    """Every command of a program: its use, what it does, its options, examples."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {}

    def lines(self) -> Iterator[str]:
        """Yield a section a command."""
        program = self.arguments[0]
        for name, command in commands_of(program, programs()[program]):
            yield from (name, "-" * len(name), "")
            for paragraph in re.split(r"\n\s*\n", command.help or ""):
                yield from (_plain(paragraph), "")
            yield from self._parameters(command)
            examples = [one.strip() for one in (command.epilog or "").split("\n\n")]
            examples = [re.sub(r"^Examples?: *", "", one) for one in examples]
            if shown := [" ".join(one.split()) for one in examples if one]:
                yield from (".. code-block:: sh", "")
                yield from (f"   {one}" for one in shown)
                yield ""

    def _parameters(self, command: Any) -> Iterator[str]:
        for one in command.params:
            if getattr(one, "hidden", False):
                continue
            word = one.metavar or one.name.upper()
            if one.param_type_name == "argument":
                shown = word if one.required else f"[{word}]"
            else:
                flag = one.is_flag or one.count
                options = ", ".join((*one.opts, *one.secondary_opts))
                shown = options if flag else f"{options} {one.metavar or one.type.name.upper()}"
            yield from (f"``{shown}``", f"   {_plain(one.help or one.name)}", "")


class Settings(_Written):
    """Every setting of a run with what it means and its value where nothing is said."""

    def lines(self) -> Iterator[str]:
        """Yield an entry a setting."""
        from clients.contract.settings import DEFAULTS, describe_keys

        room = ""
        for key, text in describe_keys().items():
            if key.partition(".")[0] != room:
                room = key.partition(".")[0]
                yield from (f"[{room}]", "-" * (len(room) + 2), "")
            yield from (f"``{key}`` = ``{json.dumps(DEFAULTS[key])}``", f"   {_plain(text)}", "")


class Mermaid(Directive):
    """Shows a Mermaid block as its text: what draws it in a browser would have to be fetched."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the text."""
        text = "\n".join(self.content)
        return [nodes.literal_block(text, text, language="text")]
