"""How a wheel is made of the rooms: one package at its top level, with the rooms below it.

In the repository, and in a Flower bundle, the rooms are packages of their own. In site-packages
`crypto/` or `clients/` would stand in the way of others (on some disks even of Flower's dependency
`Crypto`), so a wheel holds `asclepias` alone. Its modules are the same files; what names a room in
them, an import or a text such as "clients.client_app:app", is written anew, and every module has
one name.
"""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

FACE = "asclepias"
ROOMS = ("accounting", "clients", "crypto", "deployment", "simulations", "strategies")
HERE = Path(__file__).resolve().parent
#: A text that names a module of a room, or something in one.
_NAMED = re.compile(rf"(?:{'|'.join(ROOMS)})(?:\.\w+)+(?::\w+)?")


def below_face(source: str) -> str:
    """Return a module's source with every name of a room's module below the face.

    Raises:
        ValueError: it imports a room's module in a form that would bind another name then.
    """
    lines = source.splitlines(keepends=True)
    places = sorted(_places(ast.parse(source)), reverse=True)
    for line, column in places:
        # ast counts bytes.
        text = lines[line - 1].encode()
        at = text.index(_first_room(text[column:]), column)
        lines[line - 1] = (text[:at] + f"{FACE}.".encode() + text[at:]).decode()
    return "".join(lines)


def _places(tree: ast.AST) -> set[tuple[int, int]]:
    """Return line and column of everything that names a room's module, from 1 and from 0."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(level=0, module=str(module)) if module.split(".")[0] in ROOMS:
                found.add((node.lineno, node.col_offset + len("from ")))
            case ast.Import(names=names):
                if any(one.name.split(".")[0] in ROOMS for one in names):
                    raise ValueError(f"line {node.lineno}: write 'from room import module'")
            case ast.Constant(value=str(text)) if _NAMED.fullmatch(text):
                found.add((node.lineno, node.col_offset))
    return found


def _first_room(text: bytes) -> bytes:
    found = re.search(rf"\b(?:{'|'.join(ROOMS)})\b".encode(), text)
    assert found is not None
    return found.group()


def project_below_face(text: str) -> str:
    """Return the app's description as a bundle of the wheel's package needs it."""
    return re.sub(
        r'^((?:server|client)app) = "(\w+)\.', rf'\1 = "{FACE}.\2.', text, flags=re.MULTILINE
    )


def lay_below_face(folder: Path) -> None:
    """Move the rooms in a folder below the face and write their sources anew.

    Args:
        folder: holds the face and the rooms, as the repository does.
    """
    for room in ROOMS:
        if (folder / room).is_dir():
            shutil.rmtree(folder / FACE / room, ignore_errors=True)
            shutil.move(folder / room, folder / FACE / room)
    for file in sorted((folder / FACE).rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        if (made := below_face(source)) != source:
            file.write_text(made, encoding="utf-8")


class BelowFace(build_py):
    """Lays the rooms below the face, but in a checkout that is installed in place."""

    def run(self) -> None:
        """Copy what belongs to a wheel, then write it anew."""
        if self.editable_mode:
            super().run()
            return
        built = Path(self.build_lib)
        shutil.rmtree(built, ignore_errors=True)
        super().run()
        lay_below_face(built)
        project = (HERE / "pyproject.toml").read_text(encoding="utf-8")
        place = built / FACE / "pyproject.toml"
        place.write_text(project_below_face(project), encoding="utf-8")


class OnePackage(bdist_wheel):
    """Says of the wheel that it has one package at its top level."""

    def egg2dist(self, egginfo_path: str, distinfo_path: str) -> None:
        """Write what is said of the wheel."""
        super().egg2dist(egginfo_path, distinfo_path)
        Path(distinfo_path, "top_level.txt").write_text(f"{FACE}\n", encoding="utf-8")


if __name__ == "__main__":
    setup(cmdclass={"bdist_wheel": OnePackage, "build_py": BelowFace})
