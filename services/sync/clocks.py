"""How far the clocks of two processes may differ. Pure."""

from datetime import timedelta
from typing import Final

# They differ by less: what is noted at a time that is further ahead was noted by a wrong clock, and nobody knows when.
AHEAD: Final = timedelta(minutes=1)
