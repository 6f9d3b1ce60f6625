"""Configured variables, generated secrets, and how they are stored."""

import stat
from pathlib import Path

import pytest
from dotenv import dotenv_values

from sandbox import variables


def test_the_environment_wins_over_the_file_and_empty_means_not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("REDIS_URL=redis://file\nADMIN_KEY=file\nSMTP_HOST=\n")
    monkeypatch.setenv("ADMIN_KEY", "environment")
    monkeypatch.setenv("REDIS_URL", "")
    found = variables.configured(tmp_path)
    assert found["ADMIN_KEY"] == "environment"
    assert found["REDIS_URL"] == "redis://file"
    assert "SMTP_HOST" not in found
    assert "REDIS_URL" not in variables.child_environment()
    assert variables.child_environment()["ADMIN_KEY"] == "environment"


def test_secrets_are_made_once_and_a_missing_one_is_added(tmp_path: Path) -> None:
    file = tmp_path / "secrets.env"
    first = variables.kept_secrets(file)
    assert set(first) == set(variables.SECRETS)
    assert len(set(first.values())) == len(first)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert variables.kept_secrets(file) == first
    variables.write_private(file, {"KEY_PEPPER": "mine"})
    assert variables.kept_secrets(file)["KEY_PEPPER"] == "mine"
    assert set(variables.kept_secrets(file)) == set(variables.SECRETS)


def test_values_survive_being_written(tmp_path: Path) -> None:
    values = {"ADMIN_KEY": 'it\'s $HOME \\ # "q"', "BASE_URL": "http://a/?b=c"}
    variables.write_private(tmp_path / "runtime.env", values)
    assert dotenv_values(tmp_path / "runtime.env", interpolate=False) == values
