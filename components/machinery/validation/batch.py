"""Validation of the group batch."""

from typing import Any

from understudy.components.machinery import names
from understudy.components.machinery.time_zones import TIME_ZONES
from understudy.components.machinery.validation.findings import (
    Findings,
    immutable,
    invalid,
    invalid_all,
    non_negative,
    not_supported,
    one_of,
    required,
)
from understudy.components.machinery.validation.metadata import (
    selector_matches,
    validate_label_selector,
)
from understudy.components.machinery.validation.pods import validate_template
from understudy.components.machinery.validation.rules import Rules

Object = dict[str, Any]

_UID_LABEL = "batch.kubernetes.io/controller-uid"
_COMPLETION_MODES = ("NonIndexed", "Indexed")
_FAILURE_ACTIONS = ("Count", "FailIndex", "FailJob", "Ignore")
_CRON_JOB_NAME_MAX = 52
_COUNTS = (
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
)


def _job(job: Object) -> Findings:
    spec = job["spec"]
    found = _generated_selector(job)
    found += validate_job_spec(spec, "spec")
    labels = spec["template"]["metadata"].get("labels")
    selector = spec.get("selector")
    if selector is None or not selector_matches(selector, labels or {}):
        detail = "`selector` does not match template `labels`"
        found.append(invalid("spec.template.metadata.labels", labels, detail))
    return found


def _generated_selector(job: Object) -> Findings:
    spec = job["spec"]
    if spec.get("manualSelector"):
        return []
    uid = job["metadata"].get("uid", "")
    generated = {"matchLabels": {_UID_LABEL: uid}}
    found: Findings = []
    selector = spec.get("selector")
    if selector is None:
        return found
    labels = spec["template"]["metadata"].get("labels", {})
    for label, value in (
        (_UID_LABEL, uid),
        ("controller-uid", uid),
        ("batch.kubernetes.io/job-name", job["metadata"].get("name", "")),
        ("job-name", job["metadata"].get("name", "")),
    ):
        if labels.get(label) != value:
            at = f"spec.template.metadata.labels[{label}]"
            detail = f"must be '{value}'"
            found.append(
                invalid(at, labels.get(label, ""), detail) if label in labels else required(at, detail)
            )
    if selector != generated:
        found.append(invalid("spec.selector", selector, "`selector` not auto-generated"))
    return found


def validate_job_spec(spec: Object, path: str, *, in_template: bool = False) -> Findings:
    """What a job runs, how often, and when it is done."""
    found: Findings = []
    for field in _COUNTS:
        if field in spec:
            found += non_negative(f"{path}.{field}", spec[field])
    if "backoffLimitPerIndex" in spec and spec.get("completionMode") != "Indexed":
        detail = "requires indexed completion mode"
        found.append(invalid(f"{path}.backoffLimitPerIndex", spec["backoffLimitPerIndex"], detail))
    if "maxFailedIndexes" in spec and "backoffLimitPerIndex" not in spec:
        detail = "when maxFailedIndexes is specified"
        found.append(required(f"{path}.backoffLimitPerIndex", detail))
    if "managedBy" in spec:
        manager = spec["managedBy"]
        found += invalid_all(f"{path}.managedBy", manager, names.domain_prefixed_path(manager))
    mode = spec.get("completionMode")
    if mode is not None:
        if mode not in _COMPLETION_MODES:
            found.append(not_supported(f"{path}.completionMode", mode, _COMPLETION_MODES))
        elif mode == "Indexed" and "completions" not in spec:
            found.append(required(f"{path}.completions", f"when completion mode is {mode}"))
    if "podFailurePolicy" in spec:
        found += _failure_policy(spec, f"{path}.podFailurePolicy")
    if "successPolicy" in spec:
        found += _success_policy(spec, f"{path}.successPolicy")
    if "podReplacementPolicy" in spec:
        supported = ("Failed",) if "podFailurePolicy" in spec else ("Failed", "TerminatingOrFailed")
        found += one_of(f"{path}.podReplacementPolicy", spec["podReplacementPolicy"], supported)
    if not in_template:
        if "selector" not in spec:
            found.append(required(f"{path}.selector"))
        else:
            found += validate_label_selector(spec["selector"], f"{path}.selector")
    found += validate_template(spec["template"], f"{path}.template")
    policy = spec["template"]["spec"].get("restartPolicy", "")
    at = f"{path}.template.spec.restartPolicy"
    if policy not in ("OnFailure", "Never"):
        if policy == "Always":
            found.append(required(at, 'valid values: "OnFailure", "Never"'))
        else:
            found.append(not_supported(at, policy, ("OnFailure", "Never")))
    elif "podFailurePolicy" in spec and policy != "Never":
        detail = 'only "Never" is supported when podFailurePolicy is specified'
        found.append(invalid(at, policy, detail))
    return found


