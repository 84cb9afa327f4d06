"""What is said about the proof that a driver stands at the charger. Pure."""

from typing import Final

from deploy.local.doctor.result import Result, no, unknown, yes

CHECK: Final = "presence.qr"
VARIABLE: Final = "EXPRESSYNC_PREAUTH_QR_IS_STRONG"


def judge(*, qr_is_strong: bool | None) -> Result:
    """None where the setting is neither true nor false."""
    if qr_is_strong is None:
        return unknown(CHECK, f"{VARIABLE} is neither true nor false.", f"Write {VARIABLE}=false.")
    if qr_is_strong:
        return no(
            CHECK,
            "QR codes count as strong: whoever has a photo of one is logged in as the next card held to its charger.",
            f"If that is not what you accept, set {VARIABLE}=false: then a card needs a PIN behind a QR code.",
        )
    return yes(CHECK, "Behind a QR code a card needs a PIN, or a browser that its owner bound.")
