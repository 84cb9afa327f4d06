"""`expressync doctor`: asks everything this installation needs, changes nothing, starts nothing."""

from deploy.local.doctor.command import run_doctor

__all__ = ["run_doctor"]
