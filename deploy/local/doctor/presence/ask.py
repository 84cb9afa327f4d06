from pydantic import TypeAdapter, ValidationError

from deploy.local.doctor.presence import rules
from deploy.local.doctor.result import Result
from deploy.local.doctor.target import Target


def check(target: Target) -> list[Result]:
    given = target.environment("preauth").get(rules.VARIABLE, "false")
    try:
        strong = TypeAdapter(bool).validate_python(given)
    except ValidationError:
        return [rules.judge(qr_is_strong=None)]
    return [rules.judge(qr_is_strong=strong)]
