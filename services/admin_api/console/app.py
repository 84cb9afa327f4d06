"""The console's pages. Each has a twin under /api/v1, made by the same code."""

from starlette.applications import Starlette

from services.admin_api.house import House


def create_console(house: House) -> Starlette:
    app = Starlette()
    app.state.house = house
    return app
