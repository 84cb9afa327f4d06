import pytest
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from shared.runtime.settings import BadConfigurationError, ServiceSettings, load, stop_with


class ToySettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="EXPRESSYNC_TOY_")

    hook_key: SecretStr = Field(description="The hook's key")
    window_s: int = Field(90, ge=10, description="Seconds")


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in {
        "EXPRESSYNC_TOY_DATABASE_URL": "postgresql://a:b@127.0.0.1/c",
        "EXPRESSYNC_TOY_PORT": "8000",
        "EXPRESSYNC_TOY_OPS_PORT": "8001",
        "EXPRESSYNC_TOY_HOOK_KEY": "k3y",
        "EXPRESSYNC_AMQP_URL": "amqp://a:b@127.0.0.1/",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_complete_settings_load(complete: pytest.MonkeyPatch) -> None:
    """Every service's own variables and the shared ones are read from the environment."""
    settings = load(ToySettings)
    assert (settings.port, settings.window_s, settings.hook_key.get_secret_value()) == (8000, 90, "k3y")


@pytest.mark.parametrize("name", ["EXPRESSYNC_TOY_HOOK_KEY", "EXPRESSYNC_AMQP_URL", "EXPRESSYNC_TOY_DATABASE_URL"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_setting_is_named(complete: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    """A variable that is not set, or set to nothing, stops the start, by its full name."""
    if value is None:
        complete.delenv(name)
    else:
        complete.setenv(name, value)
    with pytest.raises(BadConfigurationError, match=name):
        load(ToySettings)


def test_every_wrong_setting_is_named_and_no_value_repeated(complete: pytest.MonkeyPatch) -> None:
    """All that is wrong is told at once, and what might be a secret is not."""
    complete.setenv("EXPRESSYNC_TOY_PORT", "s3cret-in-the-wrong-place")
    complete.setenv("EXPRESSYNC_TOY_WINDOW_S", "3")
    with pytest.raises(BadConfigurationError) as raised:
        load(ToySettings)
    told = "\n".join(raised.value.problems)
    assert "EXPRESSYNC_TOY_PORT" in told
    assert "EXPRESSYNC_TOY_WINDOW_S" in told
    assert "s3cret" not in told


def test_a_misspelled_setting_is_found(complete: pytest.MonkeyPatch) -> None:
    """A variable under the service's prefix that is no setting is an error, with the nearest name."""
    complete.setenv("EXPRESSYNC_TOY_WINDWO_S", "30")
    with pytest.raises(BadConfigurationError, match=r"EXPRESSYNC_TOY_WINDWO_S.*did you mean EXPRESSYNC_TOY_WINDOW_S"):
        load(ToySettings)


def test_the_program_stops_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong, why nothing started, and what to do stand on stderr; the exit code says configuration."""
    with pytest.raises(SystemExit) as exit_:
        stop_with(BadConfigurationError(["EXPRESSYNC_TOY_PORT is not set"]), "expressync toy")
    assert exit_.value.code == 2
    told = capsys.readouterr().err
    assert "expressync toy did not start" in told
    assert "EXPRESSYNC_TOY_PORT is not set" in told
    assert ".env.example" in told
