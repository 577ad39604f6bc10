"""What people report about answers: a database that the app fills and training reads."""

from reports.database import PAUSE, SAID, Database, open_database
from reports.likeness import distance, likeness
from reports.records import (
    KINDS,
    STATUSES,
    Accepted,
    Away,
    Count,
    Differs,
    Kept,
    Kind,
    Outline,
    Page,
    Report,
    Sent,
    Status,
    TooMany,
)

__all__ = [
    "KINDS",
    "PAUSE",
    "SAID",
    "STATUSES",
    "Accepted",
    "Away",
    "Count",
    "Database",
    "Differs",
    "Kept",
    "Kind",
    "Outline",
    "Page",
    "Report",
    "Sent",
    "Status",
    "TooMany",
    "distance",
    "likeness",
    "open_database",
]
