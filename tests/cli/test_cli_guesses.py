"""Guessed names of commands lead to commands that exist."""

import pytest
from typer.main import get_command

from topwork.cli import guesses
from topwork.cli.app import app


def exists(line: str) -> bool:
    """Whether a command, its subcommand or its option is there."""
    command = get_command(app)
    for word in line.split():
        if word.startswith("-"):
            return any(word in option.opts for option in command.params)
        if word.isupper():  # an argument
            continue
        if not hasattr(command, "commands") or word not in command.commands:
            return word in ("top",)  # the value of an option
        command = command.commands[word]
    return True


@pytest.mark.parametrize("name", sorted(set(guesses._FOUND.values()) - {"--help"}))
def test_what_is_advised_exists(name: str) -> None:
    assert exists(name)


def test_no_guess_is_a_command_itself() -> None:
    names = set(get_command(app).commands)
    assert not names & {*guesses._FOUND, *guesses._MISSING}
    assert not guesses._FOUND.keys() & guesses._MISSING.keys()


def test_short_helps_are_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from topwork.cli.app import run

    monkeypatch.setenv("COLUMNS", "80")
    for group in ([], ["see"], ["style"], ["weights"], ["cache"]):
        run([*group, "--help"])
        assert "...\n" not in capsys.readouterr().out.partition("Options:")[2]
