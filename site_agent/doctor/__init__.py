"""`pixcell-site doctor`: say beforehand what would fail, each line with its remedy."""

from site_agent.doctor.examine import exit_code, print_checks, run_doctor
from site_agent.doctor.findings import Check, DoctorSettings

__all__ = ["Check", "DoctorSettings", "exit_code", "print_checks", "run_doctor"]
