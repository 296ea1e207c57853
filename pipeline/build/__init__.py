"""The Dask pipeline: plan a store, convert its sources in workers, collect the rows, publish."""

from pipeline.build.options import Options, default_workers
from pipeline.build.plan import Plan, make_plan, plan_json
from pipeline.build.run import Summary, build, summary_json

__all__ = ["Options", "Plan", "Summary", "build", "default_workers", "make_plan", "plan_json", "summary_json"]