def _failure_policy(spec: Object, path: str) -> Findings:
    found: Findings = []
    containers = [
        container["name"]
        for field in ("containers", "initContainers")
        for container in spec["template"]["spec"].get(field) or ()
    ]
    for index, rule in enumerate(spec["podFailurePolicy"]["rules"] or ()):
        at, action = f"{path}.rules[{index}]", rule["action"]
        if not action:
            found.append(required(f"{at}.action", f"valid values: {', '.join(_FAILURE_ACTIONS)}"))
        elif action == "FailIndex" and "backoffLimitPerIndex" not in spec:
            detail = "requires the backoffLimitPerIndex to be set"
            found.append(invalid(f"{at}.action", action, detail))
        else:
            found += one_of(f"{at}.action", action, _FAILURE_ACTIONS)
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions", [])
        if codes is not None:
            found += _exit_codes(codes, containers, f"{at}.onExitCodes")
        for number, pattern in enumerate(conditions):
            where = f"{at}.onPodConditions[{number}]"
            found += invalid_all(f"{where}.type", pattern["type"], names.qualified_name(pattern["type"]))
            found += one_of(f"{where}.status", pattern["status"], ("False", "True", "Unknown"))
        if codes is not None and conditions:
            detail = "specifying both OnExitCodes and OnPodConditions is not supported"
            found.append(invalid(at, rule, detail))
        if codes is None and not conditions:
            detail = "specifying one of OnExitCodes and OnPodConditions is required"
            found.append(invalid(at, rule, detail))
    return found


def _exit_codes(codes: Object, containers: list[str], path: str) -> Findings:
    found: Findings = []
    operator, values = codes["operator"], codes["values"] or []
    if not operator:
        found.append(required(f"{path}.operator", "valid values: In, NotIn"))
    else:
        found += one_of(f"{path}.operator", operator, ("In", "NotIn"))
    container = codes.get("containerName")
    if container is not None and container not in containers:
        detail = "must be one of the container or initContainer names in the pod template"
        found.append(invalid(f"{path}.containerName", container, detail))
    if not values:
        found.append(invalid(f"{path}.values", values, "at least one value is required"))
    elif len(values) > 255:
        found.append(invalid(f"{path}.values", len(values), "must have at most 255 items"))
    for index, value in enumerate(values):
        if value in values[:index]:
            found.append(invalid(f"{path}.values[{index}]", value, "duplicate value"))
        if value == 0 and operator == "In":
            found.append(invalid(f"{path}.values[{index}]", value, "must not be 0 for the In operator"))
    if values != sorted(values):
        found.append(invalid(f"{path}.values", values, "must be ordered"))
    return found


