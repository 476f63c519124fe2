"""The Job controllers: run pods to completion, and clean up finished Jobs.

- `indexes`: completion indexes as the status writes them (pure)
- `tally`: what a Job's pods add up to, and when it is done (pure)
- `pods`: the pods of a Job (pure)
- `controller`: the Job controller; `ttl_controller`: deletes finished Jobs after their time

Not done: podFailurePolicy, successPolicy and backoffLimitPerIndex. A Job that uses them is left alone, with a
warning event, as is one with `managedBy`.
"""
