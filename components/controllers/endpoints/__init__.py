"""Who serves a Service: the Endpoints and EndpointSlice controllers.

- `selection`: which pods a Service selects and what each contributes (pure)
- `subsets`: the Endpoints object (pure)
- `slices`: the EndpointSlice objects, changed as little as possible (pure)
- `watching`: which Services a change concerns
- `endpoints_controller`, `slice_controller`: the actors
"""
