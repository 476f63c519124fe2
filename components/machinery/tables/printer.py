"""What a printer is: the columns of a kind and the function that makes one row of cells."""

from collections.abc import Callable
from typing import Any

from attrs import field, frozen

from understudy.components.machinery.tables.ages import age

Object = dict[str, Any]

NONE = "<none>"
UNSET = "<unset>"


@frozen
class Column:
    """One `TableColumnDefinition` of meta.k8s.io/v1."""

    name: str
    type: str = "string"
    """An OpenAPI type name: string, integer, number, boolean, date."""
    format: str = ""
    """An OpenAPI format; `name` marks the column that identifies the object."""
    priority: int = 0
    """0 is always shown, anything higher only by `kubectl get -o wide`."""
    description: str = ""

    @property
    def definition(self) -> Object:
        """The column as it is served."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


NAME = Column(
    "Name", format="name", description="Name of the object, unique among its kind within a namespace."
)
AGE = Column("Age", description="Time since the object was created.")
CREATED_AT = Column("Created At", type="date", description="When the object was created.")


def wide(name: str, description: str = "") -> Column:
    """A string column that only the wide output shows."""
    return Column(name, priority=1, description=description)


def integer(name: str, description: str = "") -> Column:
    """A column of whole numbers."""
    return Column(name, "integer", description=description)


def boolean(name: str, description: str = "") -> Column:
    """A column of truth values."""
    return Column(name, "boolean", description=description)


Row = Callable[[Object, int], list[Any]]
"""(object, now in microseconds since the epoch) -> the cells, JSON scalars."""


@frozen
class Printer:
    """How the objects of one resource become rows."""

    columns: tuple[Column, ...]
    row: Row
    conditions: Callable[[Object], list[Object]] | None = None
    """The row conditions of an object (pods that are over); absent for most kinds."""
    definitions: list[Object] = field(init=False, eq=False, repr=False)
    """The columns as they are served; one list for every Table, to be read only."""

    @definitions.default
    def _served(self) -> list[Object]:
        return [column.definition for column in self.columns]


def printer(row: Row, *columns: Column | str) -> Printer:
    """A printer whose plain string columns are given by name alone."""
    return Printer(tuple(Column(c) if isinstance(c, str) else c for c in columns), row)


def name_of(obj: Object) -> str:
    """`metadata.name`, empty for the nameless object of a bookmark."""
    name: str = obj["metadata"].get("name", "")
    return name


def age_of(obj: Object, now_us: int) -> str:
    """Time since the object's creation."""
    return age(obj["metadata"].get("creationTimestamp"), now_us)


def _created_at(obj: Object, now_us: int) -> list[Any]:
    created = obj["metadata"].get("creationTimestamp")
    return [name_of(obj), created or "0001-01-01T00:00:00Z"]


DEFAULT_PRINTER = printer(_created_at, NAME, CREATED_AT)
"""For kinds that have no columns of their own."""


def format_labels(labels: dict[str, str] | None) -> str:
    """A map of labels as `a=1,b=2`, in the order of the keys."""
    if not labels:
        return NONE
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels))


def selector_text(selector: Object | None) -> str:
    """A label selector (matchLabels and matchExpressions) in the form that a query takes.

    Requirements are sorted by key; one that selects everything or nothing is empty text.
    """
    if not selector:
        return ""
    requirements = [(key, f"{key}={value}") for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        key, values = expression["key"], ",".join(sorted(expression.get("values") or ()))
        match expression["operator"]:
            case "In":
                requirements.append((key, f"{key} in ({values})"))
            case "NotIn":
                requirements.append((key, f"{key} notin ({values})"))
            case "Exists":
                requirements.append((key, key))
            case "DoesNotExist":
                requirements.append((key, f"!{key}"))
            case operator:
                raise AssertionError(f"a stored label selector has the operator {operator!r}: {selector}")
    requirements.sort(key=lambda requirement: requirement[0])
    return ",".join(text for _, text in requirements)


def shorten(items: list[str], shown: int, total: int) -> str:
    """The first `shown` items, and how many more of `total` there are."""
    text = ",".join(items[:shown])
    return f"{text} + {total - shown} more..." if total > shown else text


def condition(obj: Object, kind: str) -> Object | None:
    """The first entry of `status.conditions` whose type is `kind`."""
    for entry in (obj.get("status") or {}).get("conditions") or ():
        if entry.get("type") == kind:
            found: Object = entry
            return found
    return None


def has_true_condition(obj: Object, kind: str) -> bool:
    """Whether the status says that condition `kind` holds."""
    entry = condition(obj, kind)
    return entry is not None and entry.get("status") == "True"