def _success_policy(spec: Object, path: str) -> Findings:
    if spec.get("completionMode") != "Indexed":
        return [invalid(path, spec["successPolicy"], "requires indexed completion mode")]
    rules = spec["successPolicy"]["rules"] or []
    if not rules:
        return [
            required(
                f"{path}.rules", "at least one rules must be specified when the successPolicy is specified"
            )
        ]
    found: Findings = []
    for index, rule in enumerate(rules):
        at = f"{path}.rules[{index}]"
        if "succeededCount" not in rule and "succeededIndexes" not in rule:
            detail = "at least one of succeededCount or succeededIndexes must be specified"
            found.append(required(at, detail))
        if "succeededCount" in rule:
            found += non_negative(f"{at}.succeededCount", rule["succeededCount"])
    return found


def _job_change(new: Object, old: Object) -> Findings:
    spec, before = new["spec"], old["spec"]
    found: Findings = []
    if not (spec.get("completionMode") == "Indexed" and spec.get("completions") == spec.get("parallelism")):
        found += immutable("spec.completions", spec.get("completions"), before.get("completions"))
    for field in ("selector",):
        found += immutable(f"spec.{field}", spec.get(field), before.get(field))
    found += _template_change(spec["template"], old)
    for field in (
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ):
        found += immutable(f"spec.{field}", spec.get(field), before.get(field))
    return found


_SCHEDULING = ("nodeSelector", "affinity", "tolerations", "schedulingGates")


def _template_change(template: Object, old: Object) -> Findings:
    """Where the pods of a suspended job that never started may run can still change."""
    before = old["spec"]["template"]
    if template == before:
        return []
    if old["spec"].get("suspend") and not old.get("status", {}).get("startTime"):
        placed = {**template, "spec": dict(template["spec"]), "metadata": dict(template["metadata"])}
        for field in _SCHEDULING:
            if field in before["spec"]:
                placed["spec"][field] = before["spec"][field]
            else:
                placed["spec"].pop(field, None)
        for field in ("labels", "annotations"):
            if field in before["metadata"]:
                placed["metadata"][field] = before["metadata"][field]
            else:
                placed["metadata"].pop(field, None)
        if placed == before:
            return []
    return [invalid("spec.template", template, "field is immutable")]


def _job_status(new: Object, old: Object) -> Findings:
    status = new.get("status", {})
    found: Findings = []
    for field in ("active", "succeeded", "failed", "ready", "terminating"):
        if status.get(field) is not None:
            found += non_negative(f"status.{field}", status[field])
    true = [c["type"] for c in status.get("conditions", ()) if c["status"] == "True"]
    before = [c["type"] for c in old.get("status", {}).get("conditions", ()) if c["status"] == "True"]
    if "Complete" in true and not status.get("completionTime"):
        detail = "completionTime is required for Complete jobs"
        found.append(required("status.completionTime", detail))
    if status.get("completionTime") and "Complete" not in true:
        detail = "cannot set completionTime when there is no Complete=True condition"
        found.append(invalid("status.completionTime", status["completionTime"], detail))
    if "Complete" in true and "Failed" in true:
        detail = "cannot set Complete=True and Failed=true conditions"
        found.append(invalid("status.conditions", status["conditions"], detail))
    if "Complete" in true and "SuccessCriteriaMet" not in true and "Complete" not in before:
        detail = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"
        found.append(invalid("status.conditions", status["conditions"], detail))
    if "Failed" in true and "FailureTarget" not in true and "Failed" not in before:
        detail = "cannot set Failed=True condition without the FailureTarget=true condition"
        found.append(invalid("status.conditions", status["conditions"], detail))
    if ("Complete" in true or "Failed" in true) and status.get("active"):
        detail = "active>0 is invalid for finished job"
        found.append(invalid("status.active", status["active"], detail))
    return found


