"""`pixcell-site doctor`: say beforehand what would fail, each line with its remedy."""

from site_agent.doctor.examine import print_checks, run_doctor
from site_agent.doctor.settings import DoctorSettings

__all__ = ["DoctorSettings", "print_checks", "run_doctor"]
