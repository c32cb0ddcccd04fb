"""Who may import whom, and how long a file may be: DESIGN's table, held by import-linter and this page."""

import subprocess
import sys
from pathlib import Path

from contracts.settings import REPOSITORY

PACKAGES = ("contracts", "dags", "feature_repo", "jobs", "ledger", "local", "serving")
LONGEST = 500
"""Lines of a file. A longer one has more than one subject."""


def sources() -> list[Path]:
    found = [path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")]
    assert len(found) > 60, "looked in the wrong place"
    return found


def lint(config: Path) -> subprocess.CompletedProcess:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([program, "--config", config, "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True, timeout=120,
                          env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "COLUMNS": "200", "PYTHONIOENCODING": "utf-8"})


def test_import_rules_hold():
    done = lint(REPOSITORY / "pyproject.toml")
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_the_import_rules_can_fail(tmp_path):
    """The same linter, with a rule that the project breaks on purpose: the command line imports the steps."""
    config = tmp_path / "rules.toml"
    config.write_text('[tool.importlinter]\nroot_packages = ["jobs", "contracts"]\n[[tool.importlinter.contracts]]\nname = "broken"\n'
                      'type = "forbidden"\nsource_modules = ["jobs"]\nforbidden_modules = ["contracts"]\n')
    done = lint(config)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 broken" in done.stdout


def test_every_package_has_rules():
    text = (REPOSITORY / "pyproject.toml").read_text()
    missing = [name for name in PACKAGES if f'source_modules = ["{name}"]' not in text]
    assert missing == []


def test_no_file_is_too_long():
    long = {str(path.relative_to(REPOSITORY)): lines for path in sources() if (lines := len(path.read_text().splitlines())) > LONGEST}
    assert long == {}


def test_every_module_says_what_it_is():
    silent = [str(path.relative_to(REPOSITORY)) for path in sources()
              if path.read_text().strip() and not path.read_text().lstrip().startswith(('"""', 'r"""'))]
    assert silent == []
