"""botocore's own models of waiters: found, cut down to what waiters need, and kept by service.

A service's model is up to 10 MB of JSON, and decoding one holds the interpreter for up to seconds, in whatever thread: so a worker process
reads it, and hands over what the service's waiters name of it. botocore is imported when the first wait needs it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from anyio import CapacityLimiter, to_thread

from waitd.probes.aws.waiters import AwsService, ServiceEndpoint
from waitd.probes.cel.workers import run_in_worker


class _Read(NamedTuple):
    """What a worker says of a service. `model` None: there is no such service among `known`."""

    model: Mapping[str, Any] | None
    waiters: Mapping[str, Any]
    known: tuple[str, ...]


class AwsModels:
    """Services by name. Every one is read once; there are fewer than 200 of them."""

    def __init__(self, limiter: CapacityLimiter) -> None:
        """`limiter` bounds the worker processes."""
        self._limiter = limiter
        self._services: dict[str, AwsService] = {}
        self._endpoints: dict[tuple[str, str], ServiceEndpoint] = {}
        #: The services that have waiters, once it is known.
        self.known: tuple[str, ...] = ()

    def cached_fresh(self, name: str) -> AwsService | None:
        """The service, if it has been read."""
        return self._services.get(name)

    async def service(self, name: str) -> AwsService | None:
        """The service; None where botocore has no waiters for one of that name.

        Raises:
            anyio.BrokenWorkerProcess, MemoryError, OSError: it could not be read now.
        """
        if name in self._services or (self.known and name not in self.known):
            return self._services.get(name)
        read: _Read = await run_in_worker(_read, name, limiter=self._limiter)
        self.known = read.known
        if read.model is not None and name not in self._services:
            self._services[name] = await to_thread.run_sync(AwsService, name, read.model, read.waiters)
        return self._services.get(name)

    async def endpoint(self, service: AwsService, region: str) -> ServiceEndpoint:
        """Where AWS's own endpoint of a service lies for a region. Raises as `service` does."""
        found = self._endpoints.get((service.name, region))
        if found is None:
            told = await run_in_worker(
                _endpoint, service.name, service.endpoint_prefix, region, limiter=self._limiter
            )
            found = self._endpoints[service.name, region] = ServiceEndpoint(*told)
        return found


# In a worker process.


def _read(name: str) -> _Read:
    from botocore.loaders import Loader  # noqa: PLC0415 - large, and only where it is needed

    loader = Loader()
    known = tuple(loader.list_available_services("waiters-2"))
    if name not in known:
        return _Read(None, {}, known)
    waiters = loader.load_service_model(name, "waiters-2")["waiters"]
    whole = loader.load_service_model(name, "service-2")
    operations = {each["operation"]: whole["operations"][each["operation"]] for each in waiters.values()}
    shapes: dict[str, Any] = {}
    for operation in operations.values():
        _collect(operation, whole["shapes"], shapes)
    model = {"metadata": whole["metadata"], "operations": operations, "shapes": shapes}
    return _Read(_plain(model), _plain(waiters), known)


def _collect(part: Any, all_shapes: Mapping[str, Any], found: dict[str, Any]) -> None:
    """Every shape that a part of a model names, and those that these name."""
    waiting = [part]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, Mapping):
            name = part.get("shape")
            if isinstance(name, str) and name in all_shapes and name not in found:
                found[name] = all_shapes[name]
                waiting.append(all_shapes[name])
            waiting += part.values()


def _plain(part: Any) -> Any:
    """A part of a model without its documentation, in plain dictionaries."""
    if isinstance(part, Mapping):
        return {
            name: _plain(value)
            for name, value in part.items()
            if not (name == "documentation" and isinstance(value, str))
        }
    return [_plain(each) for each in part] if isinstance(part, list) else part


def _endpoint(name: str, prefix: str, region: str) -> tuple[str, str | None, str | None]:
    """URL, and the region and name that requests are signed for where they are others than usual."""
    from botocore.endpoint_provider import EndpointProvider  # noqa: PLC0415 - see `_read`
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    from botocore.loaders import Loader  # noqa: PLC0415

    loader = Loader()
    try:
        rules = loader.load_service_model(name, "endpoint-rule-set-1")
        provider = EndpointProvider(rules, loader.load_data("partitions"))
        found = provider.resolve_endpoint(Region=region, UseDualStack=False, UseFIPS=False)
    except BotoCoreError:  # rules that ask for more than a region; these services are where all once were
        suffix = ".cn" if region.startswith("cn-") else ""
        return f"https://{prefix}.{region}.amazonaws.com{suffix}", None, None
    schemes = [each for each in found.properties.get("authSchemes", ()) if each.get("name") == "sigv4"]
    signing = schemes[0] if schemes else {}
    return found.url, signing.get("signingRegion"), signing.get("signingName")
