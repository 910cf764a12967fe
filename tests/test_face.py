"""The public face: every name it promises is there, and nothing is loaded before it is asked for."""
import ast
import importlib
import subprocess
import sys

import pytest
from project import ROOT

from dir_nb.face import PUBLIC
from dir_nb.provenance import import_closure, imported_modules, module_path, public_names


@pytest.mark.parametrize("package, name", [(p, n) for p, table in PUBLIC.items() for n in table])
def test_every_name_is_found(package, name):
    found = getattr(importlib.import_module(package), name)
    where = f"{package}.{PUBLIC[package][name]}"
    assert found is (sys.modules[where] if where.endswith(f".{name}") else getattr(sys.modules[where], name))
    assert getattr(found, "__module__", where) == where, "the table names the module that defines it"


def test_nothing_is_loaded_before_it_is_asked_for():
    code = "import sys; before = set(sys.modules); import dir_nb; dir(dir_nb); print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(done.stdout.split()) - sys.stdlib_module_names == {"dir_nb"}


def test_the_face_imports_nothing_of_the_library():
    assert import_closure(["dir_nb.face"]) == ["dir_nb.face"]


def test_the_table_is_read_without_running_it():
    """Digests resolve public names by the source of the table: it must be a literal, and the packages' own."""
    assert public_names(ROOT / "dir_nb") == PUBLIC
    for package in PUBLIC:
        init = ROOT.joinpath(*package.split("."), "__init__.py")
        assert any(ast.unparse(n) == "__getattr__, __dir__ = lazy(__name__)" for n in ast.parse(init.read_text()).body), init


@pytest.mark.parametrize("package, name", [(p, n) for p, table in PUBLIC.items() for n in table])
def test_a_public_name_reaches_its_module(package, name):
    """`from dir_nb import X` is in a digest as the module that defines X."""
    module = f"{package}.{PUBLIC[package][name]}"
    assert module_path(module)
    assert module in imported_modules(f"from {package} import {name}")
    assert module in imported_modules(f"import {package} as p\nx = p.{name}")
