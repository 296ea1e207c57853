"""The Dask pipeline: plan a store, convert its sources in workers, collect the rows, publish."""

from pipeline.build.dry_run import Preview, preview, preview_json, preview_lines
from pipeline.build.options import Options, default_workers
from pipeline.build.plan import Plan, make_plan, plan_json
from pipeline.build.run import Summary, build, plan_lines, size_text, summary_json, summary_lines

__all__ = [
    "Options",
    "Plan",
    "Preview",
    "Summary",
    "build",
    "default_workers",
    "make_plan",
    "plan_json",
    "plan_lines",
    "preview",
    "preview_json",
    "preview_lines",
    "size_text",
    "summary_json",
    "summary_lines",
]
