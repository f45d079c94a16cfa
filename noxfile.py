"""The tests with the oldest and with the newest versions of what the library needs: ``nox -s oldest-3.11``, say."""

import nox

PROJECT = nox.project.load_toml("pyproject.toml")["project"]


@nox.session(python=["3.10", "3.11", "3.12"], default=False)
def oldest(session: nox.Session) -> None:
    """The lowest version that pyproject.toml allows of all that the library, its demo and its benchmarks need."""
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *extras["demo"], *extras["bench"]]
    lowest = sorted({requirement.replace(">=", "==") for requirement in wanted})
    session.install(*lowest, ".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python=["3.10", "3.11", "3.12", "3.13", "3.14"], default=False)
def newest(session: nox.Session) -> None:
    """The newest version of everything."""
    session.install("--upgrade", ".[test]")
    session.run("python", "-m", "pytest", *session.posargs)
