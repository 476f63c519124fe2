"""The actor runtime: lifecycle, supervision, death watch, ask, timers, dispatch and worlds."""
