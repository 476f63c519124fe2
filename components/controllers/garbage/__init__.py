"""The garbage collector: objects follow their owners.

- `graph`: who owns whom, from what the watches show (pure)
- `controller`: deletes, orphans and unblocks, through the API
"""