def _cron_job(cron_job: Object) -> Findings:
    spec = cron_job["spec"]
    found: Findings = []
    found += _schedule(spec)
    if "startingDeadlineSeconds" in spec:
        found += non_negative("spec.startingDeadlineSeconds", spec["startingDeadlineSeconds"])
    zone = spec.get("timeZone")
    if zone is not None:
        found += _time_zone(zone)
    policy = spec.get("concurrencyPolicy", "")
    found += one_of("spec.concurrencyPolicy", policy, ("Allow", "Forbid", "Replace"))
    for field in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        if field in spec:
            found += non_negative(f"spec.{field}", spec[field])
    template = spec["jobTemplate"]["spec"]
    if "selector" in template:
        detail = "`selector` will be auto-generated"
        found.append(invalid("spec.jobTemplate.spec.selector", template["selector"], detail))
    if template.get("manualSelector"):
        found.append(not_supported("spec.jobTemplate.spec.manualSelector", True, ("nil", "false")))
    found += validate_job_spec(template, "spec.jobTemplate.spec", in_template=True)
    name = cron_job["metadata"].get("name", "")
    if len(name) > _CRON_JOB_NAME_MAX:
        detail = f"must be no more than {_CRON_JOB_NAME_MAX} characters"
        found.append(invalid("metadata.name", name, detail))
    return found


def _schedule(spec: Object) -> Findings:
    schedule = spec["schedule"]
    if not schedule:
        return [required("spec.schedule")]
    if "TZ=" in schedule:
        detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        return [invalid("spec.schedule", schedule, detail)]
    problem = schedule_problem(schedule)
    return [invalid("spec.schedule", schedule, problem)] if problem else []


_FIELDS = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of month", 1, 31),
    ("month", 1, 12),
    ("day of week", 0, 6),
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DESCRIPTORS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")


def schedule_problem(schedule: str) -> str:
    """What is wrong with a schedule in the form of cron, empty when nothing is."""
    if schedule.startswith("@"):
        if schedule in _DESCRIPTORS:
            return ""
        every, _, duration = schedule.partition(" ")
        return "" if every == "@every" and duration else f"unrecognized descriptor: {schedule}"
    fields = schedule.split()
    if len(fields) != len(_FIELDS):
        return f"expected exactly 5 fields, found {len(fields)}: {fields}"
    for text, (name, low, high) in zip(fields, _FIELDS, strict=True):
        for part in text.split(","):
            problem = _part_problem(part, name, low, high)
            if problem:
                return problem
    return ""


def _part_problem(part: str, name: str, low: int, high: int) -> str:
    span, slash, step = part.partition("/")
    if slash and not (step.isdigit() and int(step) > 0):
        return f"step of range should be a positive number: {part}"
    if span in ("*", "?"):
        return ""
    numbers = []
    for text in span.split("-"):
        number = _cron_number(text, name)
        if number is None:
            return f"failed to parse int from {text}"
        numbers.append(number)
    if len(numbers) > 2:
        return f"too many hyphens: {part}"
    if numbers[0] < low:
        return f"beginning of range ({numbers[0]}) below minimum ({low}): {part}"
    if numbers[-1] > high:
        return f"end of range ({numbers[-1]}) above maximum ({high}): {part}"
    if numbers[0] > numbers[-1]:
        return f"beginning of range ({numbers[0]}) beyond end of range ({numbers[-1]}): {part}"
    return ""


def _cron_number(text: str, name: str) -> int | None:
    lower = text.lower()
    if name == "month" and lower in _MONTHS:
        return _MONTHS.index(lower) + 1
    if name == "day of week" and lower in _DAYS:
        return _DAYS.index(lower)
    return int(text) if text.isdigit() else None


def _time_zone(zone: str) -> Findings:
    if not zone:
        return [invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string")]
    if zone.lower() == "local":
        return [
            invalid(
                "spec.timeZone", zone, "timeZone must be an explicit time zone as defined in the tz database"
            )
        ]
    if zone not in TIME_ZONES:
        return [invalid("spec.timeZone", zone, f"unknown time zone {zone}")]
    return []


RULES: dict[str, Rules] = {
    "batch/v1 Job": Rules(create=_job, change=_job_change, change_last=True, status=_job_status),
    "batch/v1 CronJob": Rules(create=_cron_job),
}
