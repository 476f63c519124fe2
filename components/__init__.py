"""The Kubernetes troupe: one package a component, meeting only through the API server."""
