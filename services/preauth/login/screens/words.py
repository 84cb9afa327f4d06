"""The sentences that drivers read, from one file a language. Pure once loaded."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "words"
PLACE: Final = re.compile(r"\{([a-z_]+)\}")


class Words:
    """Sentences by dotted name, such as `scan.wait.title`."""

    def __init__(self, language: str = "en") -> None:
        loaded = tomllib.loads((FOLDER / f"{language}.toml").read_text(encoding="utf-8"))
        self._sentences = dict(_flat(loaded))
        self.language = self._sentences.pop("language")

    def __call__(self, name: str, **known: object) -> str:
        """The sentence with what is known filled in; what is not stays in braces, for the scripts to fill.

        :raises KeyError: for a sentence that does not exist.
        """
        return PLACE.sub(lambda found: str(known.get(found[1], found[0])), self._sentences[name])

    def part(self, name: str) -> Mapping[str, str]:
        """All sentences below a name, without it."""
        start = f"{name}."
        return {key.removeprefix(start): text for key, text in self._sentences.items() if key.startswith(start)}

    def places(self) -> Mapping[str, frozenset[str]]:
        """What each sentence leaves open, by its name: a translation leaves open the same."""
        return {name: frozenset(PLACE.findall(text)) for name, text in self._sentences.items()}


def _flat(loaded: Mapping[str, Any], start: str = "") -> Iterator[tuple[str, str]]:
    for key, value in loaded.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{start}{key}.")
        else:
            yield f"{start}{key}", value
