"""Loads botocore's models of services, reduced to what their waiters need, and caches them.

A model is up to 10 MB of JSON. Decoding one holds the interpreter lock for up to seconds, in
whatever thread, so a worker process reads it and returns only the part that the service's waiters
name.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from anyio import CapacityLimiter, to_thread

from waitd.probes.aws.waiters import AwsService, ServiceEndpoint
from waitd.probes.cel.workers import run_in_worker


class _ServiceModel(NamedTuple):
    """A service's model as a worker returns it.

    `model` is None if `known` does not contain the service.
    """

    model: Mapping[str, Any] | None
    waiters: Mapping[str, Any]
    known: tuple[str, ...]


class AwsModels:
    """Services by name. Each is loaded once; there are fewer than 200."""

    def __init__(self, limiter: CapacityLimiter) -> None:
        """`limiter` bounds the worker processes."""
        self._limiter = limiter
        self._services: dict[str, AwsService] = {}
        self._endpoints: dict[tuple[str, str], ServiceEndpoint] = {}
        #: The names of the services that have waiters; empty before the first load.
        self.known: tuple[str, ...] = ()

    def cached(self, name: str) -> AwsService | None:
        """Returns the service if it is loaded."""
        return self._services.get(name)

    async def load(self, name: str) -> AwsService | None:
        """Returns the service; None if botocore has no waiters for a service of this name.

        Raises:
            anyio.BrokenWorkerProcess, MemoryError, OSError: it cannot be loaded now.
        """
        if name in self._services or (self.known and name not in self.known):
            return self._services.get(name)
        loaded = await run_in_worker(_load_model, name, limiter=self._limiter)
        self.known = loaded.known
        if loaded.model is not None and name not in self._services:
            self._services[name] = await to_thread.run_sync(AwsService, name, loaded.model, loaded.waiters)
        return self._services.get(name)

    async def endpoint(self, service: AwsService, region: str) -> ServiceEndpoint:
        """Returns AWS's own endpoint of a service in a region. Raises as `load`."""
        endpoint = self._endpoints.get((service.name, region))
        if endpoint is None:
            endpoint = self._endpoints[service.name, region] = await run_in_worker(
                _resolve_endpoint, service.name, service.endpoint_prefix, region, limiter=self._limiter
            )
        return endpoint


# The functions below run in a worker process.


def _load_model(name: str) -> _ServiceModel:
    from botocore.loaders import Loader  # noqa: PLC0415 - large, and only workers need it

    loader = Loader()
    known = tuple(loader.list_available_services("waiters-2"))
    if name not in known:
        return _ServiceModel(None, {}, known)
    waiters = loader.load_service_model(name, "waiters-2")["waiters"]
    full = loader.load_service_model(name, "service-2")
    operations = {each["operation"]: full["operations"][each["operation"]] for each in waiters.values()}
    shapes: dict[str, Any] = {}
    for operation in operations.values():
        _collect_shapes(operation, full["shapes"], shapes)
    model = {"metadata": full["metadata"], "operations": operations, "shapes": shapes}
    return _ServiceModel(_without_documentation(model), _without_documentation(waiters), known)


def _collect_shapes(part: Any, all_shapes: Mapping[str, Any], collected: dict[str, Any]) -> None:
    """Collects the shapes that a part of a model names, and those that they name in turn."""
    pending = [part]
    while pending:
        part = pending.pop()
        if isinstance(part, list):
            pending += part
        elif isinstance(part, Mapping):
            name = part.get("shape")
            if isinstance(name, str) and name in all_shapes and name not in collected:
                collected[name] = all_shapes[name]
                pending.append(all_shapes[name])
            pending += part.values()


def _without_documentation(part: Any) -> Any:
    """Copies a part of a model to plain dictionaries, which pickle, without its documentation."""
    if isinstance(part, Mapping):
        return {
            name: _without_documentation(value)
            for name, value in part.items()
            if not (name == "documentation" and isinstance(value, str))
        }
    return [_without_documentation(each) for each in part] if isinstance(part, list) else part


def _resolve_endpoint(name: str, prefix: str, region: str) -> ServiceEndpoint:
    from botocore.endpoint_provider import EndpointProvider  # noqa: PLC0415 - see `_load_model`
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    from botocore.loaders import Loader  # noqa: PLC0415

    loader = Loader()
    try:
        rules = loader.load_service_model(name, "endpoint-rule-set-1")
        provider = EndpointProvider(rules, loader.load_data("partitions"))
        resolved = provider.resolve_endpoint(Region=region, UseDualStack=False, UseFIPS=False)
    except BotoCoreError:  # these rules need more than a region; such services have the classic hosts
        suffix = ".cn" if region.startswith("cn-") else ""
        return ServiceEndpoint(f"https://{prefix}.{region}.amazonaws.com{suffix}")
    schemes = [each for each in resolved.properties.get("authSchemes", ()) if each.get("name") == "sigv4"]
    signing = schemes[0] if schemes else {}
    return ServiceEndpoint(resolved.url, signing.get("signingRegion"), signing.get("signingName"))
