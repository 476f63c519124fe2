"""Who serves a Service: the Endpoints and EndpointSlice controllers.

- `selection`: which pods a Service selects and what each contributes (pure)
- `subsets`: the Endpoints object (pure)
- `packing`: endpoints in EndpointSlices, changed as little as possible (pure); `slices`: a Service's pods,
  `mirroring`: hand-written Endpoints; `slice_writer` carries plans out
- `watching`: which Services a change concerns
- `endpoints_controller`, `slice_controller`, `mirroring_controller`: the actors
"""
