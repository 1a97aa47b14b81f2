"""What is wrong with a collection of pictures, before a fit."""

from topwork.auditing.inspection import Audit, audit

__all__ = ["Audit", "audit"]
