"""Server-side printing: objects as the Tables that `kubectl get` shows.

- `printing`: the Table of a list, an object, or a watch event
- `printer`: columns, and what the row functions share
- `ages`: durations for humans
- `pods`, `workloads`, `scaling`, `network`, `storage`, `cluster`, `control`: the rows of the built-in kinds
- `custom`: custom resources, whose definition says which columns they have
- `json_path`: the paths by which it says so
"""

from understudy.components.machinery.tables.ages import human_duration as human_duration
from understudy.components.machinery.tables.custom import custom_printer as custom_printer
from understudy.components.machinery.tables.printer import Column as Column
from understudy.components.machinery.tables.printer import Printer as Printer
from understudy.components.machinery.tables.printing import WatchTables as WatchTables
from understudy.components.machinery.tables.printing import check_include_object as check_include_object
from understudy.components.machinery.tables.printing import print_table as print_table
from understudy.components.machinery.tables.printing import printer_for as printer_for
from understudy.components.machinery.tables.printing import table as table
from understudy.components.machinery.tables.scaling import SCALE_PRINTER as SCALE_PRINTER
