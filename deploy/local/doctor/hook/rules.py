"""What is said about the hook's keys. Counts only: a key is never shown. Pure."""

from collections.abc import Sequence
from typing import Final

from deploy.local.doctor.result import Result, no, yes

CHECK: Final = "hook.keys"
# 192 bits, the least that Standard Webhooks asks of a key (https://www.standardwebhooks.com, "Secrets").
LEAST_BYTES: Final = 24
# A random key of that length has more; a repeated letter or a short word again and again has not.
LEAST_DIFFERENT: Final = 10
VARIABLE: Final = "EXPRESSYNC_PREAUTH_HOOK_KEYS"
NEW: Final = "Make one with `openssl rand -hex 32`"


def judge(keys: Sequence[bytes] | None) -> Result:
    """`keys` is None where the setting cannot be read."""
    if keys is None:
        return no(CHECK, f"{VARIABLE}: what begins with whsec_ is not base64.", "Copy the key again, whole.")
    if not keys:
        return yes(
            CHECK,
            f"There is none: a patched SteVe's calls are refused, and its taps pass. {VARIABLE} sets one; chargers "
            "that come through the gateway need none.",
        )
    weak = sum(len(key) < LEAST_BYTES or len(set(key)) < LEAST_DIFFERENT for key in keys)
    if weak:
        return no(
            CHECK,
            f"{weak} of {len(keys)} can be guessed: shorter than {LEAST_BYTES} bytes, or of few different ones.",
            f"{NEW}, and put it into {VARIABLE} and into SteVe.",
        )
    if len(set(keys)) < len(keys):
        return no(
            CHECK, f"{len(keys)} keys are set, and some are the same.", f"Remove the repeated one from {VARIABLE}."
        )
    if len(keys) == 1:
        return yes(CHECK, "One key is set; a second one beside it, after a comma, makes a rotation possible.")
    return yes(CHECK, f"{len(keys)} keys are valid at once. Remove the old one when SteVe signs with the new one.")
