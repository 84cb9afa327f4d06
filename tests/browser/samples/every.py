"""Every page of the console in its typical, empty, silent, wrong and overlong states, from made-up view models."""

from tests.browser.samples.base import Sample
from tests.browser.samples.cards import card_lists, cards
from tests.browser.samples.edits import edits
from tests.browser.samples.links import links
from tests.browser.samples.rest import audit, outside, overview

SAMPLES: dict[str, Sample] = {
    sample.name: sample for part in (overview, cards, card_lists, links, edits, audit, outside) for sample in part()
}
