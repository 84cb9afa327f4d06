from __future__ import annotations


class InfraError(RuntimeError):
    """Something that is needed beside Python packages cannot be provided: three lines for a person.

    `what` failed, with which value; `why`; and what to do about it (`remedy`).
    """

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(what, why, remedy)
        self.what = what
        self.why = why
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}\n{self.why}\n{self.remedy}"
