"""The operators' commands, over the JSON API with a token. `register(app)` adds them to a typer program."""

from services.admin_api.cli.app import register

__all__ = ["register"]
