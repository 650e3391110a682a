"""Hooks of pytest, for conftest.py: with --fail-on-skip, as in CI, a test that is skipped without need is a failure."""

import os
import sys

import pytest

# What a machine may lack without anybody being able to mend it there. All else CI installs.
ALLOWED = (
    "no CUDA GPU here",
    "a small disk can only be mounted by root, outside of closed containers",
    "strace may not be used here",
    "this torch lays out no weights",  # of processors without the instructions
    "torch has no oneDNN here",
    "the lock is of Python 3.11",
    "could not import 'tomllib'",  # before Python 3.11
    "is ignored here, and so by what is started here: that is what nohup is for",
)
CANNOT = "CI_CANNOT_INSTALL"  # this variable has the names of programs that .ci/run could not install, and said so


def pytest_addoption(parser) -> None:
    parser.addoption("--fail-on-skip", action="store_true", help="skipped tests fail, but for a few reasons")


def is_allowed(reason: str) -> bool:
    """Whether a test may be skipped for this reason."""
    missing = [f"no {name} on this machine" for name in os.environ.get(CANNOT, "").split()]
    return any(words in reason for words in (*ALLOWED, *missing))


class Skips:
    """Collects the tests that were skipped, in the process that reports, and judges them at the end."""

    def __init__(self):
        self.wrong: dict[str, str] = {}

    def pytest_runtest_logreport(self, report) -> None:
        self._add(report)

    def pytest_collectreport(self, report) -> None:
        self._add(report)  # whole modules

    def _add(self, report) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            if not is_allowed(reason):
                self.wrong[report.nodeid] = reason

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session) -> None:
        if self.wrong and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter) -> None:
        for test, reason in self.wrong.items():
            terminalreporter.write_line(f"SKIPPED WITHOUT NEED {test}: {reason} (--fail-on-skip, tests/skips.py)")


def pytest_report_header() -> str:
    """Say on which card the tests marked gpu run."""
    torch = sys.modules.get("torch")  # conftest.py has imported it
    there = torch is not None and torch.cuda.is_available()
    return f"GPU: {torch.cuda.get_device_name()}" if there else "GPU: none, so tests marked gpu are skipped"


def pytest_configure(config) -> None:
    if config.getoption("--fail-on-skip") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Skips())
