import binascii

from deploy.local.doctor.hook import rules
from deploy.local.doctor.result import Result
from deploy.local.doctor.target import Target
from services.preauth.decision.signature import parse_keys


def check(target: Target) -> list[Result]:
    try:
        keys = parse_keys(target.environment("preauth").get(rules.VARIABLE, ""))
    except (ValueError, binascii.Error):
        return [rules.judge(None)]
    return [rules.judge(keys)]
