"""One page that shows what was fitted and how well, for a browser and for nobody's network."""

from glico_augment.report.page import make_report, write_report

__all__ = ["make_report", "write_report"]
