"""A simulated Lago: billing for the embedded demo and the upstream of the tests.

```python
async with run_lago(LagoSettings(seed={...})) as lago:
    lago.url, lago.state.events, lago.requests.total
    lago.faults.add("drop_after_commit", path="/api/v1/events/batch", count=1)
```
"""

from deploy.demo.lago.faults import Fault, FaultControl
from deploy.demo.lago.server import SimulatedLago, run_lago
from deploy.demo.lago.settings import CLOUD_LIMITS, LagoSettings, RateLimits
from deploy.demo.lago.state import LagoState

__all__ = [
    "CLOUD_LIMITS",
    "Fault",
    "FaultControl",
    "LagoSettings",
    "LagoState",
    "RateLimits",
    "SimulatedLago",
    "run_lago",
]
